"""Which way an answer would move a model: the gradient of its log-probability, small enough to keep one for every row.

    directions(policy, [[{"role": "user", …}]], ["Refunds take five days."])  ->  (1, SKETCH) float32, each row of length 1

Two answers that point the same way help each other when one of them is trained on (TracIn, Pruthi et al. 2020). As LESS (Xia et
al. 2024) each gradient is divided by its length, since short answers have long ones, and projected to few dimensions in which inner
products stay about what they were (CountSketch, Charikar et al. 2002). Only the last layer is looked at, at the trained weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from tasks.policy import Messages
from tasks.policy.llm.exact import fixed
from tasks.policy.llm.policy import LlmPolicy, Turn

SKETCH = 8192
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def directions(policy: LlmPolicy, conversations: Sequence[Messages], answers: Sequence[str], seed: int = 0) -> np.ndarray:
    """(n, SKETCH): the direction of each answer after its conversation; zeros for an answer without tokens. Equal inputs give equal
    bytes on a processor. One pass forwards and one backwards through the model an answer."""
    found = np.zeros((len(answers), SKETCH), np.float32)
    weights = _last_layer(policy.model)
    drawn = torch.Generator().manual_seed(seed)
    total = sum(w.numel() for w in weights)
    places = torch.randint(SKETCH, (total,), generator=drawn)
    signs = torch.randint(2, (total,), generator=drawn, dtype=torch.int8).float() * 2 - 1
    before = [w.requires_grad for w in policy.model.parameters()]
    policy.model.requires_grad_(False)
    for w in weights:
        w.requires_grad_(True)
    try:
        with fixed(policy.described.threads):
            for k, (conversation, answer) in enumerate(zip(conversations, answers, strict=True)):
                said = policy.turn(conversation, answer)
                if not said.answer:
                    continue
                parts = torch.autograd.grad(_log_probability(policy.model, said), weights)
                gradient = torch.cat([g.flatten().float().cpu() for g in parts])
                sketch = torch.zeros(SKETCH).index_add_(0, places, signs * gradient)
                found[k] = (sketch / sketch.norm().clamp(min=1e-12)).numpy()
    finally:
        for w, needed in zip(policy.model.parameters(), before, strict=True):
            w.requires_grad_(needed)
    return found


def _last_layer(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The floating-point weights of the last block, adapters among them; all weights where blocks have other names."""
    named = [(name, w) for name, w in model.named_parameters() if w.is_floating_point()]
    numbers = [int(m[1]) for name, _ in named if (m := _LAYER.search(f".{name}"))]
    last = max(numbers, default=-1)
    return [w for name, w in named if (m := _LAYER.search(f".{name}")) and int(m[1]) == last] or [w for _, w in named]


def _log_probability(model: torch.nn.Module, said: Turn) -> torch.Tensor:
    """The mean log-probability of the answer's tokens."""
    ids = torch.tensor([said.prompt + said.answer], device=model.device)
    logits = model(input_ids=ids, logits_to_keep=len(said.answer) + 1).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, -len(said.answer) :, None]).mean()
