"""The verb that says where something comes from, and where it went: why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show

if TYPE_CHECKING:
    from tasks.live.lineage import Made, Origin, Used, Version, Why

TOLD = ("origin", "author", "weight", "copies", "guideline", "stage", "reason", "met")  # of a row, what it is besides its texts
TEXT = 160  # characters of a text that are shown


def why(
    id: Annotated[
        str, typer.Argument(help="A snapshot's tag, a model version or alias, a row (ex_…), an interaction (ix_… or its own id).")
    ],
    where_used: Annotated[
        bool, typer.Option("--where-used", help="Forward: of an interaction, annotation, annotator, user or raw segment[:line].")
    ] = False,
    tenant: Annotated[str, typer.Option(help="With --where-used and a user: of which tenant.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a model, a snapshot or a row comes from, down to the line of the log; or where a log line or a person's answer went.

    Examples: flywheel why champion
              flywheel why ex_5c0e7c5d8e1f2a3b4c5d6e7f
              flywheel why --where-used u-17 --tenant acme
    """
    from tasks.live import lineage

    place = find(workspace)
    if where_used:
        used = lineage.where_used(place, id, tenant)
        show(as_json, used, used_text(used))
    else:
        found = lineage.why(place, id)
        show(as_json, found, why_text(found))


def why_text(found: Why) -> str:
    lines = [f"{found.id} is {_article(found.kind)}"]
    if found.model:
        lines += _model(found.model)
    if found.snapshot:
        lines += _snapshot(found.snapshot)
    if found.row:
        row = found.row
        lines.append(f"  a row of {row.table} in {_listed(row.snapshots)}")
        lines.append(f"  file {row.file}")
        told = {k: row.values[k] for k in TOLD if row.values.get(k)}
        lines.append("  " + " · ".join(f"{k} {v}" for k, v in told.items()))
        lines += [f"  trained on it: {_version(v)}" for v in found.models]
    for origin in found.origins:
        lines += _origin(origin)
    if found.row and not found.origins:
        lines.append("  the interaction that it came from is not in the lake any more")
    return "\n".join(lines)


def used_text(used: Used) -> str:
    lines = [f"{used.id}: {used.kind}, {_count(len(used.interactions), 'interaction')}"]
    lines.append(f"  asked about in {_listed(used.batches) or 'no batch'}; {_count(used.annotations, 'annotation')}")
    for one in used.snapshots:
        lines.append(f"  {one.tag} holds")
        for table, rows in one.rows.items():
            named = _listed(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
            lines.append(f"    {len(rows):>6,} {table}: {named}")
        lines += [f"    trained on it: {_version(v)}" for v in one.models]
        lines += [f"    exported to {path}" for path in one.exports]
    if not used.snapshots:
        lines.append("  in no snapshot")
    lines += [f"  could not be read, because its object is gone: {path}" for path in used.unreadable[:5]]
    return "\n".join(lines)


def _model(model: Version) -> list[str]:
    lines = [f"  {_version(model)}"]
    if model.erased:
        lines.append(f"  it was trained on what was erased on {model.erased}: retrain (flywheel retrain --force)")
    return lines


def _snapshot(made: Made) -> list[str]:
    lines = [
        f"  {made.tag}, commit {made.commit[:12]} of {_moment(made.time * 1_000_000)}",
        f"  verdict: {made.decision}; {'; '.join(made.reasons)}",
    ]
    for table, n in made.rows.items():
        lines.append(f"    {n:>6,} {table}: {_listed(made.samples[table])}{', …' if n > len(made.samples[table]) else ''}")
    lines += [f"  trained on it: {_version(v)}" for v in made.models]
    lines += [f"  erased: {line}" for line in made.erased.splitlines() if line]
    return lines


def _origin(origin: Origin) -> list[str]:
    i = origin.interaction
    who = f"user {i.user}" if i.user else "an unknown user"
    lines = [
        f"  from interaction {i.interaction_id} ({i.dialect} {i.native_id}) of {who}{f', tenant {i.tenant}' if i.tenant else ''},"
        f" session {i.session_id}, {_moment(i.ts)}",
        f"    asked     {_short(i.question)}",
        f"    answered  {_short(i.response)}{f'  by model {i.model_version}' if i.model_version else ''}",
    ]
    for b in origin.batches:
        lines.append(f"    sent in {b['batch_id']} as {b['part']}, drawn with chance {b['propensity']:.3g}")
    for a in origin.annotations:
        note = f" ({_short(a.note)})" if a.note else ""
        said = a.value if a.status == "submitted" else a.status
        lines.append(f"    {_moment(a.ts)} {a.annotator} ({a.role}) on {a.kind} under {a.guideline}: {_short(said)}{note}")
    for f in origin.feedback:
        lines.append(f"    {_moment(f['ts'])} {f['user'] or 'somebody'}: {f['name']} {f['value']} {_short(f['comment'])}".rstrip())
    if origin.place:
        p = origin.place
        lines.append(f"    logged in {p.source}; {p.file}, record {p.line}: {p.length} bytes from byte {p.offset}, unpacked")
        lines.append(f"    zstdcat {p.file} | sed -n {p.line + 1}p")
    else:
        lines.append("    its raw segment is not there any more")
    return lines


def _version(v: Version) -> str:
    named = f" ({', '.join(v.aliases)})" if v.aliases else ""
    erased = f", trained on what was erased on {v.erased}" if v.erased else ""
    return f"version {v.version}{named} of {v.snapshot}: {v.decision}{erased}"


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT else flat[: TEXT - 1] + "…"


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
