"""The invariants: what holds of every workspace at rest, whatever it has lived through. Reads everything and changes nothing.

    invariants(place)  ->  [Finding("ok", "lost", "1,204 records of 12 raw segments = 1,201 stored + 2 duplicate + …"), …]

At rest: no flow runs. What a flow that died half-way left is a warning where the next turn takes it up or sweeps it, and a fault
where nobody would. `flywheel doctor --deep`, the tests of dying and the soak (benchmarks/soak.py) ask the same questions.
"""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa

from tasks.errors import BadRecord, Refused
from tasks.live import kept, rows, snapshot, store
from tasks.live.capture import rereading
from tasks.live.edge import reread
from tasks.live.erasure.lines import TOMBSTONE
from tasks.live.erasure.litter import UNFINISHED, litter
from tasks.live.erasure.needles import Needles, Unreadable, looks_into
from tasks.live.finding import FAULT, Finding, fault, warning, well
from tasks.live.handoff.answers import annotation
from tasks.live.handoff.receive import expected_answers
from tasks.live.intake import reject_of
from tasks.live.lake import OPEN, TABLES, Lake, key_of
from tasks.live.registry.sound import champion
from tasks.live.repository import git_locks
from tasks.live.segments import Segments
from tasks.live.workspace import MARK, Workspace
from tasks.records import content_id
from tasks.redact.text import personal

SHOWN = 3
REBUILD = "flywheel capture --rebuild makes the tables anew from the raw segments"
# Tables whose rows are about an interaction of the lake.
ABOUT = ("members", "signals", "candidates", "asks", "annotations")
# What the loop itself writes for others to read; logs, texts and tables that came from outside were redacted at the edge.
OUTPUTS = ("data/reports", "data/outbox", "data/CHANGELOG.md", ".flywheel/registry", ".flywheel/logs")
SECRETS = {"KEY", "JWT", "SECRET"}
PRIVATE = ("data/raw", "data/spool", "data/lake", "data/inbox", "data/answers", "data/outbox", "data/frozen")
CREDENTIALS = (".key", ".token", ".pem")
BLOCK = 1 << 20


def invariants(workspace: Workspace, looks: Iterable[str] = ()) -> list[Finding]:
    """Every invariant (or those of some `looks`), each at least once in the answer."""
    found: list[Finding] = []
    for name in looks or LOOKS:
        try:
            said = list(LOOKS[name](workspace))
        except Refused as e:  # what a look needs is missing or damaged: that is the finding
            said = [fault(name, e.why, e.what_to_do)]
        found += said or [well(name, "nothing is wrong")]
    return found


def broken(found: list[Finding]) -> list[Finding]:
    return [f for f in found if f.level == FAULT]


def records(workspace: Workspace) -> Iterator[Finding]:
    """Every record of the raw segments is in the lake once, or rejected, or waits; and nothing else is in the lake."""
    lake, segments, edge = Lake(workspace.lake), Segments(workspace.raw), rereading(workspace)
    seen: dict[str, list[pa.Table]] = {"interactions": [], "feedback": [], "parts": [], "rejects": []}
    count: Counter[str] = Counter()
    for segment, body in segments.all():  # reads and checks every digest
        read = reread(body, segment.origin, edge)
        flaws = [reject_of(segment, 0, n, BadRecord(*flaw)).reject_id for n, flaw in enumerate(segment.flaws)]
        nth: Counter[int] = Counter()
        bad = []
        for line, why in read.rejects:
            bad.append(reject_of(segment, line, nth[line], why).reject_id)
            nth[line] += 1
        for table in read.plain_interactions:
            seen["interactions"].append(_ids(table["interaction_id"], segment.name, table["raw_line"]))
        for table in read.plain_feedback:
            seen["feedback"].append(_ids(table["feedback_id"], segment.name, table["raw_line"]))
        for kind, placed, id in (
            ("interactions", read.interactions, rows.interaction_id), ("feedback", read.feedback, rows.feedback_id),
            ("parts", read.parts, rows.part_id)
        ):  # fmt: skip
            seen[kind].append(_ids([id(p.record) for p in placed], segment.name, [p.line for p in placed]))
        lines = [0] * len(flaws) + [line for line, _ in read.rejects]
        seen["rejects"].append(_ids(flaws + bad, segment.name, lines))
        count["attached"] += read.attached - len(read.parts)
    raw = {kind: pa.concat_tables([EMPTY, *tables]) for kind, tables in seen.items()}
    waiting = "SELECT interaction_id AS id FROM waiting"
    # A line that could not be read then and can be now is in the quarantine until it is replayed.
    held = "SELECT 1 FROM rejects r WHERE r.raw_segment = raw.segment AND r.raw_line = raw.line"
    for kind in ("interactions", "feedback", "parts", "rejects"):
        key = key_of(kind)
        there = f"SELECT {key} AS id FROM {kind}" + (f" UNION ALL {waiting}" if kind == "interactions" else "")
        excuse = "" if kind == "rejects" else f" AND NOT EXISTS ({held})"
        lost = lake.query(
            f"SELECT DISTINCT id, segment, line FROM raw WHERE id NOT IN ({there}){excuse} ORDER BY ALL", raw=raw[kind]
        ).to_pylist()
        if lost:
            places = ", ".join(f"{r['segment']}:{r['line']}" for r in lost[:SHOWN])
            yield fault("lost", f"{len(lost)} {kind} of raw segments are not in the lake: {places}", REBUILD)
        if kind != "rejects":  # those of answers have segments of their own, and those that were released stay
            more = lake.query(
                f"SELECT {key} AS id FROM {kind} WHERE {key} NOT IN (SELECT id FROM raw) ORDER BY 1", raw=raw[kind]
            )
            if len(more):
                few = _few(more["id"].to_pylist())
                yield fault("without raw", f"{len(more)} {kind} of the lake stand in no raw segment: {few}", REBUILD)
        count |= {kind: len(raw[kind]), f"distinct {kind}": len(raw[kind]["id"].unique())}
    yield from _account(lake, raw, count, len(segments.names))


