"""How fast a language model learns here, and what it needs: tokens a CPU second and peak memory, each way against the plainest.

    python -m benchmarks.llm_throughput [--rows 512] [--json]

The demo's questions with their right answers, one epoch each, every way in a process of its own: SFT of all weights, with rows
packed, with LoRA, and DPO both ways; and SFT with the allocator left alone (tasks/policy/llm/exact.py, keep_memory). Seconds are of
the processor, so that what else runs does not count; the size is the demo's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo import tiny_llm
from demo.llm import TINY, Company, Labelled, _preferred, _supervised, _write

WAYS: dict[str, dict[str, Any]] = {
    "sft, all weights": {"methods": ["sft"]},
    "sft, all weights, packed": {"methods": ["sft"], "packing": True},
    "sft, LoRA": {"methods": ["sft"], "tuning": "lora"},
    "dpo, all weights": {"methods": ["dpo"]},
    "dpo, LoRA": {"methods": ["dpo"], "tuning": "lora"},
    "sft, all weights, allocator left alone": {"methods": ["sft"]},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """`tokens` are those of the rows, so that a way which pads less is faster and not smaller; `mib` is the peak over the start."""

    way: str
    tokens: int
    cpu_seconds: float
    mib: float

    @property
    def rate(self) -> float:
        return self.tokens / self.cpu_seconds


def benchmark(rows: int) -> list[Measured]:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        company = Company(place, 1)
        asked = company.week(1, rows)
        texts = list(company.texts.values())
        labels = [Labelled(a, texts[k % len(texts)], company.texts[a.true_action]) for k, a in enumerate(asked)]
        _write(place / "data", sft=_supervised(labels), preference=_preferred(labels))
        tiny_llm.base(place / "tiny", [a.text for a in asked] + texts, tiny_llm.Size(), 1)
        spawn = multiprocessing.get_context("spawn")
        measured = []
        for way, changes in WAYS.items():
            with spawn.Pool(1) as pool:
                measured.append(pool.apply(_measured, (place, way, changes)))
    return measured


def _measured(place: Path, way: str, changes: dict[str, Any]) -> Measured:
    from dataclasses import replace

    from demo.llm import PARAMS
    from tasks.params import load
    from tasks.policy.llm import LlmParams, exact, models, rows, trainers

    params = replace(load(PARAMS, "llm", LlmParams), **TINY, base=str(place / "tiny"))
    params = replace(params, sft_epochs=1.0, dpo_epochs=1.0, **changes)
    exact.quiet()
    if "alone" not in way:
        exact.keep_memory()
    (method,) = params.methods
    found = rows.read(place / "data", {"sft": "sft", "dpo": "preference"}[method])
    tokenizer = models.tokens(place / "tiny")
    start = trainers.Start(models.found(params.base, ""), models.Weights(), None)
    said = [[*r["prompt"], *r[name]] for r in found for name in ("completion", "chosen", "rejected") if name in r]
    tokens = sum(len(tokenizer.apply_chat_template(s, return_dict=True)["input_ids"]) for s in said)
    with exact.fixed(params.threads):
        trainer = trainers._MAKE[method](start, found, params, place / way.replace(" ", "-"), tokenizer)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measured(way, tokens, round(time.process_time() - began, 2), round((peak - before) / 1024, 1))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_throughput", description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    found = benchmark(arguments.rows)
    if arguments.json:
        print(json.dumps([asdict(m) | {"tokens_per_cpu_second": round(m.rate)} for m in found], indent=1))
        return
    print("| way | tokens | CPU s | tokens a CPU second | of the first | peak over the start, MiB |\n|---|---|---|---|---|---|")
    for m in found:
        ratio = f"{m.rate / found[0].rate:.2f}"
        print(f"| {m.way} | {m.tokens:,} | {m.cpu_seconds:.1f} | {m.rate:,.0f} | {ratio} | {m.mib:.0f} |")


if __name__ == "__main__":
    main()
