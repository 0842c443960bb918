"""Caps, doubles, noise, balance, audits and anchors: what is promised of the rows that stay, on any rows in any order."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planted_votes import NOON, row, table
from tasks.errors import Refused
from tasks.hygiene import REASONS, anchors, balance, noise, pairs
from tasks.hygiene.caps import Limit, cap, cap_votes
from tasks.hygiene.dedup import claims, dedup
from tasks.hygiene.params import DAY, HygieneParams
from tasks.params import load
from tests.handmade import SHARED
from tests.imports import ROOT

PARAMS = load(ROOT / "params.yaml", "hygiene", HygieneParams)
few_names = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), max_size=60)


# Caps ------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(few_names, st.integers(0, 6), st.floats(0.05, 1.0), st.integers(0, 6), st.randoms(use_true_random=False))
def test_caps_hold_and_choose_the_same_rows_in_any_order(rows, most: int, share: float, groups: int, chance):
    ids = [f"r{k}" for k in range(len(rows))]

    def kept(order: list[int]) -> dict[str, str]:
        actors, kinds = pa.array([rows[k][0] for k in order], pa.string()), pa.array([rows[k][1] for k in order], pa.string())
        limits = (Limit("actor_is_full", actors, most, share), Limit("group_is_full", kinds, groups))
        return dict(zip([ids[k] for k in order], cap(limits, [ids[k] for k in order], "key").reason.tolist(), strict=True))

    reasons = kept(list(range(len(rows))))
    stay = [rows[k] for k in range(len(rows)) if not reasons[ids[k]]]
    allowed = max(share, 1 / max(len({r[0] for r in stay}), 1))  # of those whom the other limits leave, each may have its part
    for count in Counter(r[0] for r in stay).values():
        assert (not most or count <= most) and (count <= max(1, allowed * len(stay) + 1e-9))
    assert not groups or all(c <= groups for c in Counter(r[1] for r in stay).values())
    assert bool(rows) == bool(stay)
    assert kept(chance.sample(range(len(rows)), len(rows))) == reasons


def test_the_surest_rows_stay():
    sure = np.array([0.2, 0.9, 0.5, 0.8])
    reason = cap([Limit("group_is_full", pa.array(["g"] * 4), 2)], list("abcd"), "key", sure).reason
    assert reason.tolist() == ["group_is_full", "", "group_is_full", ""]


def test_votes_of_nobody_and_of_new_actors_have_no_weight_and_a_claim_needs_several_people():
    rows = [
        row("unknown", "", "q", "Refunds take five days.", NOON, 60, 1),
        row("new", "n", "q", "Refunds take five days.", NOON, 1, 1),
        *[row(f"few{k}", f"f{k % 2}", f"q{k}", "The moon is made of cheese.", NOON + k, 60, 1) for k in range(6)],
        *[row(f"many{k}", f"m{k}", f"q{k}", "The office opens at nine in the morning.", NOON + k, 60, 1) for k in range(6)],
    ]  # fmt: skip
    votes = table(rows)
    said = claims(votes["response"], votes["polarity"].to_numpy(), PARAMS.near_duplicate)
    reason = cap_votes(votes, said, np.ones(len(votes), bool), replace(PARAMS, actor_share=1.0)).reason.tolist()
    assert reason[:2] == ["actor_is_unknown", "actor_is_new"]
    assert Counter(reason[2:8]) == {"claim_of_few": 5, "": 1} and reason[8:] == [""] * 6
    assert set(reason) <= {"", *REASONS}


def test_a_vote_that_the_screen_took_uses_up_no_place():
    votes = table([row(str(k), "u", f"q{k}", f"answer number {k} of many", NOON + k, 60, 1) for k in range(8)])
    usable = np.arange(8) >= 5
    capped = cap_votes(votes, np.arange(8), usable, replace(PARAMS, actor_rows=3))
    assert capped.reason.tolist() == [""] * 8


def test_a_day_a_tenant_and_an_answer_have_caps():
    votes = table(
        [row(str(k), f"u{k}", f"q{k}", f"r{k}", NOON + (k % 2) * DAY, 60, 1) | {"tenant": "ab"[k % 4 == 0]} for k in range(40)]
    )
    params = replace(PARAMS, day_rows=7, tenant_rows=0, claim_rows=0, actor_share=1.0)
    reason = cap_votes(votes, np.arange(40), np.ones(40, bool), params).reason
    assert Counter(reason.tolist()) == {"day_is_full": 26, "": 14}
    reason = cap_votes(votes, np.arange(40), np.ones(40, bool), replace(params, day_rows=0, tenant_share=0.6)).reason
    left = Counter(t for t, r in zip(votes["tenant"].to_pylist(), reason.tolist(), strict=True) if not r)
    assert max(left.values()) <= 0.6 * sum(left.values()) and left["b"] == 10
    reason = cap_votes(votes, np.zeros(40, np.int64), np.ones(40, bool), replace(PARAMS, actor_share=1.0)).reason
    assert Counter(reason.tolist()) == {"claim_is_full": 20, "": 20}


# Doubles ---------------------------------------------------------------------------------------------------------------------


def test_what_looks_the_same_is_one_row_that_knows_its_copies():
    plain = "please cancel my plan at the end of this month"
    texts = [
        plain,
        plain.replace("a", "а").replace("e", "е"),  # Cyrillic
        plain.replace("c", "c\u200b"),
        "\u202d" + plain.upper(),
        "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in plain),  # full width
        "when do I see my money?",
    ]
    found = dedup(texts, PARAMS.near_duplicate, copies=np.array([1, 2, 3, 4, 5, 6]))
    assert found.keeper.tolist() == [0, 0, 0, 0, 0, 5]
    assert found.copies.tolist() == [15, 0, 0, 0, 0, 6]
    assert found.kept.tolist() == [True, False, False, False, False, True]


def test_rows_with_different_right_answers_are_no_doubles():
    texts = ["please cancel my plan", "Please cancel my plan!", "please cancel my plan", "please, cancel my plan"]
    found = dedup(texts, PARAMS.near_duplicate, within=np.array(["cancel", "refund", "refund", "cancel"]))
    assert found.keeper.tolist() == [0, 1, 1, 0] and found.copies.tolist() == [2, 2, 0, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["cancel my plan now", "cancel my plan now!", "refund me", "flat tyre again", "Cancel my plan"]),
                max_size=20), st.randoms(use_true_random=False))  # fmt: skip
def test_copies_are_conserved_and_with_an_order_of_its_own_input_order_changes_nothing(texts: list[str], chance):
    ids = [f"{t}{k}" for k, t in enumerate(texts)]

    def keepers(places: list[int]) -> dict[str, str]:
        some = [texts[k] for k in places]
        order = np.array(sorted(range(len(places)), key=lambda k: ids[places[k]]), np.int64)
        found = dedup(some, 0.8, order=order)
        assert found.copies.sum() == len(texts) and (found.copies[~found.kept] == 0).all()
        return {ids[places[k]]: ids[places[int(j)]] for k, j in enumerate(found.keeper)}

    assert keepers(list(range(len(texts)))) == keepers(chance.sample(range(len(texts)), len(texts)))


# Balance ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(few_names, st.integers(1, 8), st.integers(0, 10), st.floats(1.0, 5.0), st.randoms(use_true_random=False))
def test_no_slice_falls_below_its_floor_and_none_that_is_small_is_touched(rows, floor, most, temperature, chance):
    params = replace(PARAMS, slice_floor=floor, slice_rows=most, temperature=temperature)
    ids = [f"r{k}" for k in range(len(rows))]

    def kept(order: list[int]) -> tuple[set[str], balance.Balanced]:
        columns = {c: pa.array([rows[k][j] for k in order], pa.string()) for j, c in enumerate(("topic", "language"))}
        found = balance.balance(columns, [ids[k] for k in order], params)
        return {ids[k] for k, stays in zip(order, found.kept.tolist(), strict=True) if stays}, found

    stay, found = kept(list(range(len(rows))))
    for line in found.slices:
        assert min(line.had, floor) <= line.kept <= line.had
        column = ("topic", "language").index(line.column)
        assert line.had == sum(r[column] == line.value for r in rows)
    again, _ = kept(chance.sample(range(len(rows)), len(rows)))
    assert again == stay


def test_a_slice_keeps_what_the_policy_says():
    topics = ["billing"] * 20_000 + ["bikes"] * 3_000 + ["bells"] * 90
    params = replace(PARAMS, slice_floor=200, temperature=2.0, slice_rows=0)
    found = balance.balance({"topic": pa.array(topics)}, [f"r{k}" for k in range(len(topics))], params)
    assert [(s.value, s.had, s.kept) for s in found.slices] == [
        ("billing", 20_000, 2_000), ("bikes", 3_000, 774), ("bells", 90, 90),
    ]  # fmt: skip
    all_of_it = replace(params, temperature=1.0)
    assert balance.balance({"topic": pa.array(topics)}, [f"r{k}" for k in range(len(topics))], all_of_it).kept.all()
    assert "size^(1/2)" in found.policy


def test_the_share_of_what_the_model_wrote_itself_is_known():
    assert balance.self_generated(["model", "person", "person", ""]) == {"model": 0.25, "nobody": 0.25, "person": 0.5}
    assert balance.self_generated([]) == {"model": 0.0}


# Noise -----------------------------------------------------------------------------------------------------------------------


def test_labels_that_contradict_alike_rows_are_flagged_and_hardly_any_other():
    draws = np.random.default_rng(1)
    words = {label: [f"{label}{k}" for k in range(12)] for label in ("refund", "battery", "puncture")}
    true = draws.choice(list(words), 600).tolist()
    texts = [" ".join(draws.choice(words[t], 5)) for t in true]
    labels = [("battery" if t == "refund" else "refund") if k < 30 else t for k, t in enumerate(true)]
    groups = [f"g{k}" for k in range(600)]
    found = noise.noise(texts, labels, groups, PARAMS)
    assert found.flagged[:30].mean() >= 0.75 and found.flagged[30:].mean() <= 0.02
    assert found.suggested[:30].tolist() == true[:30]
    order = draws.permutation(600).tolist()
    again = noise.noise([texts[k] for k in order], [labels[k] for k in order], [groups[k] for k in order], PARAMS)
    assert (again.flagged == found.flagged[order]).all() and (again.confidence == found.confidence[order]).all()


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_too_few_rows_say_nothing(rows: int):
    found = noise.noise(["x"] * rows, ["a", "b"] * (rows // 2) + ["a"] * (rows % 2), ["g"] * rows, PARAMS)
    assert not found.flagged.any() and found.judged == 0


def test_a_label_that_only_one_group_has_breaks_nothing():
    labels = ["a"] * 100 + ["b"] * 20
    found = noise.noise([f"word{k % 7}" for k in range(120)], labels, [f"g{k}" for k in range(100)] + ["one"] * 20, PARAMS)
    assert len(found.flagged) == 120


CLINC = SHARED / "data" / "clinc150" / "data__data_small.json.gz"


@pytest.mark.slow
@pytest.mark.skipif(not CLINC.exists(), reason="no real texts beside this checkout")
@pytest.mark.parametrize("cells", [noise.CELLS, 0])
def test_flipped_labels_of_real_questions_are_mostly_found(cells: int):
    rows = [r for part in ("train", "val", "test") for r in json.loads(gzip.decompress(CLINC.read_bytes()))[part]]
    draws = np.random.default_rng(1)
    names = sorted({label for _, label in rows})
    flip = draws.random(len(rows)) < 0.1
    labels = [str(draws.choice(names)) if f else label for (_, label), f in zip(rows, flip, strict=True)]
    flip = np.array([now != label for now, (_, label) in zip(labels, rows, strict=True)])
    found = noise.noise([t for t, _ in rows], labels, [f"g{k}" for k in range(len(rows))], PARAMS, cells)
    assert flip[found.flagged].mean() >= (0.85 if cells else 0.75)
    assert found.flagged[flip].mean() >= 0.5


# Pairs -----------------------------------------------------------------------------------------------------------------------


def audited(chosen: list[str], rejected: list[str], said: list[str] | None = None, **more) -> dict[str, pairs.Finding]:
    said = said or ["what is it?"] * len(chosen)
    columns = [pa.chunked_array([pa.array(c, pa.string())]) for c in (said, chosen, rejected)]
    found = pairs.audit(*columns, [f"p{k}" for k in range(len(chosen))], PARAMS, **more)
    return {f.name: f for f in found}


def test_pairs_without_a_bias_pass_and_empty_ones_too():
    draws = np.random.default_rng(1)
    texts = [[" ".join(["word"] * n) for n in draws.integers(5, 40, 400)] for _ in range(2)]
    assert {f.level for f in audited(*texts).values()} == {"ok"}
    assert {f.level for f in audited([], []).values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("longer", "a longer answer than that one", "a short one"),
        ("much_longer", "a very much longer answer than that one is", "a short one"),
        ("flatters", "Great question! It is nine.", "It is nine, as far as I can say."),
        ("apologises", "I'm so sorry, it is nine.", "It is nine, and has been always."),
        ("has_list", "It is:\n- nine\n- ten", "It is nine or ten, sir."),
        ("has_bold", "It is **nine**.", "It is nine, sir."),
        ("has_emoji", "It is nine 🎉", "It is nine, sir."),
        ("surface", "It is nine, and it always was.", "It is nine."),
    ],
)
def test_a_bias_of_the_pairs_is_a_warning_with_its_interval(name: str, good: str, bad: str):
    draws = np.random.default_rng(2)
    first = draws.random(200) < 0.85
    found = audited([good if f else bad for f in first], [bad if f else good for f in first])[name]
    assert found.level == "warning" and found.low <= found.share <= found.high and found.low > 0.6
    # As much the other way round is one as well.
    other = audited([bad if f else good for f in first], [good if f else bad for f in first])
    assert other[name].level == "warning" and (name == "surface" or other[name].high < 0.4)


def test_agreement_counts_as_sycophancy_where_the_user_claims_something():
    agree, deny = "You're right, it is ten.", "No, it opens at nine, not ten."
    said = ["I think it opens at ten, right?"] * 40 + ["when does it open?"] * 40
    found = audited([agree] * 80, [deny] * 80, said)
    assert found["agrees_with_claim"].pairs == 40 and found["agrees_with_claim"].level == "warning"
    assert found["agrees_at_once"].pairs == 80


def test_the_place_where_an_answer_was_shown_is_audited_where_it_is_known():
    first = np.array([1] * 45 + [0] * 5 + [-1] * 50)
    found = audited(["one"] * 100, ["two"] * 100, chosen_first=first)["shown_first"]
    assert found.pairs == 50 and found.share == 0.9 and found.level == "warning"


def test_few_pairs_prove_nothing():
    assert audited(["a longer one"] * 10, ["short"] * 10)["longer"].level == "ok"


# Anchors ---------------------------------------------------------------------------------------------------------------------


def anchor(k: int, **changes) -> dict:
    messages = [{"role": "user", "content": f"what is {k} + {k}?"}, {"role": "assistant", "content": str(2 * k)}]
    return {"id": f"a-{k}", "messages": messages, "source": "sums"} | changes


def anchor_file(folder: Path, *rows: object) -> Path:
    path = folder / "anchors.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def test_anchors_are_their_share_and_a_larger_dataset_takes_more_of_them_and_no_others(tmp_path: Path):
    found = anchors.read(anchor_file(tmp_path, *(anchor(k) for k in range(300))))
    few, many = (anchors.choose(found, rows, 0.05, "key") for rows in (950, 1900))
    assert len(few) == 50 and len(many) == 100
    assert {a.example_id for a in few} < {a.example_id for a in many}
    assert {(a.origin, a.author, a.weight, a.copies) for a in many} == {("anchor", "person", 1.0, 1)}
    assert json.loads(few[0].messages)[-1]["role"] == "assistant"
    assert {a.example_id for a in anchors.choose(found[::-1], 950, 0.05, "key")} == {a.example_id for a in few}
    assert len(anchors.choose(found, 10**6, 0.5, "key")) == 300 and anchors.choose(found, 1000, 0.0, "key") == []


def test_no_file_is_no_anchor(tmp_path: Path):
    assert anchors.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ({"id": "a"}, "exactly id, messages and source"),
        (anchor(1, id=""), "must be texts"),
        (anchor(1, messages=[]), "messages must be a list"),
        (anchor(1, messages=[{"role": "robot", "content": "hi"}]), "messages must be a list"),
        (anchor(1, messages=[{"role": "user", "content": "hi"}]), "end with the assistant"),
        (anchor(1, messages=[{"role": "assistant", "content": "hi"}]), "begin with the user"),
        (anchor(1, messages=[{"role": "user", "content": "a"}] * 2 + [{"role": "assistant", "content": "b"}]), "follow each other"),
        (anchor(1, messages=[{"role": "user", "content": " "}, {"role": "assistant", "content": "b"}]), "messages must be a list"),
        (anchor(0), "there already"),
    ],
)  # fmt: skip
def test_a_malformed_anchor_is_refused_with_its_line(tmp_path: Path, line: object, why: str):
    with pytest.raises(Refused) as refused:
        anchors.read(anchor_file(tmp_path, anchor(0), line))
    assert "anchors.jsonl:2: " in refused.value.why and why in refused.value.why