def _account(lake: Lake, raw: dict[str, pa.Table], count: Counter[str], segments: int) -> Iterator[Finding]:
    """seen = stored + duplicate + rejected + attached + waiting, counted on both sides."""
    numbers = lake.query(
        f"""SELECT (SELECT count(*) FROM interactions SEMI JOIN raw ON raw.id = interaction_id)
                 + (SELECT count(*) FROM feedback SEMI JOIN said ON said.id = feedback_id) AS stored,
                   (SELECT count(*) FROM ({OPEN})) AS waiting,
                   (SELECT count(*) FROM waiting w WHERE replace(waiting_id, 'wt_', 'rj_') IN (SELECT reject_id FROM rejects)
                    AND interaction_id NOT IN (SELECT interaction_id FROM interactions)) AS given_up""",
        raw=raw["interactions"], said=raw["feedback"]
    ).to_pylist()[0]  # fmt: skip
    placed = count["interactions"] + count["feedback"]
    distinct = count["distinct interactions"] + count["distinct feedback"]
    seen = placed + count["rejects"] + count["parts"] + count["attached"]
    rejected = count["rejects"] + numbers["given_up"]
    said = (
        f"{seen:,} records of {segments:,} raw segments = {numbers['stored']:,} stored + {placed - distinct:,} duplicate"
        f" + {rejected:,} rejected + {count['parts'] + count['attached']:,} attached + {numbers['waiting']:,} waiting"
    )
    missing = distinct - numbers["stored"] - numbers["waiting"] - numbers["given_up"]
    if missing:
        yield warning("account", f"{said}, and {missing:,} in the quarantine", "flywheel quarantine replay")
    else:
        yield well("account", said)


def answers(workspace: Workspace) -> Iterator[Finding]:
    """Every line that people's tools delivered is an annotation or a reject; each annotation stands in such a line."""
    lake, segments = Lake(workspace.lake), Segments(workspace.raw / "answers")
    known = lake.query(
        "SELECT annotation_id AS id, batch_id, candidate_id, kind, annotator, received FROM annotations"
    ).to_pylist()
    ids = {r["id"] for r in known}
    # By what it is about, where its value can't be checked any more: a guideline or the list of people has changed since.
    about = {(r["batch_id"], r["candidate_id"], r["kind"], r["annotator"]) for r in known}
    rejects = set(lake.query("SELECT reject_id AS id FROM rejects")["id"].to_pylist())
    expected = expected_answers(workspace, lake) if segments.names else None
    lost, raw_ids, raw_about = [], set(), set()
    for segment, body in segments.all():
        for number, line in enumerate(body.split(b"\n"), 1):
            if not line.strip() or line == TOMBSTONE:
                continue
            try:
                id = annotation(line, segment.source, expected, segment.received).annotation_id
            except BadRecord:
                id = ""
            place = _place(line)
            raw_ids.add(id)
            raw_about.add(place)
            rejected = content_id("rj", segment.name, number, 0) in rejects
            if id not in ids and not rejected and (id or place not in about):
                lost.append(f"{segment.name}:{number}")
    if lost:
        fix = "put the lines of that segment (zstdcat) into a new file in data/answers, then flywheel receive"
        yield fault("lost", f"{len(lost)} answers are neither in the lake nor rejected: {_few(lost)}", fix)
    more = sorted(r["id"] for r in known if r["id"] not in raw_ids
                  and (r["batch_id"], r["candidate_id"], r["kind"], r["annotator"]) not in raw_about)  # fmt: skip
    if more:
        yield fault(
            "without raw",
            f"{len(more)} annotations stand in no delivery: {_few(more)}",
            "restore data/raw/answers from a backup",
        )


