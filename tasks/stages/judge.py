"""judge: the evaluation's rows -> data/reports/verdict.json. Fails closed: what is missing or does not match refuses."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.errors import INVALID, Refused
from tasks.gate.looks import Look
from tasks.gate.soundness import read
from tasks.params import load
from tasks.records import canonical, digest, read_jsonl, read_records
from tasks.stages import PARAMS, run
from tasks.verdict import REFUSE, JudgeParams, decide


def judge(rows: Path, evaluation: Path, build: Path, validation: Path, looks: Path, report: Path) -> None:
    """Write the verdict. A changed threshold re-runs this stage alone. Raises Refused where a report lacks what it must hold: then
    there is no verdict, and without one nothing is promoted."""
    params = load(PARAMS, "judge", JudgeParams)
    reports = {path.stem: next(read_jsonl(path)) for path in (evaluation, build, validation)}
    try:
        document = _decided(rows / "rows.jsonl", reports, read_records(looks, Look), params)
    except KeyError as e:
        raise Refused(f"the report that judge reads has no {e}: nothing is judged", "dvc repro --force evaluate", INVALID) from None
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(document) + b"\n")


def _decided(rows: Path, reports: dict[str, Any], looks: list[Look], params: JudgeParams) -> dict[str, Any]:
    # Indexed, never defaulted: a key that is not there is no verdict.
    summary = reports["evaluation"]
    judged: dict[str, Any] = {
        "champion": summary["champion_digest"],
        "challenger": summary["challenger_digest"],
        "holdout": summary["holdout_digest"],
        "champion_right": summary["champion"]["right"],
        "challenger_right": summary["challenger"]["right"],
    }
    wrong = []
    if reports["validation"]["success"] is not True:
        wrong.append("the data did not pass validation")
    if reports["build"]["holdout_digest"] != summary["holdout_digest"]:
        wrong.append("the models were asked another holdout than the one that this dataset holds")
    if digest(rows.read_bytes()) != summary["rows_digest"]:
        wrong.append("the evaluation's rows are not those it was summed from")
    if wrong:
        return _refused(judged, wrong, looks)
    compared, faults = read(list(read_jsonl(rows)))
    if faults:
        return _refused(judged, faults, looks)
    verdict = asdict(decide(compared, params, looks))
    return judged | {name: value for name, value in verdict.items() if value is not None}


def _refused(judged: dict[str, Any], reasons: list[str], looks: list[Look]) -> dict[str, Any]:
    return judged | {"decision": REFUSE, "reasons": reasons, "notes": [], "look": len(looks) + 1, "tested": False}


def main(argv: list[str] | None = None) -> int:
    return run(judge, ("rows", "evaluation", "build", "validation", "looks", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
