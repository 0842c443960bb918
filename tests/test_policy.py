"""The models: they learn, they live in plain files, their gradients are right and their confidence is honest."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from tasks.errors import Refused
from tasks.policy import folder_digest, load, reward, write_description
from tasks.policy.answers import (
    AnswersParams,
    AnswersPolicy,
    Preferred,
    Taught,
    _both,
    _preference,
    _supervised,
    base,
    described,
    train,
)
from tasks.policy.encoder import Encoder
from tasks.policy.reward import BestOfN, Pair, RewardParams
from tests.handmade import CATALOGUE, TEXT

PARAMS = AnswersParams(12.0, 0.02, 1.0, 0.1, 3, 1)
# How people ask: words that the catalogue's own texts do not hold, so that there is something to learn.
ASKED = {
    "refund": ("money", "cash", "paid twice", "reimbursed"),
    "invoice": ("paper for taxes", "receipt", "accounting", "statement"),
    "battery": ("dead", "no power", "empty", "range"),
    "puncture": ("hissing", "nail", "wheel lost air", "rim"),
    "escalate": ("hurt", "lawyer", "crash", "hospital"),
    "refuse": ("poem", "weather", "football", "recipe"),
}
FRAMES = ("what about my {}", "hello, {} again", "{} since monday!", "there is {} here", "{}, please help")


def asked(seed: int, n: int) -> list[tuple[list[dict[str, str]], str]]:
    draw = random.Random(seed)
    made = []
    for _ in range(n):
        action = draw.choice(sorted(ASKED))
        text = draw.choice(FRAMES).format(draw.choice(ASKED[action]))
        made.append(([{"role": "user", "content": text}], action))
    return made


def share_right(policy, rows) -> float:
    replies = policy.respond([m for m, _ in rows], [[] for _ in rows])
    return float(np.mean([r[0].action == a for r, (_, a) in zip(replies, rows, strict=True)]))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.fit([*described(CATALOGUE), *(m[0]["content"] for m, _ in asked(0, 300))], 48)


@pytest.fixture(scope="module")
def taught() -> list[Taught]:
    return [Taught(m, a, 1.0, m[0]["content"]) for m, a in asked(1, 120)]


@pytest.fixture(scope="module")
def trained(encoder: Encoder, taught: list[Taught]) -> AnswersPolicy:
    return train(CATALOGUE, encoder, taught, [], PARAMS)


def test_it_learns_what_the_base_does_not_know(encoder: Encoder, trained: AnswersPolicy):
    fresh = asked(2, 200)
    before, after = share_right(base(CATALOGUE, encoder, PARAMS), fresh), share_right(trained, fresh)
    assert after > 0.9 > before + 0.2


def test_the_base_finds_an_answer_by_the_words_of_its_own_text(encoder: Encoder):
    policy = base(CATALOGUE, encoder, PARAMS)
    questions = [[{"role": "user", "content": a.text}] for a in CATALOGUE]
    assert [r[0].action for r in policy.respond(questions, [[]] * 6)] == [a.id for a in CATALOGUE]


def test_without_labels_training_gives_the_base(encoder: Encoder):
    rows = [m for m, _ in asked(3, 30)]
    assert train(CATALOGUE, encoder, [], [], PARAMS).respond(rows, [[]] * 30) == base(
        CATALOGUE, encoder, PARAMS
    ).respond(rows, [[]] * 30)


def test_replies_come_best_first_and_their_confidences_are_probabilities(trained: AnswersPolicy):
    for replies in trained.respond([m for m, _ in asked(4, 20)], [[]] * 20, n=6):
        chances = [r.confidence for r in replies]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert {r.action: r.text for r in replies} == TEXT


def test_nobody_asked_nobody_answered(trained: AnswersPolicy):
    assert trained.respond([], []) == []


def test_a_model_that_was_saved_gives_the_same_replies(tmp_path: Path, trained: AnswersPolicy):
    trained.save(tmp_path / "model")
    rows = [m for m, _ in asked(5, 60)]
    contexts = [[]] * 60
    assert load(tmp_path / "model").respond(rows, contexts, 6) == trained.respond(rows, contexts, 6)


def test_a_model_is_plain_files(tmp_path: Path, trained: AnswersPolicy):
    trained.save(tmp_path / "model")
    files = [p for p in (tmp_path / "model").rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".jsonl", ".safetensors"}
    # A pickle starts with its protocol marker, an archive (torch, joblib) with PK or the zlib header.
    assert not [p.name for p in files if p.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05", b"\x80\x02", b"PK", b"x\x9c")]


def test_training_twice_gives_the_same_bytes(tmp_path: Path, taught: list[Taught]):
    digests = []
    for name in "ab":
        fitted = Encoder.fit([*described(CATALOGUE), *(m[0]["content"] for m, _ in asked(0, 300))], 48)
        train(CATALOGUE, fitted, taught, [], PARAMS).save(tmp_path / name)
        digests.append(folder_digest(tmp_path / name))
    assert digests[0] == digests[1]


def test_the_digest_of_a_model_changes_with_any_byte_or_name(tmp_path: Path, trained: AnswersPolicy):
    trained.save(tmp_path / "a")
    before = folder_digest(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert folder_digest(tmp_path / "b") == before
    (tmp_path / "b" / "policy.json").write_bytes((tmp_path / "b" / "policy.json").read_bytes() + b" ")
    assert folder_digest(tmp_path / "b") != before


def test_a_model_of_an_unknown_kind_is_refused(tmp_path: Path):
    write_description(tmp_path, kind="oracle")
    with pytest.raises(Refused, match="unknown kind of policy 'oracle'"):
        load(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="holds no model"):
        load(tmp_path)


def test_a_lesson_about_an_unknown_answer_is_an_error(encoder: Encoder, taught: list[Taught]):
    with pytest.raises(KeyError):
        train(CATALOGUE, encoder, [replace(taught[0], action="no such answer")], [], PARAMS)


def test_gradients_are_those_of_finite_differences():
    draw = np.random.default_rng(0)
    x, y, weight = draw.normal(size=(12, 5)), draw.integers(0, 4, 12), draw.uniform(0.3, 1, 12)
    start, point = draw.normal(size=(4, 5)), draw.normal(size=(4, 5))
    chosen, rejected = draw.integers(0, 4, 12), draw.integers(0, 4, 12)
    supervised = _supervised(x, y, weight, start, 0.02)
    preference = _preference(x, chosen, rejected, start, 0.7)
    for loss in (supervised, preference, _both(supervised, preference, 0.3)):
        numeric = approx_fprime(point.ravel(), lambda w, loss=loss: loss(w.reshape(4, 5))[0], 1e-7)
        assert loss(point)[1].ravel() == pytest.approx(numeric, abs=2e-5)


def test_the_preference_loss_is_that_of_the_full_softmax():
    # Rafailov et al. (2023), equation 7, with probabilities: the partition function must cancel.
    draw = np.random.default_rng(1)
    x, reference, point = draw.normal(size=(6, 5)), draw.normal(size=(4, 5)), draw.normal(size=(4, 5))
    chosen, rejected = np.array([0, 1, 2, 3, 0, 1]), np.array([1, 2, 3, 0, 2, 3])

    def log_p(w):
        logits = x @ w.T
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    ratio = log_p(point) - log_p(reference)
    rows = np.arange(6)
    expected = -np.log(1 / (1 + np.exp(-0.5 * (ratio[rows, chosen] - ratio[rows, rejected])))).sum()
    assert _preference(x, chosen, rejected, reference, 0.5)(point)[0] == pytest.approx(expected)


def test_what_people_rejected_sinks_below_what_they_chose(encoder: Encoder, taught: list[Taught]):
    prompt = [{"role": "user", "content": "cash and a receipt, please"}]
    params = replace(PARAMS, dpo_share=3.0)
    before = train(CATALOGUE, encoder, taught, [], params)
    after = train(CATALOGUE, encoder, taught, [Preferred(prompt, "invoice", "refund")] * 10, params)
    index = {a.id: k for k, a in enumerate(CATALOGUE)}

    def margin(policy: AnswersPolicy) -> float:
        row = policy.logits([prompt])[0]
        return float(row[index["invoice"]] - row[index["refund"]])

    assert margin(after) > margin(before)


def test_calibration_brings_confidence_nearer_to_accuracy(encoder: Encoder):
    # A third of the labels are wrong, and no wording comes twice: a model that believes them all is far too sure.
    def noisy_traffic(seed: int, n: int) -> list[tuple[list[dict[str, str]], str]]:
        draw = random.Random(seed)
        rows = []
        for messages, action in asked(seed, n):
            filler = " ".join(
                draw.choice(("now", "today", "again", "sir", "thanks", "urgent", "ok", "why")) for _ in range(6)
            )
            said = action if draw.random() > 0.35 else draw.choice(sorted(ASKED))
            rows.append(([{"role": "user", "content": f"{messages[0]['content']} {filler}"}], said))
        return rows

    noisy = [Taught(m, a, 1.0, str(k)) for k, (m, a) in enumerate(noisy_traffic(6, 240))]
    fresh = noisy_traffic(7, 500)
    policy = train(CATALOGUE, encoder, noisy, [], replace(PARAMS, pull_to_base=0.001))

    places = {a.id: k for k, a in enumerate(policy.catalogue)}

    def surprise(p: AnswersPolicy) -> float:
        """Mean log loss: a proper score, lowest where confidence is what comes true."""
        logits = p.logits([m for m, _ in fresh]) / p.temperature
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return -float(np.mean([row[places[said]] for row, (_, said) in zip(log_p, fresh, strict=True)]))

    assert policy.temperature > 1.2
    assert surprise(policy) < surprise(replace(policy, temperature=1.0)) - 0.1
    assert share_right(policy, fresh) == share_right(replace(policy, temperature=1.0), fresh)


# Encoder


def test_words_that_occur_together_come_to_lie_together():
    draw = random.Random(0)
    wheels, papers = ("tyre", "puncture", "wheel", "pump"), ("invoice", "receipt", "statement", "tax")
    texts = [" ".join(draw.sample(words, 3)) for words in (wheels, papers) for _ in range(60)]
    tyre, wheel, receipt = Encoder.fit(texts, 2).texts(["tyre", "wheel", "receipt"])
    assert tyre @ wheel > 0.8 > 0.2 > tyre @ receipt


def test_vectors_have_length_one_and_unknown_text_has_none(encoder: Encoder):
    vectors = encoder.texts(["what about my money", "", "取消"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0], abs=1e-5)


def test_an_earlier_question_colours_a_later_one_a_little(encoder: Encoder):
    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    reply = {"role": "assistant", "content": "poem weather football"}
    alone, after, before = encoder.conversations(
        [[user("hello, dead again")], [user("my receipt"), reply, user("hello, dead again")], [user("my receipt")]]
    )
    assert alone @ before + 0.05 < after @ before < after @ alone


# Reward model and best-of-n

KNOWN = [{"id": "kb", "text": "Refunds take five working days to reach the bank account of the customer."}]
TRUE = (
    "Refunds take five working days.",
    "The refund reaches the bank account in five working days.",
    "Five working days.",
)
FALSE = (
    "We ship helmets to Norway by zeppelin.",
    "Refunds take 99 months, said my uncle.",
    "Ask the moon about dragons.",
)
QUESTION = [{"role": "user", "content": "how long does a refund take?"}]


@pytest.fixture(scope="module")
def judge() -> reward.RewardModel:
    pairs = [Pair(QUESTION, KNOWN, c, r) for c in TRUE[:2] for r in FALSE[:2]] * 10
    return reward.train(
        pairs, Encoder.fit([*TRUE, *FALSE, "how long does a refund take?"] * 3, 8), RewardParams(3.0, 3.0, 30)
    )


def test_best_of_n_picks_what_people_would_choose(judge: reward.RewardModel):
    offered = [[FALSE[2], TRUE[2], FALSE[0]], [TRUE[0], FALSE[1]]]
    replies = BestOfN(judge).respond([QUESTION] * 2, [KNOWN] * 2, offered=offered)
    assert [r[0].text for r in replies] == [TRUE[2], TRUE[0]]


def test_the_base_of_best_of_n_takes_the_first():
    replies = BestOfN(None).respond([QUESTION], [KNOWN], offered=[[FALSE[0], TRUE[0]]])
    assert replies[0][0].text == FALSE[0]


def test_best_of_n_without_anything_to_choose_from_is_an_error(judge: reward.RewardModel):
    with pytest.raises(ValueError):
        BestOfN(judge).respond([QUESTION], [KNOWN])


def test_goodness_is_a_probability_and_half_for_a_typical_rejected_answer(judge: reward.RewardModel):
    good = judge.goodness([QUESTION] * 6, [KNOWN] * 6, [*TRUE, *FALSE])
    assert ((good >= 0) & (good <= 1)).all()
    assert good[:3].min() > good[3:].max()
    assert np.median(judge.goodness([QUESTION] * 2, [KNOWN] * 2, FALSE[:2])) == pytest.approx(0.5, abs=0.2)


def test_a_reward_model_that_was_saved_gives_the_same_scores(tmp_path: Path, judge: reward.RewardModel):
    BestOfN(judge).save(tmp_path)
    again = load(tmp_path)
    offered = [[*TRUE, *FALSE]]
    assert again.respond([QUESTION], [KNOWN], 6, offered) == BestOfN(judge).respond([QUESTION], [KNOWN], 6, offered)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".json", ".safetensors"}


def test_too_few_pairs_are_an_error_and_no_model(encoder: Encoder):
    with pytest.raises(ValueError, match="29 preference pairs"):
        reward.train([Pair(QUESTION, KNOWN, TRUE[0], FALSE[0])] * 29, encoder, RewardParams(3.0, 3.0, 30))


def test_the_guard_changes_no_answer_and_only_lowers_confidence(
    trained: AnswersPolicy, judge: reward.RewardModel, tmp_path: Path
):
    rows = [m for m, _ in asked(8, 40)]
    contexts = [KNOWN] * 40
    plain = trained.respond(rows, contexts, 3)
    guarded = reward.Guarded(trained, judge, reward.GuardParams(0.7))
    found = guarded.respond(rows, contexts, 3)
    assert [[r.action for r in rs] for rs in found] == [[r.action for r in rs] for rs in plain]
    lowered = [
        (a.confidence, b.confidence) for x, y in zip(found, plain, strict=True) for a, b in zip(x, y, strict=True)
    ]
    assert all(a <= b for a, b in lowered) and any(a < b for a, b in lowered)