def doubled(workspace: Workspace) -> Iterator[Finding]:
    """No id stands twice in any table, and no row is about an interaction that the lake does not have."""
    lake = Lake(workspace.lake)
    for table in TABLES:
        key = key_of(table)
        twice = lake.query(f"SELECT {key} AS id FROM {table} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1")[
            "id"
        ].to_pylist()
        if twice:
            yield fault("doubled", f"{len(twice)} ids stand twice in {table}: {_few(twice)}", REBUILD)
    for table in ABOUT:
        alone = lake.query(
            f"SELECT {key_of(table)} AS id FROM {table} ANTI JOIN interactions USING (interaction_id) ORDER BY 1"
        )
        if len(alone):
            found = alone["id"].to_pylist()
            yield fault(
                "without raw", f"{len(found)} {table} are about no interaction of the lake: {_few(found)}", REBUILD
            )


def snapshots(workspace: Workspace) -> Iterator[Finding]:
    """What HEAD and each tag pin can be had, byte for byte, and each snapshot is the one that its tag says."""
    made = kept.snapshots(workspace)
    right: dict[str, bool | None] = {}
    erased = _erased(workspace)
    with kept.opened(workspace) as objects:
        head = kept.Tagged("HEAD", "HEAD", 0, "")
        for one in [*made, *([head] if _pins(workspace) else [])]:
            gone, bad = [], []
            try:
                pinned = objects.files(one.commit)
            except kept.Gone as e:
                yield fault("snapshot", f"{one.tag}: {e.why}", e.what_to_do)
                continue
            for path, md5 in pinned.items():
                if md5 not in right:
                    right[md5] = _is_right(objects, md5)
                if right[md5] is None and md5 not in erased:
                    gone.append(path)
                elif right[md5] is False:
                    bad.append(path)
            if gone:
                why = f"{one.tag}: {len(gone)} files are neither in the cache nor in a remote: {_few(gone)}"
                fix = f"dvc fetch --all-tags; else restore the remote from its backup, or git checkout {one.tag} && dvc repro"
                yield fault("snapshot", why, fix)
            if bad:
                why = f"{one.tag}: {len(bad)} files are not what their MD5 says: {_few(bad)}"
                fix = (
                    "delete the object of that MD5 in the folder that `dvc cache dir` names, then dvc fetch --all-tags"
                )
                yield fault("snapshot", why, fix)
    for one in made:
        digest = snapshot.digest_at(workspace, one.commit)
        if one.tag != snapshot.TAG + digest[:8]:
            why, fix = f"{one.tag} pins the data of {snapshot.TAG}{digest[:8]}", f"git tag --delete {one.tag}"
            yield fault("snapshot", why, fix)
        verdict, training = (_report(workspace, one.commit, name) for name in ("verdict", "training"))
        if training and verdict.get("challenger") != training.get("digest"):
            why, fix = (
                f"{one.tag}: its verdict is about another model than it trained",
                f"git checkout {one.tag} && dvc repro",
            )
            yield fault("snapshot", why, fix)
    owed = [t for t in store.pending(workspace) if t in {s.tag for s in made}]
    if owed:
        yield warning(
            "snapshot", f"the remote has not taken {', '.join(owed)} yet", "flywheel turn pushes it; or dvc push"
        )
    yield well("snapshot", f"{len(made)} snapshots, {len(right):,} files")


def orphans(workspace: Workspace) -> Iterator[Finding]:
    """Nothing is left of processes that died, but what the next run takes up or sweeps."""
    lake, root = Lake(workspace.lake), workspace.root
    for table in TABLES:
        half, unnamed = lake.litter(table)
        if half:
            why = f"{len(half)} files of {table} were never committed: {_few(half)}"
            yield warning("orphan", why, "the next run that writes there sweeps it")
        if unnamed:
            yield warning("orphan", f"{len(unnamed)} files of {table} are named by no version of it: {_few(unnamed)}",
                "the next run that writes there sweeps them, or the nightly vacuum; no row of the lake is in them")  # fmt: skip
    for path in [
        *litter(workspace),
        *(workspace.data / name for name in UNFINISHED if (workspace.data / name).exists()),
    ]:
        yield warning("orphan", f"{path.relative_to(root)} is half-written", f"rm -r {path.relative_to(root)}")
    for path in sorted((workspace.state / "models").glob(".new-*")):
        yield warning("orphan", f"{path.relative_to(root)} is half of a model", f"rm -r {path.relative_to(root)}")
    for path in sorted(workspace.spool.glob("*.open")):
        yield warning("orphan", f"{path.relative_to(root)} is open: a receiver writes it, or died",
            "flywheel listen (or serve) finishes what it left when it starts")  # fmt: skip
    for lock in git_locks(root):
        name = lock.relative_to(root)
        fix = f"the next snapshot removes it; or rm {name}, when no git process works in {root}"
        yield fault("orphan", f"{name} is there: a git process died, and git refuses to commit", fix)


