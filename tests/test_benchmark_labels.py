"""The label benchmark on a world made by hand: fair to every policy, and honest about what it cannot tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import labels
from benchmarks.labels import World, by_lot, main, measure, needed, peer, play

pytestmark = pytest.mark.slow

VERBS = ("refund", "cancel", "track", "change", "explain", "book", "move", "check")
THINGS = ("invoice", "order", "bike", "battery", "address", "visit", "plan", "card", "bell", "lamp")
FILLERS = ("please", "today", "quickly", "for me", "right now", "if you can", "again", "somehow", "at last", "kindly")


def texts() -> tuple[list[str], list[str]]:
    """Eighty classes of twenty texts each."""
    made = [
        (f"{a} {verb} the {thing} {b}", f"{verb}_{thing}")
        for verb in VERBS
        for thing in THINGS
        for a in FILLERS[:5]
        for b in FILLERS[6:]
    ]
    return [t for t, _ in made], [label for _, label in made]


def test_no_policy_sees_what_is_held_out_and_none_labels_a_text_twice():
    world = World.make(*texts(), seed=0, budget=20, size=200)
    assert not set(np.concatenate(world.traffic)) & set(world.held_out)
    for policy in labels.POLICIES.values():
        scores, errors, n = play(world, policy)
        assert n <= 5 * 20 and len(scores) == len(errors) == 5
        assert scores[-1] > scores[0]


def test_the_same_seed_gives_the_same_result():
    first, again = (play(World.make(*texts(), seed=1, budget=20, size=200), peer) for _ in range(2))
    assert first == again


def test_more_random_labels_reach_more():
    world = World.make(*texts(), seed=0, budget=20, size=400)
    (few, low), (many, high) = by_lot(world, 1), by_lot(world, 4)
    assert few < many and low < high


def test_what_random_picking_needs_is_read_off_its_curve_and_unknown_beyond_it():
    curve = [(100, 0.4), (200, 0.6), (300, 0.58), (400, 0.8)]
    assert needed(curve, 0.5) == pytest.approx(150)
    assert needed(curve, 0.7) == pytest.approx(350)
    assert needed(curve, 0.81) is None


def test_the_document_holds_every_policy_and_turn():
    found = measure(*texts(), seeds=1, budget=20, size=200)
    assert set(found["summary"]) == {"random", "peer", "flywheel"}
    for s in found["summary"].values():
        assert len(s["macro_accuracy"]) == 5 and s["random_needs"] > 0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("content", [None, "question,answer\na,b\n", "text,label\na,x\nb,x\n"])
def test_data_that_cannot_be_used_ends_with_2_and_says_how(tmp_path, capsys, content: str | None):
    path = tmp_path / "data.csv"
    if content is not None:
        path.write_text(content)
    assert main(["--data", str(path)]) == 2
    assert "data.csv" in capsys.readouterr().err
