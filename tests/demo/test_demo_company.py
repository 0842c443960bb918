"""A served week: what lands in the inbox, what must not, and that serving it again changes nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from demo.company import Company
from demo.scorer import Fact, Truth, policy_error_rate


def _files(town) -> dict[str, bytes]:
    root = town.workspace.parent
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _json_lines(path: Path) -> list[dict]:
    parsed = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            parsed.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return parsed


def _spans(path: Path) -> list[list[dict]]:
    """The spans of each whole line, attributes unwrapped, duplicates left out."""
    lines = {json.dumps(row): row for row in _json_lines(path)}.values()
    return [
        [
            s | {"attributes": {a["key"]: a["value"] for a in s["attributes"]}}
            for s in row["resourceSpans"][0]["scopeSpans"][0]["spans"]
        ]
        for row in lines
    ]


def _chats(town, turn: int) -> list[dict]:
    return [spans[1] for spans in _spans(town.served[turn].spans)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(town, settle):
    assert _files(settle()) == _files(town)
    other = _files(settle(seed=8))
    assert set(other) == set(_files(town))
    assert all(other[name] != data for name, data in _files(town).items())


def test_serving_a_week_again_changes_nothing(town, knowledge_path, sample_policy):
    before = _files(town)
    later = Company(town.workspace, town.state, town.company.seed, knowledge_path)
    assert later.serve(1, town.served[1].sessions, sample_policy(later.knowledge), "v1") == town.served[1]
    assert town.company.serve(0, town.served[0].sessions, sample_policy(later.knowledge), "v1") == town.served[0]
    assert _files(town) == before


def test_conversations_advance_in_three_waves(town, tmp_path, knowledge_path, sample_policy):
    company = Company(tmp_path / "w", tmp_path / "s", 7, knowledge_path)
    policy = sample_policy(company.knowledge)
    served = company.serve(0, 600, policy, "v1")
    assert policy.batches == [600, served.follow_ups, served.rephrases]
    assert served.interactions == sum(policy.batches)


def test_every_chat_span_has_its_retrieval_beside_it(town):
    hexadecimal = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
    for spans in _spans(town.served[0].spans):
        retrieval, chat = spans
        assert retrieval["attributes"]["gen_ai.operation.name"] == {"stringValue": "retrieval"}
        assert chat["attributes"]["gen_ai.operation.name"] == {"stringValue": "chat"}
        assert retrieval["traceId"] == chat["traceId"]
        assert retrieval["parentSpanId"] == chat["parentSpanId"]
        assert retrieval["spanId"] != chat["spanId"]
        for span in spans:
            assert all(re.fullmatch(f"[0-9a-f]{{{n}}}", span[key]) for key, n in hexadecimal.items())
            assert span["startTimeUnixNano"].isdigit() and span["endTimeUnixNano"].isdigit()
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        documents = json.loads(retrieval["attributes"]["gen_ai.retrieval.documents"]["stringValue"])
        assert len(documents) == 3 and set(documents[0]) == {"id", "score", "content"}


def test_a_chat_span_carries_the_whole_conversation(town):
    lengths = Counter()
    for chat in _chats(town, 0):
        a = chat["attributes"]
        messages = json.loads(a["gen_ai.input.messages"]["stringValue"])
        lengths[len(messages)] += 1
        assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"][: len(messages)]
        (output,) = json.loads(a["gen_ai.output.messages"]["stringValue"])
        assert a["gen_ai.response.finish_reasons"]["arrayValue"]["values"] == [{"stringValue": output["finish_reason"]}]
        assert a["gen_ai.usage.input_tokens"]["intValue"].isdigit()
        assert isinstance(a["flywheel.confidence"]["doubleValue"], float)
        assert a["gen_ai.response.model"] == {"stringValue": "answers-v1"}
        assert a["flywheel.model_version"] == {"stringValue": "v1"}
    assert set(lengths) == {1, 3, 5}
    assert lengths[3] > lengths[5]


def test_transport_faults_are_near_their_shares(knowledge_path, tmp_path, sample_policy):
    company = Company(tmp_path / "w", tmp_path / "s", 11, knowledge_path)
    served = company.serve(0, 3000, sample_policy(company.knowledge), "v1")
    assert served.truncated / served.interactions == pytest.approx(0.01, abs=0.006)
    assert served.empty / served.interactions == pytest.approx(0.005, abs=0.004)


def test_a_week_has_one_corrupt_and_one_repeated_line_and_loses_nothing(town):
    for served in town.served:
        lines = served.spans.read_text(encoding="utf-8").splitlines()
        whole = [json.dumps(row) for row in _json_lines(served.spans)]
        assert len(lines) - len(whole) == 1 == served.corrupt
        assert len(whole) - len(set(whole)) == 1 == served.duplicated
        assert len(set(whole)) == served.interactions


def test_response_ids_are_unique_and_match_the_truth(town):
    ids = [c["attributes"]["gen_ai.response.id"]["stringValue"] for turn in (0, 1) for c in _chats(town, turn)]
    assert len(ids) == len(set(ids)) == sum(s.interactions for s in town.served)
    assert all(town.company.truth.fact(i) for i in ids)


def test_late_feedback_lands_in_the_next_file(town):
    first, second = town.served
    held = (town.state / "late" / "turn-00.jsonl").read_text(encoding="utf-8").splitlines()
    in_first = first.feedback_file.read_text(encoding="utf-8").splitlines()
    in_second = second.feedback_file.read_text(encoding="utf-8").splitlines()
    assert held and len(held) == first.late_held == second.late_delivered
    assert not set(held) & set(in_first)
    assert in_second[: len(held)] == held
    first_ids = {c["attributes"]["gen_ai.response.id"]["stringValue"] for c in _chats(town, 0)}
    assert all(json.loads(line)["target"]["response_id"] in first_ids for line in held)
    assert first.late_held / (first.late_held + first.feedback) == pytest.approx(0.15, abs=0.09)


def test_feedback_follows_the_truth_but_not_always(town):
    thumbs, others = Counter(), Counter()
    for served in town.served:
        for row in _json_lines(served.feedback_file):
            assert row["flywheel"] == "feedback/1" and row["time"].endswith("Z")
            right = town.company.truth.fact(row["target"]["response_id"]).right
            if row["name"] == "thumb":
                thumbs[right, row["value"]] += 1
            else:
                others[row["name"]] += 1
                assert not right
                assert (row["value"] is True) == (row["name"] == "escalation")
    assert thumbs[True, True] > thumbs[True, False] > 0
    assert thumbs[False, False] > 0
    assert set(others) == {"escalation", "edit", "comment"}


def test_truth_never_appears_in_the_inbox(town):
    inbox = sorted((town.workspace / "data" / "inbox").iterdir())
    assert [p.name for p in inbox] == [f"turn-{t:02d}-{kind}.jsonl" for t in (0, 1) for kind in ("feedback", "spans")]
    for path in inbox:
        data = path.read_text(encoding="utf-8")
        assert not re.search(r"true_action|malicious|\bright\b|intent", data)


def test_the_true_error_rate_is_that_of_the_model(town):
    assert town.company.truth.true_error_rate(0) == pytest.approx(0.45, abs=0.15)
    assert town.company.truth.true_error_rate(0, "v1") == town.company.truth.true_error_rate(0)
    with pytest.raises(ValueError, match="turn 9"):
        town.company.truth.true_error_rate(9)


def test_a_better_model_has_a_lower_error_on_traffic_that_nobody_logs(town, sample_policy):
    world, knowledge = town.company.world, town.company.knowledge
    before = _files(town)
    good, bad = (policy_error_rate(sample_policy(knowledge, e), world, 0, 200) for e in (0.0, 0.6))
    assert good < bad
    assert good == policy_error_rate(sample_policy(knowledge, 0.0), world, 0, 200)
    assert _files(town) == before


def test_truth_survives_a_torn_tail_and_refuses_a_change(tmp_path):
    first, second = (Fact(f"resp-{n}", 0, "refuse", bool(n), "v1") for n in (0, 1))
    assert Truth(tmp_path).record([first, second]) == 2
    path = tmp_path / "truth.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    again = Truth(tmp_path)
    assert again.record([first, second]) == 1
    assert path.read_bytes() == whole
    with pytest.raises(ValueError, match="resp-0"):
        again.record([Fact("resp-0", 0, "escalate", True, "v1")])
