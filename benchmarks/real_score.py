"""What came of the real turns, as a scorer outside of the loop sees it: with every human label, also those never revealed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.rag_log import Served
from tasks.compare import paired
from tasks.live import registry, snapshot
from tasks.live.labels import agreement, audits, precisions
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.policy.reward import RewardModel, is_in
from tasks.records import Signal, read_jsonl
from tasks.signals.grounding import unsupported_words
from tasks.split import HOLDOUT

AUDIT = ("audit_holdout", "audit_open")


def score(
    workspace: Workspace, turns: Sequence[Any], verdicts: list[dict[str, Any]], served: Sequence[Served]
) -> dict[str, Any]:
    """The whole result; nothing in it depends on the clock or the machine."""
    lake = Lake(workspace.lake)
    truth = {s.native_id: s for s in served}
    interactions = lake.query(
        """SELECT i.interaction_id, i.native_id, question, response, contexts, messages, m.side, m.group_id,
                  coalesce(c.batch_id, '') AS batch_id, coalesce(part, '') AS part, a.value ->> 'verdict' AS verdict
           FROM interactions i JOIN members m USING (interaction_id) LEFT JOIN candidates c USING (interaction_id)
           LEFT JOIN annotations a USING (interaction_id) ORDER BY i.interaction_id"""
    ).to_pylist()
    rows = [r | {"served": truth[r["native_id"]]} for r in interactions]
    return {
        "turns": [_turn(t) for t in turns],
        "wall": _wall(rows),
        "batches": [_batch(workspace, rows, t.sent) for t in turns if t.sent],
        "detectors": _detectors(workspace, lake, rows),
        "ranking": _ranking(workspace, lake, rows),
        "verdicts": verdicts,
        "champion": registry.champion(workspace).version,
    }


def _turn(turn: Any) -> dict[str, Any]:
    return {
        "captured": turn.captured.as_dict(),
        "placed": turn.mined.placed,
        "signals": turn.mined.signals,
        "received": turn.received.as_dict(),
        "sent": turn.sent.parts if turn.sent else {},
        "snapshot": turn.retrained.snapshot if turn.retrained else "",
        "decision": turn.retrained.decision if turn.retrained else "",
        "promoted": turn.promoted.version if turn.promoted else "",
    }


def _wall(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sides: dict[str, set[str]] = {}
    for r in rows:
        sides.setdefault(r["served"].source.source_id, set()).add(r["side"])
    return {
        "interactions": dict(sorted(Counter(r["side"] for r in rows).items())),
        "sources": dict(sorted(Counter("+".join(sorted(s)) for s in sides.values()).items())),
        "groups": len({r["group_id"] for r in rows}),
        "sources_on_both_sides": sum(len(s) > 1 for s in sides.values()),
    }


def _batch(workspace: Workspace, rows: list[dict[str, Any]], sent: Any) -> dict[str, Any]:
    """Sent, answered and wrong by part; the loop's error rate beside the true one of the same window."""
    window = [r for r in rows if r["batch_id"] == sent.batch_id]
    parts = {}
    for part in sorted(sent.parts):
        inside = [r for r in window if r["part"] == part]
        answered = [r for r in inside if r["verdict"]]
        wrong = sum(r["verdict"] == "wrong" for r in answered)
        parts[part] = {"sent": len(inside), "answered": len(answered), "wrong": wrong}
    estimate = next(a.estimate for a in audits(workspace, agreement(workspace).labels) if a.batch_id == sent.batch_id)
    known = [r["served"].right for r in window if r["served"].right is not None]
    return {
        "batch_id": sent.batch_id,
        "window": len(window),
        "parts": parts,
        "mined_against_audit": _mined_against_audit(parts),
        "estimate": {k: _finite(v) for k, v in asdict(estimate).items()},
        "true_error_rate": round(1 - float(np.mean(known)), 4) if known else None,
    }


def _mined_against_audit(parts: dict[str, dict[str, int]]) -> dict[str, float | None]:
    """Errors per label of the mined part and of the random one of the same side, and Fisher's exact p for their difference."""
    mined, random = parts.get("mined", {}), parts.get("audit_open", {})
    if not mined.get("answered") or not random.get("answered"):
        return {"mined": None, "random": None, "p_value": None}
    counts = [[p["wrong"], p["answered"] - p["wrong"]] for p in (mined, random)]
    return {
        "mined": round(mined["wrong"] / mined["answered"], 4),
        "random": round(random["wrong"] / random["answered"], 4),
        "p_value": float(f"{stats.fisher_exact(counts).pvalue:.3g}"),
    }


