"""One of several processes that train together, one a GPU: `llm.processes` of them, started by torch, led by accelerate.

    launch(dataset, folder, checkpoints, params, copies)      in the process that asked; returns what the first of them told
    python -m tasks.policy.llm.launched ORDER.json            in each of them (torch says to each which one it is)
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tasks.errors import Refused
from tasks.policy import Point, Trained
from tasks.policy.llm import LlmParams
from tasks.policy.llm.exact import accelerated
from tasks.records import canonical


def launch(dataset: Path, folder: Path, checkpoints: Path, params: LlmParams, copies: int) -> Trained:
    """Raises Refused with the reason that one of them gave, or where one died without a word."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    order, told = checkpoints / "order.json", checkpoints / "told.json"
    told.unlink(missing_ok=True)
    paths = {"dataset": str(dataset), "folder": str(folder), "checkpoints": str(checkpoints), "told": str(told)}
    order.write_bytes(canonical(paths | {"params": asdict(params), "copies": copies}))
    many = ["--standalone", "--nproc_per_node", str(params.processes)]
    command = [sys.executable, "-m", "torch.distributed.run", *many, "--module", "tasks.policy.llm.launched", str(order)]
    ended = subprocess.run(command, check=False)
    answer = json.loads(told.read_bytes()) if told.is_file() else {}
    for note in (order, told):
        note.unlink(missing_ok=True)
    if "refused" in answer:
        raise Refused(*answer["refused"])
    if ended.returncode or "summary" not in answer:
        raise Refused(
            f"the training in {params.processes} processes ended with {ended.returncode}; what they said stands above",
            "the same command goes on from the last checkpoint",
        )
    return Trained(answer["summary"], [Point(**p) for p in answer["curves"]])


def main(argv: list[str]) -> int:
    from accelerate import PartialState

    from tasks.policy.llm import training

    order = json.loads(Path(argv[0]).read_bytes())
    params = LlmParams(**order["params"])
    first = PartialState(cpu=not accelerated()).is_main_process
    answer: dict[str, object] = {}
    try:
        trained = training.together(
            Path(order["dataset"]), Path(order["folder"]), Path(order["checkpoints"]), params, order["copies"], first
        )
        answer = {"summary": trained.summary, "curves": [asdict(p) for p in trained.curves]}
    except Refused as e:
        answer = {"refused": [e.why, e.what_to_do, e.exit_code]}
    if first or "refused" in answer:
        Path(order["told"]).write_bytes(canonical(answer))
    return 0 if "summary" in answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
