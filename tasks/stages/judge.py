"""judge: the evaluation's rows -> data/reports/verdict.json. Fails closed: what is missing or does not match refuses."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.params import load
from tasks.records import canonical, digest, read_jsonl
from tasks.stages import PARAMS, run
from tasks.verdict import REFUSE, Compared, JudgeParams, decide


def judge(rows: Path, evaluation: Path, validation: Path, report: Path) -> None:
    """Write the verdict. A changed threshold re-runs this stage alone."""
    params = load(PARAMS, "judge", JudgeParams)
    document = _decided(rows / "rows.jsonl", next(read_jsonl(evaluation)), next(read_jsonl(validation)), params)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(document) + b"\n")


def _decided(rows: Path, summary: dict[str, Any], validation: dict[str, Any], params: JudgeParams) -> dict[str, Any]:
    # Indexed, never defaulted: a key that is not there is a crash of this stage, and a crash promotes nothing.
    verdict: dict[str, Any] = {
        "champion": summary["champion_digest"],
        "challenger": summary["challenger_digest"],
        "holdout": summary["holdout_digest"],
        "champion_right": summary["champion"]["right"],
        "challenger_right": summary["challenger"]["right"],
    }
    if validation["success"] is not True:
        return verdict | {"decision": REFUSE, "reasons": ["the data did not pass validation"]}
    if digest(rows.read_bytes()) != summary["rows_digest"]:
        return verdict | {"decision": REFUSE, "reasons": ["the evaluation's rows are not those it was summed from"]}
    return verdict | asdict(decide([Compared(**row) for row in read_jsonl(rows)], params))


def main(argv: list[str] | None = None) -> int:
    return run(judge, ("rows", "evaluation", "validation", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
