"""A policy as MLflow loads it (`mlflow.pyfunc.load_model`): the same files, and this module instead of a pickle.

    model.predict([{"messages": [{"role": "user", "content": "when do I see my money?"}], "contexts": [], "n": 2}])
    -> [[{"action": "billing-refund-time", "text": "Refunds take …", "confidence": 0.81}, {…}]]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.policy import Policy, load


class Answering:
    """What MLflow calls `python_model`: rows in, candidates out, best first."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[list[dict[str, Any]]]:
        """One row per conversation: `messages`, and where there are any `contexts`, `offered` (texts to choose from) and `n`.

        `model_input` is a pandas frame (as MLflow makes of what a signature describes), a row or a list of rows; `params` may hold
        an `n` for all of them.
        """
        rows = list(_rows(model_input))
        many = [int(_given(row, "n") or (params or {}).get("n") or 1) for row in rows]
        offered = [_given(row, "offered") for row in rows]
        answered = self.policy.respond(
            [list(row["messages"]) for row in rows],
            [list(_given(row, "contexts") or ()) for row in rows],
            max(many, default=1),
            [list(texts or ()) for texts in offered] if any(texts is not None for texts in offered) else None,
        )
        return [[asdict(reply) for reply in replies[:n]] for replies, n in zip(answered, many, strict=True)]


def _load_pyfunc(path: str) -> Answering:
    """MLflow's own name for the way in; `path` is the model folder."""
    return Answering(load(Path(path)))


def _rows(model_input: Any) -> Iterable[Mapping[str, Any]]:
    if hasattr(model_input, "to_dict") and hasattr(model_input, "columns"):
        return model_input.to_dict(orient="records")
    return [model_input] if isinstance(model_input, Mapping) else model_input


def _given(row: Mapping[str, Any], name: str) -> Any:
    """What a row says under a name; None where it says nothing (pandas makes NaN of that)."""
    value = row.get(name)
    return None if isinstance(value, float) and value != value else value