def _detectors(workspace: Workspace, lake: Lake, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each detector on everything that people labelled, and what the loop believes of it from its audit alone."""
    labelled = {r["interaction_id"]: not r["served"].right for r in rows if r["served"].right is not None}
    believed = precisions(workspace, agreement(workspace).labels)
    fired: dict[str, dict[str, float]] = {}
    for s in lake.rows(Signal, "SELECT * FROM signals ORDER BY signal_id"):
        strongest = fired.setdefault(s.detector, {})
        strongest[s.interaction_id] = max(s.score, strongest.get(s.interaction_id, 0.0))
    found = []
    for detector, scores in sorted(fired.items()):
        hits = [labelled[i] for i in scores if i in labelled]
        found.append(
            {
                "detector": detector,
                "fired": len(scores),
                "labelled": len(hits),
                "precision": round(float(np.mean(hits)), 4) if hits else None,
                "recall": round(sum(hits) / sum(labelled.values()), 4),
                "loop_precision": believed[detector].precision,
                "loop_recall": believed[detector].recall,
            }
        )
    return found


def _ranking(workspace: Workspace, lake: Lake, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How well a score ranks wrong above right: on all that people labelled, by task; the reward model on held-out sources only."""
    labelled = [r for r in rows if r["served"].right is not None]
    newer = [r for r in rows if r["served"].suspected is not None]
    found = []
    for name, inside in (
        ("human labels", labelled),
        *((f"human labels, {t}", [r for r in labelled if r["served"].source.task == t]) for t in ("qa", "summary", "data2txt")),
        ("human labels, held out", [r for r in labelled if r["side"] == HOLDOUT]),
        ("LLM judge, 30 models, held out", [r for r in newer if r["side"] == HOLDOUT]),
    ):  # fmt: skip
        if inside:
            found.append(_ranked("ungrounded", name, inside, [_ungrounded(r) for r in inside]))
    champion = registry.champion(workspace).folder
    if is_in(champion):
        model = RewardModel.load(champion)
        for name, inside in (("human labels, held out", labelled), ("LLM judge, 30 models, held out", newer)):
            inside = [r for r in inside if r["side"] == HOLDOUT]
            if inside:
                good = model.goodness(
                    [orjson.loads(r["messages"]) for r in inside],
                    [orjson.loads(r["contexts"]) for r in inside],
                    [r["response"] for r in inside],
                )
                found.append(_ranked("low_reward", name, inside, (1 - good).tolist()))
    return found


def _ungrounded(row: dict[str, Any]) -> float:
    missing, words = unsupported_words(row["response"], row["contexts"])
    return len(missing) / len(words) if words else 0.0


def _ranked(detector: str, against: str, rows: list[dict[str, Any]], scores: Sequence[float]) -> dict[str, Any]:
    wrong = [r["served"].suspected if r["served"].right is None else not r["served"].right for r in rows]
    first = np.argsort(-np.asarray(scores), kind="stable")[: max(1, len(rows) // 10)]
    return {
        "score": detector,
        "against": against,
        "n": len(rows),
        "base_rate": round(float(np.mean(wrong)), 4),
        "average_precision": round(float(average_precision_score(wrong, scores)), 4),
        "precision_in_first_tenth": round(float(np.mean([wrong[k] for k in first])), 4),
        "auroc": round(float(roc_auc_score(wrong, scores)), 4),
    }


def judged(workspace: Workspace, retrained: Any) -> dict[str, Any]:
    """The newest verdict, and how often each way to pick is right on the very same held-out sources (before the next turn)."""
    document = snapshot.report(workspace, "verdict")
    built = snapshot.report(workspace, "build")
    return {
        "snapshot": retrained.snapshot,
        "version": retrained.version,
        "decision": document["decision"],
        "reasons": document["reasons"],
        "pairs": built["rows"]["train"]["preference"],
        "picks": _picks(workspace.data / "dataset"),
        "challenger_against_best_grounded": _against_best_grounded(workspace.data),
        "champion_right": document["champion_right"],
        "challenger_right": document["challenger_right"],
        "primary": document["primary"],
        "guards": document["guards"],
    }


def _finite(value: float) -> float | None:
    return value if isinstance(value, int) or np.isfinite(value) else None


def _picks(dataset: Path) -> dict[str, Any]:
    """Share of right picks on the held-out sources: chance, the first, the shortest, the best grounded, and the oracle."""
    rows = _sealed(dataset)
    ways = {
        "first offered": lambda r: r["offered"][0]["right"],
        "chance": lambda r: np.mean([o["right"] for o in r["offered"]]),
        "shortest": lambda r: min(r["offered"], key=lambda o: len(o["text"]))["right"],
        "best grounded": _best_grounded,
        "oracle": lambda r: any(o["right"] for o in r["offered"]),
    }
    shares = {name: round(float(np.mean([way(r) for r in rows])), 4) for name, way in ways.items()}
    return {"sources": len(rows), "offered": round(float(np.mean([len(r["offered"]) for r in rows])), 2), **shares}


def _sealed(dataset: Path) -> list[dict[str, Any]]:
    shards = sorted((dataset / "jsonl" / "holdout" / "evaluation").glob("*.jsonl"))
    return [row for shard in shards for row in read_jsonl(shard)]


def _against_best_grounded(data: Path) -> dict[str, Any]:
    """Is the reward model better than its own strongest feature, which needs no label at all?"""
    rows = {r["example_id"]: r for r in _sealed(data / "dataset")}
    compared = [c for c in read_jsonl(data / "evaluation" / "rows.jsonl") if c["part"] == HOLDOUT]
    plain = [_best_grounded(rows[c["example_id"]]) for c in compared]
    return asdict(paired([c["challenger_right"] for c in compared], plain, [c["group_id"] for c in compared], 0.95))


def _best_grounded(row: dict[str, Any]) -> bool:
    return min(row["offered"], key=lambda o: _missing(o["text"], row["contexts"]))["right"]


def _missing(text: str, contexts: list) -> float:
    missing, words = unsupported_words(text, orjson.dumps(contexts).decode())
    return len(missing) / len(words) if words else 0.0
