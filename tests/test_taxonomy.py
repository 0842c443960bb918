"""The taxonomy: clusters keep their identity whatever happens around them, and a state is claimed on evidence only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import orjson
import pytest

from tasks.fates import BORN, FIXED, GROWING, REGRESSED, SHRINKING, STEADY, TaxonomyParams, alarms
from tasks.records import Cluster
from tasks.taxonomy import Failure, Taxonomy, taxonomy

PARAMS = TaxonomyParams(suspicion=0.5, alike=0.14, min_size=5, alpha=0.01, least_change=1.25)
KINDS = {
    "battery": (
        "the battery of my bike is flat",
        "battery dead after one hour",
        "my bike battery does not charge",
        "battery empty again",
    ),
    "invoice": (
        "the invoice shows the wrong amount",
        "why is my invoice so high",
        "wrong fee on the invoice",
        "invoice counted twice",
    ),
    "password": (
        "I cannot reset my password",
        "the password link does not work",
        "password forgotten and no mail",
        "login refuses my password",
    ),
    "puncture": (
        "the front tyre has a puncture",
        "puncture in the rear tyre",
        "tyre punctured on my way home",
        "flat tyre, puncture I think",
    ),
    "insurance": (
        "is theft insured",
        "what does the insurance pay for theft",
        "insurance after theft",
        "does insurance cover a stolen one",
    ),
}
BEFORE = ("", "hello, ", "please help: ", "hi there ", "once more: ", "URGENT ")
AFTER = ("", "?", "!!", " since yesterday", " what now", " thanks", " and nobody answers")
ODD = (
    "jazz",
    "marble",
    "lighthouse",
    "quorum",
    "velvet",
    "syrup",
    "turnip",
    "glacier",
    "nimbus",
    "walnut",
    "zebra",
    "oboe",
)
OTHERS = ("where is my refund", "how do I pause my plan", "can I move my appointment to monday", "do you sell helmets",
          "the app shows an error", "which sizes are there", "where is the next station", "how much is a month",
          "my address has changed", "can a friend ride along", "is there a discount for students")  # fmt: skip
# All traffic: of every kind there are questions that were answered well, and many that are of none.
ORDINARY = [
    b + t + a for t in (*OTHERS, *OTHERS, *(x for k in KINDS.values() for x in k)) for b in BEFORE for a in AFTER
]


class Play:
    """Turns of one workspace: keeps what the lake would keep."""

    def __init__(self, seed: int, window: int = 1500, params: TaxonomyParams = PARAMS):
        self.draw, self.window, self.params = random.Random(seed), window, params
        self.rows: list[Cluster] = []
        self.texts: dict[str, str] = {}
        self.kind_of: dict[str, str] = {}
        self.turn = 0

    def failures(self, counts: dict[str, int], odd: int = 15) -> list[Failure]:
        """So many of each kind, give or take what chance does in a window, and as many that are like nothing else."""
        made = []
        for kind, mean in counts.items():
            for _ in range(sum(self.draw.random() < mean / self.window for _ in range(self.window))):
                text = self.draw.choice(BEFORE) + self.draw.choice(KINDS[kind]) + self.draw.choice(AFTER)
                made.append((kind, text))
        made += [("odd", " ".join(self.draw.sample(ODD, 3))) for _ in range(odd)]
        self.draw.shuffle(made)
        found = [Failure(f"ix_{self.turn}_{k}", text) for k, (_, text) in enumerate(made)]
        for failure, (kind, _) in zip(found, made, strict=True):
            self.texts[failure.interaction_id], self.kind_of[failure.interaction_id] = failure.text, kind
        return found

    def known(self) -> list[Cluster]:
        return list({r.cluster_id: r for r in sorted(self.rows, key=lambda r: r.turn)}.values())

    def take(self, counts: dict[str, int], odd: int = 15) -> Taxonomy:
        self.turn += 1
        found = taxonomy(
            self.failures(counts, odd),
            self.window,
            self.turn,
            f"bt_{self.turn}",
            self.known(),
            self.texts,
            ORDINARY,
            self.params,
        )
        self.rows += found.rows
        return found

    def history(self, kind: str) -> dict[int, str]:
        """turn -> state of the one cluster of a kind."""
        ids = {r.cluster_id for r in self.rows if self.kind_of[r.example] == kind}
        assert len(ids) == 1, f"{kind} has the clusters {ids}"
        return {r.turn: r.state for r in self.rows if r.cluster_id in ids}


def shape(rows: Iterable[Cluster]) -> list[Cluster]:
    return sorted(rows, key=lambda r: r.cluster_turn_id)


AROUND = {"invoice": 40, "password": 25, "puncture": 30}


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_planted_in_turn_2_fixed_in_turn_3_and_back_in_turn_5_is_reported_exactly_so(seed: int):
    play = Play(seed)
    alarmed = {}
    for turn, planted in enumerate((0, 40, 0, 0, 40, 40), 1):
        alarmed[turn] = alarms(play.take({**AROUND, "battery": planted}).rows)
    assert play.history("battery") == {2: BORN, 3: FIXED, 5: REGRESSED, 6: STEADY}
    assert {t: len(a) for t, a in alarmed.items() if a} == {5: 1}
    assert "batter" in alarmed[5][0] and "first seen in turn 2" in alarmed[5][0]
    last = next(r for r in play.rows if r.turn == 5 and r.state == REGRESSED)
    assert (last.first_seen, last.last_seen) == (2, 5)
    for kind in AROUND:
        assert set(play.history(kind)) == {1, 2, 3, 4, 5, 6}
        assert play.history(kind)[1] == BORN and FIXED not in play.history(kind).values()


def test_a_share_that_only_chance_moves_is_steady():
    states = Counter()
    for seed in range(3):
        play = Play(seed)
        for _ in range(5):
            states.update(r.state for r in play.take(AROUND, odd=0).rows)
    assert states[BORN] == 3 * len(AROUND)
    assert states[STEADY] >= 0.97 * (states.total() - states[BORN])


@pytest.mark.parametrize(("then", "state"), [(90, GROWING), (8, SHRINKING)])
def test_a_share_that_changes_is_told_once_and_is_the_new_normal(then: int, state: str):
    play = Play(1)
    for count in (40, 40, then, then):
        play.take({**AROUND, "battery": count})
    assert list(play.history("battery").values()) == [BORN, STEADY, state, STEADY]


def test_absence_from_a_small_window_is_no_cure_until_it_adds_up():
    play = Play(3, window=1500)
    play.take({**AROUND, "battery": 15})
    play.window = 100  # in which one of a hundred would be expected
    for _ in range(3):
        play.take({})
    assert FIXED not in play.history("battery").values()
    play.window = 1500
    play.take({})
    assert play.history("battery")[5] == FIXED


def test_the_order_in_which_failures_and_clusters_come_changes_nothing():
    play = Play(4)
    play.take(AROUND)
    play.turn = 2
    failures = play.failures({**AROUND, "battery": 30})
    one = taxonomy(failures, 1500, 2, "bt_2", play.known(), play.texts, ORDINARY, PARAMS)
    shuffled = random.Random(0).sample(failures, len(failures))
    other = taxonomy(
        shuffled, 1500, 2, "bt_2", play.known()[::-1], dict(reversed(play.texts.items())), ORDINARY[::-1], PARAMS
    )
    assert shape(one.rows) == shape(other.rows)
    assert one.cluster_of == other.cluster_of


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_is_the_same_whether_others_appear_vanish_or_grow(seed: int):
    play = Play(seed)
    play.take({"battery": 30, "invoice": 30})
    for around in ({"password": 60, "puncture": 40}, {}, {"insurance": 200, "invoice": 10}, {"password": 30}):
        play.take({"battery": 30, **around}, odd=play.draw.choice((0, 40)))
    assert list(play.history("battery")) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", range(2))
def test_failures_are_put_with_their_kind(seed: int):
    play = Play(seed)
    for _ in range(3):
        found = play.take({**AROUND, "battery": 30, "insurance": 20})
    of: dict[str, Counter[str]] = {}
    for interaction, cluster in found.cluster_of.items():
        of.setdefault(cluster, Counter())[play.kind_of[interaction]] += 1
    for mixed in of.values():
        assert mixed.most_common(1)[0][1] >= 0.95 * mixed.total()
    assert sum(c.total() for c in of.values()) >= 0.9 * 145


def test_a_name_is_made_of_words_that_its_failures_use_and_others_do_not():
    play = Play(5)
    named = {play.kind_of[r.example]: r.name for r in play.take({**AROUND, "battery": 30}).rows}
    for kind in ("battery", "invoice", "password", "puncture"):
        assert kind in named[kind]
        assert not any(other in named[kind] for other in named if other not in (kind, "odd"))


def test_a_row_says_what_its_share_rests_on():
    play = Play(6)
    found = play.take(AROUND)
    for row in found.rows:
        members = [i for i, c in found.cluster_of.items() if c == row.cluster_id]
        assert (row.count, row.window, row.share) == (len(members), 1500, round(len(members) / 1500, 9))
        assert row.example in members and set(orjson.loads(row.exemplars)) <= set(members)


def test_texts_without_words_and_turns_without_failures_are_no_clusters():
    nothing = taxonomy([Failure(f"ix_{k}", "?!") for k in range(20)], 100, 1, "bt_1", [], {}, ORDINARY, PARAMS)
    assert nothing.rows == [] and nothing.cluster_of == {}
    play = Play(7)
    play.take(AROUND)
    play.take({}, odd=0)
    assert {play.history(kind)[2] for kind in AROUND} == {FIXED}


def test_a_text_that_everybody_sends_alike_is_a_cluster_too():
    found = taxonomy([Failure(f"ix_{k}", "Battery flat") for k in range(9)], 100, 1, "bt_1", [], {}, ORDINARY, PARAMS)
    assert [(r.count, r.state) for r in found.rows] == [(9, BORN)]
