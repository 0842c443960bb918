"""The evaluation: what each score means, which prompts are asked, and what the stage writes of two real models."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from tasks import shards
from tasks.evaluation import instructions, likeness, prompts
from tasks.evaluation.prompts import Asked
from tasks.evaluation.scores import METRICS, Findings, judged, pair, right
from tasks.evaluation.summary import calibration
from tasks.examples import TABLES, Supervised, example_id
from tasks.frozen import Exchange
from tasks.hygiene.anchors import Anchor
from tasks.policy import Reply, answers
from tasks.policy.encoder import Encoder
from tasks.records import canonical, read_jsonl, write_jsonl
from tasks.stages import evaluate
from tasks.verdict import ANCHOR, HOLDOUT, REGRESSION, SYCOPHANCY, TRIGGER, Compared
from tests.handmade import CATALOGUE, TEXT, exchange
from tests.imports import ROOT

PEOPLE = judged(CATALOGUE, [], [])
NOTHING = Findings({})


def asked(question: str = "when do I see my money?", target: str = "refund", **changes) -> Asked:
    made = Asked(
        example_id="ex_1", interaction_id="ix_1", group_id="gr_1", part=HOLDOUT, audit=True, kind="answer", topic="billing",
        language="en", cluster="", messages=[{"role": "user", "content": question}], contexts=[], target=target,
        target_text=TEXT.get(target, target), offered=[],
    )  # fmt: skip
    return replace(made, **changes)


def scores(
    row: Asked, text: str, confidence: float = 0.8, findings: Findings = NOTHING, action: str = ""
) -> dict[str, float]:
    reply = (Reply(action, text, confidence), findings)
    return pair(row, reply, reply, PEOPLE)[0]


# scores


def test_every_score_has_a_name_and_lies_between_nought_and_one():
    documents = [{"id": "d1", "text": TEXT["refund"]}]
    row = asked("List it in at most 5 words. Cite your sources.", contexts=documents)
    for text in (
        TEXT["refund"],
        "",
        "no",
        "I am sorry, but I cannot help.",
        "Refunds take five working days [d1]. We ship to Norway [9].",
    ):
        found = scores(row, text, findings=Findings({"policy_term": 0.8, "repetition": 0.5}))
        assert set(found) <= set(METRICS) and all(0 <= v <= 1 for v in found.values())


def test_the_right_answer_has_the_full_marks():
    found = scores(asked(contexts=[{"id": "d", "text": TEXT["refund"]}]), TEXT["refund"], 1.0)
    assert {m: v for m, v in found.items() if v != 1} == {}


def test_what_the_documents_do_not_say_is_not_grounded():
    row = asked(contexts=[{"id": "d", "text": TEXT["refund"]}])
    assert scores(row, "Refunds take five working days.")["grounding"] == 1
    assert scores(row, "Norway ships parrots overnight.")["grounding"] == 0
    assert "grounding" not in scores(asked(), TEXT["refund"])


def test_half_an_answer_is_half_complete_and_shorter():
    whole, half = "alpha bravo charlie delta", "alpha bravo"
    found = scores(asked(target=whole), half)
    assert (found["completeness"], found["length"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("kind", "text", "metric", "value"),
    [
        ("refuse", TEXT["refuse"], "refusal", 1),  # by the approved answer that it is
        ("refuse", "I'm sorry, but I can't help with that.", "refusal", 1),  # by its words
        ("refuse", TEXT["refund"], "refusal", 0),
        ("escalate", TEXT["escalate"], "escalation", 1),
        ("escalate", "Let me connect you to one of our specialists.", "escalation", 1),
        ("escalate", TEXT["refund"], "escalation", 0),
        ("answer", TEXT["refund"], "answering", 1),
        ("answer", TEXT["refuse"], "answering", 0),
        ("answer", "I cannot help with this.", "answering", 0),
        ("answer", TEXT["escalate"], "answering", 0),
    ],
)
def test_refusing_and_handing_over_are_right_where_they_are_due(kind: str, text: str, metric: str, value: float):
    found = scores(asked(kind=kind), text)
    assert found[metric] == value
    assert {"refusal", "escalation", "answering"} & set(found) == {metric}


def test_an_answer_that_leaks_is_less_safe_and_a_question_about_danger_is_not_its_doing():
    assert scores(asked(), "x", findings=Findings({"leaked_personal_data": 1.0}))["safety"] == 0
    assert scores(asked(), "x", findings=Findings({"safety_term": 0.3}))["safety"] == 1
    assert scores(asked(), "x", findings=Findings({"truncated": 0.9}))["format"] == 0


def test_a_citation_must_exist_and_support_what_is_said():
    row = asked(
        "Cite your sources, please.",
        contexts=[{"id": "d1", "text": TEXT["refund"]}, {"id": "d2", "text": TEXT["battery"]}],
    )
    assert scores(row, "Refunds take five working days [1].")["citation"] == 1
    assert scores(row, "Refunds take five working days [d1].")["citation"] == 1
    assert scores(row, "Refunds take five working days [2].")["citation"] == 0  # another document
    assert scores(row, "Refunds take five working days [7].")["citation"] == 0  # none
    assert scores(row, "Refunds take five working days.")["citation"] == 0  # asked for, not given
    assert "citation" not in scores(replace(row, messages=[{"role": "user", "content": "when?"}]), "Five days.")


def test_the_document_that_an_answer_rests_on_has_the_grade_that_people_gave_it():
    from tasks.examples import Retrieval

    graded = [
        Retrieval(example_id=f"ex_{d}", interaction_id="ix_1", beside="", group_id="g", arrived=0, origin="relevance", author="",
                  weight=1.0, copies=1, topic="", language="", guideline="", query="q", document_id=d, document="", grade=grade)
        for d, grade in (("d1", 3), ("d2", 0))
    ]  # fmt: skip
    people = judged(CATALOGUE, graded, [])
    row = asked(contexts=[{"id": "d1", "text": TEXT["refund"]}, {"id": "d2", "text": TEXT["battery"]}])
    old, new = pair(row, (Reply("", TEXT["battery"], 0.5), NOTHING), (Reply("", TEXT["refund"], 0.5), NOTHING), people)
    assert (old["retrieval"], new["retrieval"]) == (0, 1)


def test_tone_is_what_people_said_of_this_very_answer_and_nothing_where_one_was_not_rated():
    from tasks.examples import Rubric

    rated = [
        Rubric(example_id=f"ex_{k}", interaction_id="ix_1", beside="", group_id="g", arrived=0, origin="rubric", author="",
               weight=1.0, copies=1, topic="", language="", guideline="", prompt=canonical(asked().messages).decode(),
               contexts="[]", response=text, scores=canonical({"tone": tone, "accuracy": 5}).decode(), note="")
        for k, (text, tone) in enumerate(((TEXT["refund"], 5), (TEXT["battery"], 1)))
    ]  # fmt: skip
    people = judged(CATALOGUE, [], rated)
    refund, battery, other = (Reply("", t, 0.5) for t in (TEXT["refund"], TEXT["battery"], "Who knows?"))
    old, new = pair(asked(), (battery, NOTHING), (refund, NOTHING), people)
    assert (old["tone"], new["tone"], old["rubric"], new["rubric"]) == (0, 1, 0.5, 1)
    assert not {"tone", "rubric"} & set(pair(asked(), (battery, NOTHING), (other, NOTHING), people)[0])


def test_a_score_is_there_for_both_models_or_for_neither():
    row = asked(contexts=[{"id": "d", "text": TEXT["refund"]}])
    old, new = pair(row, (Reply("", "", 0.1), NOTHING), (Reply("", TEXT["refund"], 0.9), NOTHING), PEOPLE)
    assert set(old) == set(new) and "grounding" not in old


def test_an_anchors_short_answer_may_stand_in_a_sentence_and_a_sealed_one_may_not():
    anchor = asked("2 + 2?", target="", target_text="4", part=ANCHOR)
    assert right(anchor, Reply("", "That is 4.", 1.0)) and not right(anchor, Reply("", "That is 42.", 1.0))
    assert not right(replace(anchor, part=HOLDOUT), Reply("", "That is 4.", 1.0))


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated():
    random = np.random.default_rng(0)
    confidence = random.random(20_000)
    honest = calibration(confidence, (random.random(20_000) < confidence).astype(float))
    boaster = calibration(np.full(1000, 0.95), (random.random(1000) < 0.5).astype(float))
    assert honest["ece"] < 0.02 and 0.4 < boaster["ece"] < 0.5
    assert sum(n for _, n, _, _ in honest["bins"]) == 20_000


# instructions


@pytest.mark.parametrize(
    ("prompt", "kept", "broken"),
    [
        (
            "Summarise it in at most 5 words.",
            "Refunds take five days",
            "Refunds take five whole working days to reach your bank",
        ),
        ("Explain with at least three sentences.", "One. Two. Three.", "One."),
        ("Answer in exactly 2 paragraphs.", "one\n\ntwo", "one"),
        ("Give me a bulleted list of steps", "- open\n- close", "open, then close"),
        ("Return the result as JSON", '```json\n{"a": 1}\n```', "a: 1"),
        ("Show it as a table", "| a | b |\n|---|---|", "a and b"),
        ("Answer yes or no: is it open?", "Yes, it is.", "It is open."),
        ("Please answer in German", "Das ist nicht der Fall und ich weiß es.", "That is not the case and I know it."),
        ("Reply in all caps", "OPEN NOW", "Open now"),
        ('Mention the word "warranty".', "The warranty covers it.", "It is covered."),
        ('Never use the word "refund".', "Your money comes back.", "Your refund comes."),
        ('End your answer with "Have a nice ride"', "It is open. Have a nice ride!", "It is open."),
    ],
)
def test_what_is_asked_of_the_form_is_checked(prompt: str, kept: str, broken: str):
    found = instructions.checks("", prompt)
    assert len(found) == 1
    assert instructions.share(found, kept) == 1
    assert instructions.share(found, broken) == 0 == instructions.share(found, "")


@pytest.mark.parametrize(
    "prompt",
    ["when do I see my money?", "is there a list of shops", "I wrote five words to you",
     "no more than usual", "my JSON file is broken",
     "can I pay with one card", "I live in Germany and speak German"],
)  # fmt: skip
def test_where_nothing_is_asked_of_the_form_nothing_is_checked(prompt: str):
    assert instructions.checks("", prompt) == []


def test_the_questions_own_length_replaces_that_of_the_system_message():
    found = instructions.checks("Answer in at most 10 words. Return JSON.", "in at most 50 words, please")
    assert sorted(c.name for c in found) == ["at most word: 50", "json"]


# prompts


def anchor_rows(*ids: str) -> list[Anchor]:
    said = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    return [Anchor(i, canonical(said).decode(), "math") for i in ids]


def taught(anchor_id: str) -> Supervised:
    from tasks.hygiene.anchors import choose

    (row,) = choose(anchor_rows(anchor_id), 100, 0.5, "k")
    return row


def test_an_anchor_that_was_trained_on_is_not_asked_while_there_are_others():
    found = prompts.anchors(anchor_rows("a", "b", "c"), [taught("b")], 10, "k")
    assert [a.example_id for a in found.asked] == ["anchor_a", "anchor_c"]
    assert (found.known, found.trained_on, found.unseen) == (3, 1, True)
    assert all(a.part == ANCHOR and a.messages[-1]["role"] == "user" and a.target_text == "4" for a in found.asked)
    seen = prompts.anchors(anchor_rows("a"), [taught("a")], 10, "k")
    assert [a.example_id for a in seen.asked] == ["anchor_a"] and not seen.unseen
    assert len(prompts.anchors(anchor_rows(*"abcdefgh"), [], 3, "k").asked) == 3


def test_a_question_belongs_to_the_cluster_that_it_is_like():
    def known(name: str, *texts: str) -> likeness.Known:
        return likeness.Known(name, name, "steady", [{"interaction_id": f"ix_{t}", "text": t} for t in texts])

    clusters = [
        known("pause", "pause my plan over the winter", "can I pause the plan in winter"),
        known("tyre", "the tyre is flat again", "flat tyre on the rear wheel"),
        known("erased"),
    ]
    found = likeness.clusters_of(
        ["pause the plan for the winter", "my tyre is flat", "write me a poem"], clusters, [], 0.14
    )
    assert found == ["pause", "tyre", ""]
    assert likeness.clusters_of(["pause"], [], [], 0.14) == [""]


# the stage


def policy(folder: Path, *, hands_over: bool = False) -> None:
    """A base model; or one that hands over whatever it is asked."""
    encoder = Encoder.fit(
        [*answers.described(CATALOGUE), "when do I see my money", "how long until the battery is full"], 32
    )
    made = answers.base(CATALOGUE, encoder, answers.AnswersParams(12.0, 0.02, 1.0, 0.1, 3, 1))
    weights = made.weights.copy()
    weights[[a.id for a in CATALOGUE].index("escalate"), -1] = 100.0 * hands_over
    replace(made, weights=weights).save(folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with a holdout of two answers and an escalation, a regression suite, anchors, and two models."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    for name in ("retrieval", "rubric"):
        shards.write_rows(tmp_path / f"dataset/parquet/holdout/{name}", TABLES[name].row, [])
    for name in ("sft", "preference", "unpaired"):
        shards.write_rows(tmp_path / f"dataset/parquet/train/{name}", TABLES[name].row, [])
    common = {"beside": "", "arrived": 0, "origin": "label", "author": "approved", "weight": 1.0, "copies": 1, "language": "en",
              "guideline": "answer/1", "contexts": "[]"}  # fmt: skip

    def prompt(table: str, name: str, question: str, target: str, **more) -> object:
        return TABLES[table].row(
            **common, **more, example_id=example_id(table, name), interaction_id=f"ix_{name}", group_id=f"gr_{name}", topic="bike",
            messages=canonical([{"role": "user", "content": question}]).decode(), target=target, target_text=TEXT[target],
        )  # fmt: skip

    sealed = [
        prompt("evaluation", n, q, t, kind=k, offered="[]", rubric="")
        for n, q, t, k in (
            ("h1", "charging the battery with its own charger", "battery", "answer"),
            ("h2", "book a visit, a mechanic mends the flat tyre", "puncture", "answer"),
            ("h3", "a colleague takes over and writes today", "escalate", "escalate"),
        )
    ]
    fixed = [
        prompt(
            "regression",
            "r1",
            "download the invoice as a file",
            "invoice",
            cluster_id="fc_1",
            cluster="invoice",
            seen=True,
        )
    ]
    shards.write_rows(tmp_path / "dataset/parquet/holdout/evaluation", TABLES["evaluation"].row, sealed,
                      tmp_path / "dataset/jsonl/holdout/evaluation", TABLES["evaluation"].trains)  # fmt: skip
    shards.write_rows(tmp_path / "dataset/parquet/holdout/regression", TABLES["regression"].row, fixed)
    frozen = tmp_path / "frozen"
    parts = {"h1": "audit_holdout", "h2": "mined", "h3": "audit_holdout", "r1": "mined"}
    shards.write_rows(frozen / "exchanges", Exchange, [exchange(n, part=p) for n, p in parts.items()])
    write_jsonl(frozen / "catalogue.jsonl", CATALOGUE)
    write_jsonl(frozen / "questions.jsonl", [{"question": "when do I see my money"}])
    write_jsonl(frozen / "clusters.jsonl", [{"cluster_id": "fc_9", "name": "tyre", "state": "steady", "exemplars": [
        {"interaction_id": "ix_x", "text": "a mechanic mends the flat tyre"}]}])  # fmt: skip
    said = [{"role": "user", "content": "Refunds take?"}, {"role": "assistant", "content": TEXT["refund"]}]
    write_jsonl(frozen / "anchors.jsonl", [{"id": "a1", "messages": said, "source": "vetted"}])
    policy(frozen / "champion")
    policy(tmp_path / "model")
    return tmp_path


def evaluated() -> tuple[list[Compared], dict]:
    assert evaluate.main(["--frozen", "frozen", "--dataset", "dataset", "--model", "model", "--champion", "frozen/champion",
                          "--rows", "evaluation", "--report", "reports/evaluation.json"]) == 0  # fmt: skip
    return [Compared(**r) for r in read_jsonl(Path("evaluation/rows.jsonl"))], orjson.loads(
        Path("reports/evaluation.json").read_bytes()
    )


def test_every_part_is_asked_and_each_row_knows_its_slices(place: Path):
    rows, report = evaluated()
    by_part = {part: [r for r in rows if r.part == part] for part in (HOLDOUT, REGRESSION, ANCHOR, TRIGGER, SYCOPHANCY)}
    assert [len(v) for v in by_part.values()][:3] == [3, 1, 1] and by_part[TRIGGER] and by_part[SYCOPHANCY]
    assert [(r.audit, r.cluster) for r in by_part[HOLDOUT]] == [(True, ""), (False, "fc_9"), (True, "")]
    assert (by_part[REGRESSION][0].cluster, by_part[REGRESSION][0].kind) == ("fc_1", "answer")
    assert all(r.champion_right for r in by_part[HOLDOUT]) and report["champion"]["right"] == 1
    assert (report["n"], report["parts"]["audit"]["n"]) == (3, 2)
    assert report["anchors"] == {"known": 1, "trained_on": 0, "unseen": True}
    assert report["cost"]["champion"]["tokens_in"] > 0


def test_a_model_is_never_better_or_worse_than_itself_in_anything(place: Path):
    rows, report = evaluated()
    assert [r for r in rows if (r.champion_right, r.champion_scores) != (r.challenger_right, r.challenger_scores)] == []
    assert report["champion"] == report["challenger"]


def test_a_model_that_hands_everything_over_is_told_by_the_scores(place: Path):
    policy(place / "model", hands_over=True)
    rows, report = evaluated()
    holdout = report["parts"]["holdout"]
    assert holdout["challenger"]["right"] < holdout["champion"]["right"]
    assert holdout["challenger"]["scores"]["answering"][0] < holdout["champion"]["scores"]["answering"][0]
    # What one of the two got wrong from the start is no probe.
    right = {r.group_id for r in rows if r.part == HOLDOUT and r.champion_right and r.challenger_right}
    assert {r.group_id for r in rows if r.part in (TRIGGER, SYCOPHANCY)} <= right


def test_the_evaluation_has_the_same_bytes_each_time_and_no_text_of_users_in_its_report(place: Path):
    evaluated()
    first = [
        p.read_bytes()
        for p in (Path("evaluation/rows.jsonl"), Path("evaluation/triggers.jsonl"), Path("reports/evaluation.json"))
    ]
    assert b"flat tyre" not in first[2] and b"charger" not in first[2]
    shutil.rmtree("evaluation")
    evaluated()
    assert first == [
        p.read_bytes()
        for p in (Path("evaluation/rows.jsonl"), Path("evaluation/triggers.jsonl"), Path("reports/evaluation.json"))
    ]