def secrets(workspace: Workspace) -> Iterator[Finding]:
    """The workspace's key stands nowhere but in its file, and no credential in what the loop writes for others."""
    try:
        key = workspace.pseudonym_key().decode("ascii", "replace").strip()
    except Refused as e:
        yield fault("secret", e.why, e.what_to_do)
        return
    needle = Needles(texts=[key])
    looked = 0
    for path in _files(workspace.root):
        name = path.relative_to(workspace.root).as_posix()
        if path.suffix in CREDENTIALS:
            continue
        looked += 1
        try:
            if any(needle.any(block) for block in looks_into(path)):
                yield fault(
                    "secret",
                    f"{name} holds the pseudonym key",
                    f"delete or clean {name}; who has seen it can undo pseudonyms",
                )
        except (Unreadable, FileNotFoundError) as e:
            yield warning("secret", f"{name} could not be looked into: {e}", "flywheel retrain makes what lies in data/ anew")
        if name.startswith(OUTPUTS) and (kinds := set(personal(path.read_text("utf-8", "replace"))) & SECRETS):
            yield fault(
                "secret",
                f"{name} holds what looks like a credential ({', '.join(sorted(kinds))})",
                f"look at {name}; then flywheel erase",
            )
    yield well("secret", f"{looked:,} files")


def modes(workspace: Workspace) -> Iterator[Finding]:
    """What holds secrets and people's words is for the owner only."""
    shut = [workspace.state, *(workspace.root / name for name in PRIVATE)]
    keys = [
        p
        for p in (workspace.state.rglob("*") if workspace.state.is_dir() else ())
        if p.suffix in CREDENTIALS and p.is_file()
    ]
    for path in [*(p for p in shut if p.is_dir()), *keys]:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            name = path.relative_to(workspace.root)
            mode = "600" if path.is_file() else "700"
            yield fault("modes", f"{name} can be read by others on this machine", f"chmod {mode} {name}")


LOOKS: dict[str, Callable[[Workspace], Iterator[Finding]]] = {
    "lost": records, "answers": answers, "doubled": doubled, "snapshot": snapshots, "champion": champion, "orphan": orphans,
    "secret": secrets, "modes": modes,
}  # fmt: skip
OF_THE_LAKE = ("lost", "answers", "doubled", "orphan", "modes")
EMPTY = pa.table(
    {"id": pa.array([], pa.string()), "segment": pa.array([], pa.string()), "line": pa.array([], pa.int64())}
)


def _ids(ids: object, segment: str, lines: object) -> pa.Table:
    arrays = [
        x.combine_chunks() if isinstance(x, pa.ChunkedArray) else pa.array(x, t)
        for x, t in ((ids, pa.string()), (lines, pa.int64()))
    ]
    return pa.table(
        {"id": arrays[0], "segment": pa.array([segment] * len(arrays[0]), pa.string()), "line": arrays[1]}
    ).cast(EMPTY.schema)


def _place(line: bytes) -> tuple[str, ...]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ()
    return (
        tuple(str(row.get(k, "")) for k in ("batch_id", "candidate_id", "kind", "annotator"))
        if isinstance(row, dict)
        else ()
    )


def _is_right(objects: kept.Kept, md5: str) -> bool | None:
    """Whether an object has the bytes that its name says; None where it is nowhere."""
    path, digest = objects.path(md5), hashlib.md5(usedforsecurity=False)
    if path is None:
        try:
            digest.update(objects.read(md5))
        except kept.Gone:
            return None
    else:
        with path.open("rb") as f:
            while block := f.read(BLOCK):
                digest.update(block)
    return digest.hexdigest() == md5.removesuffix(kept.DIR)


def _erased(workspace: Workspace) -> set[str]:
    """The objects that went at a person's wish, as the reports of erasures name them."""
    reports = [orjson.loads(p.read_bytes()) for p in sorted((workspace.state / "erasures").glob("*.json"))]
    return {md5 for report in reports for files in report["files"].values() for md5 in files.values()}


def _pins(workspace: Workspace) -> bool:
    return snapshot.last(workspace) is not None


def _report(workspace: Workspace, commit: str, name: str) -> dict:
    try:
        return snapshot.report_at(workspace, commit, name)
    except Refused:
        return {}


def _files(root: Path) -> Iterator[Path]:
    """What the loop writes. The code is the project's; what DVC caches lies in data/ (the newest) or in the remote (all)."""
    for folder in (root / "data", root / MARK):
        yield from (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
