"""The sections of a dossier behind the gate: examples, data, model, people, hashes, history. Each tells whether it had a say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import orjson

from tasks.dossier import Case, Evidence
from tasks.dossier.figures import curve, interval
from tasks.dossier.stacked import stacked
from tasks.dossier.told import count, known, number, percent
from tasks.page import table, text

SHOWN = 12  # cases of a side with their texts
IDS = 40  # and without
CURVES = 8
MOST = 8  # counts of a line
LIMITS = (
    "It was judged on sealed prompts of this application's own traffic; on other questions nothing is known of it.",
    "Slices with few prompts can hide a loss: the gate names those that it tested.",
)
NOT_OURS = "Its weights lie with a provider: they can be asked, and can't be kept, compared or reproduced here."


def cases(part: Element, evidence: Evidence) -> bool:
    if not evidence.cases:
        return False
    for fixed, title in ((True, "Fixed: right now, wrong before"), (False, "Broken: wrong now, right before")):
        found = [c for c in evidence.cases if c.fixed is fixed]
        text(part, "h3", f"{title} ({len(found)} prompt{'s' * (len(found) != 1)})")
        if not evidence.with_texts:
            _ids(part, found)
            continue
        for c in found[:SHOWN]:
            _case(part, c)
        if len(found) > SHOWN:
            text(part, "p", f"and {len(found) - SHOWN:,} more", "soft")
    if not evidence.with_texts:
        text(part, "p", "Texts of users are not on this page; flywheel dossier --with-examples shows them.", "soft")
    return True


def _case(part: Element, c: Case) -> None:
    card = SubElement(part, "div", {"class": f"card case {'fixed' if c.fixed else 'broken'}"})
    text(card, "p", " · ".join(x for x in (c.example_id, c.part, c.kind, c.topic, c.language) if x), "soft")
    for name, said in (("asked", c.question), ("right", c.right), ("champion", c.champion), ("challenger", c.challenger)):
        if said:
            line = SubElement(card, "p")
            text(line, "b", f"{name}: ")
            text(line, "span", said)


def _ids(part: Element, found: Sequence[Case]) -> None:
    listed = SubElement(part, "div")
    for c in found[:IDS]:
        text(listed, "code", c.example_id, "id")
    if len(found) > IDS:
        text(listed, "span", f"and {len(found) - IDS:,} more", "soft more")


LEFT_OUT = (
    "The model was fitted again without each group: right answers on the sealed prompts with it, less those without it. Any rows"
    " help a little; 'beyond chance' is by how many standard deviations a group did more than random rows of that number."
)
UNITLESS = (
    "Read off the model's gradients, not fitted again: 'beyond chance' is by how many standard deviations the group's rows point"
    " more to the right answers of the sealed prompts than random rows of that number."
)


def helped(part: Element, evidence: Evidence) -> bool:
    effects = _effects(evidence.reports.get("attribution"))
    if not effects:
        return False
    text(part, "p", UNITLESS if evidence.reports["attribution"].get("method") == "gradients" else LEFT_OUT, "soft")
    reach = max([0.01, *(abs(v) for e in effects for v in (e.get("low"), e.get("high")) if known(v))])
    made = stacked(part, ["group", "of", "rows", "verdict", "beyond chance", "right answers", "interval", ""], [
        [str(e["group"]), str(e["by"]), count(e["rows"]), str(e["verdict"]), number(e["excess"], 1, True),
         number(e.get("effect"), 3, True),
         f"{number(e['low'], 3, True)} to {number(e['high'], 3, True)}" if known(e.get("low")) else "", ""]
        for e in effects
    ], {2, 4, 5, 6})  # fmt: skip
    for line, e in zip(made, effects, strict=True):
        numbers = [e.get(k) for k in ("effect", "low", "high")]
        if all(map(known, numbers)):
            interval(list(line)[-1], *numbers, reach)
    return True


def _effects(report: Any) -> list[Mapping[str, Any]]:
    """The groups of an attribution, the most helpful beyond chance first; none of a report of another shape."""
    return [e for e in report.get("rows", ()) if "verdict" in e] if isinstance(report, Mapping) else []


def data(part: Element, evidence: Evidence) -> bool:
    build, dataset = evidence.reports.get("build") or {}, evidence.reports.get("dataset") or {}
    about = evidence.params.get("about", {})
    facts = [("name", about.get("name")), ("what it is", about.get("description")), ("source", about.get("source")),
             ("licence", about.get("license")), ("contact", about.get("contact"))]  # fmt: skip
    _facts(part, ((k, v or "not stated (params.yaml: about)") for k, v in facts))
    _validation(part, evidence.reports.get("validation") or {})
    rows = build.get("rows", {})
    tables = sorted({t for of in rows.values() for t in of})
    if tables:
        text(part, "h3", "Rows by table")
        sides = list(rows)
        table(part, ["table", *sides], [[t, *(count(rows[s][t]) if t in rows[s] else "" for s in sides)] for t in tables],
              set(range(1, len(sides) + 1)))  # fmt: skip
    if dropped := build.get("dropped"):
        text(part, "h3", "What does not train, and why")
        table(part, ["reason", "rows"], [[k, count(v)] for k, v in _most(dropped)], {1})
    for name, title in (("origins", "How rows were made"), ("authors", "Who wrote what is taught")):
        if found := build.get(name):
            text(part, "h3", title)
            table(part, ["table", "rows"], [[k, _counted(of)] for k, of in sorted(found.items())])
    _slices(part, dataset)
    for alert in build.get("alerts") or ():
        text(part, "p", str(alert), "bad")
    return bool(build or dataset)


def _validation(part: Element, report: Mapping[str, Any]) -> None:
    if not report:
        text(part, "p", "There is no report of a validation.", "bad")
        return
    failed = [f for f in report.get("findings", ()) if not f.get("passed")]
    good = report.get("success") is True
    said = f"Validation {'passed' if good else 'failed'}: {count(report.get('checked'))} expectations, {len(failed)} not met."
    text(part, "p", said, "good" if good else "bad")
    if failed:
        listed = SubElement(part, "ul")
        for f in failed:
            text(listed, "li", f"{f.get('severity', '')}: {f.get('table', '')}: {f.get('why', '')}")


def _slices(part: Element, dataset: Mapping[str, Any]) -> None:
    found = [
        (p, s, of)
        for p in dataset.get("parts", ())
        for s, of in (p.get("counts") or {}).items()
        if s in ("topic", "language")
    ]
    if not found:
        return
    text(part, "h3", "Slices")
    rows = [
        [f"{p.get('side')}/{p.get('table')}", slice, _counted(of)]
        for p, slice, of in found
        if p.get("rows") and len(of) > 1
    ]
    stacked(part, ["table", "by", "rows"], rows)


def model(part: Element, evidence: Evidence) -> bool:
    training, about = evidence.reports.get("training") or {}, evidence.params.get("about", {})
    policy = training.get("policy") or evidence.params.get("train", {}).get("policy")
    intended = about.get("description") or "not stated (params.yaml: about.description)"
    _facts(part, [
        ("policy", _plain(policy)), ("base", _plain(training.get("base", "the catalogue's own words"))),
        ("digest", _plain(training.get("digest"))), ("intended use", intended),
    ])  # fmt: skip
    shown = {k: v for k, v in sorted(training.items()) if k not in ("policy", "base", "digest")}
    if shown:
        text(part, "h3", "Training")
        _facts(part, ((k.replace("_", " "), _plain(v)) for k, v in shown.items()))
    _curves(part, evidence.curves)
    used = {k: v for k, v in evidence.params.items() if k in _sections(str(policy))}
    if used:
        opened = SubElement(part, "details")
        text(opened, "summary", "Parameters")
        listed = SubElement(opened, "ul")
        for section, values in used.items():
            for key, value in values.items() if isinstance(values, Mapping) else ():
                text(listed, "li", f"{section}.{key}: {_plain(value)}")
    text(part, "h3", "Limits")
    listed = SubElement(part, "ul")
    for limit in (*LIMITS, *((NOT_OURS,) if training.get("reproducible") is False else ())):
        text(listed, "li", limit)
    return True


def _sections(policy: str) -> set[str]:
    own = {"answers", "reward", "guard", "encoder"} if policy in ("answers", "best_of_n") else {policy}
    return {"train", "judge", *own}


def _curves(part: Element, points: Sequence[tuple[int, str, float]]) -> None:
    by: dict[str, list[tuple[int, float]]] = {}
    for step, metric, value in points:
        by.setdefault(metric, []).append((step, value))
    if not by:
        return
    text(part, "h3", "Curves")
    grid = SubElement(part, "div", {"class": "curves"})
    for metric, found in list(by.items())[:CURVES]:
        box = SubElement(grid, "div")
        text(box, "p", f"{metric}: {number(found[0][1], 4)} to {number(found[-1][1], 4)} in {count(found[-1][0])} steps", "soft")
        curve(box, sorted(found), metric)


def people(part: Element, evidence: Evidence) -> bool:
    agreement = (evidence.reports.get("curate") or {}).get("alpha")
    if not evidence.reviewers and agreement is None:
        return False
    if agreement is not None:
        text(part, "p", f"Krippendorff's alpha of what people answered: {number(agreement, 3)}.")
    if evidence.reviewers:
        text(part, "p", "Annotators by pseudonym; agreeing are answers that say right or wrong as the label does.", "soft")
        rows = [
            [r.name, "expert" if r.expert else "", count(r.answers), f"{r.agreeing} of {r.labelled}",
             percent(r.agreeing / r.labelled) if r.labelled else ""]
            for r in evidence.reviewers
        ]  # fmt: skip
        stacked(part, ["annotator", "role", "answers", "agreeing", "share"], rows, {2, 3, 4})
    approved = [e for e in evidence.events if e.by]
    for e in approved:
        text(part, "p", f"{e.action} by {e.by} at {e.at}{f': {e.why}' if e.why else ''}")
    if not approved:
        text(part, "p", "Nobody is on record as having approved or declined it.", "soft")
    return True


def pinned(part: Element, evidence: Evidence) -> bool:
    verdict, evaluation = evidence.reports["verdict"], evidence.reports.get("evaluation") or {}
    digests = [
        ("snapshot", evidence.tag), ("digest of all it pins", evidence.digest), ("git commit", evidence.commit),
        ("holdout", verdict.get("holdout")), ("evaluation's rows", evaluation.get("rows_digest")),
        ("champion", verdict.get("champion")), ("challenger", verdict.get("challenger")),
    ]  # fmt: skip
    _facts(part, ((k, v) for k, v in digests if v))
    if evidence.pinned:
        text(part, "h3", "dvc.lock")
        stacked(part, ["stage", "path", "MD5"], [[p.stage, p.path, p.md5] for p in evidence.pinned])
    text(part, "p", f"git checkout {evidence.tag} && dvc pull && dvc repro   brings all of it back.", "soft")
    return True


def history(part: Element, evidence: Evidence) -> bool:
    if not evidence.history:
        return False
    rows = [[v.tag, v.made, v.decision, count(v.rows), percent(v.champion), percent(v.challenger)] for v in evidence.history]
    stacked(part, ["snapshot", "made", "decision", "supervised rows", "champion right", "challenger right"], rows, {3, 4, 5})
    return True


def _facts(part: Element, facts: Iterable[tuple[str, Any]]) -> None:
    listed = SubElement(part, "dl")
    for name, value in facts:
        text(listed, "dt", name)
        text(listed, "dd", str(value))


def _most(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(found.items(), key=lambda kv: (-kv[1] if known(kv[1]) else 0, str(kv[0])))


def _counted(of: Mapping[str, Any]) -> str:
    """The largest counts of some, and how many more there are."""
    most = _most(of)
    more = f", and {len(most) - MOST} more" if len(most) > MOST else ""
    return ", ".join(f"{k or 'none'} {count(v)}" for k, v in most[:MOST]) + more


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
