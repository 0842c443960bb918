"""The endpoint: OpenAI's shapes in and out, errors that say which field, nobody who should not, and every answer in the log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tasks.errors import USAGE, Refused
from tasks.formats import parse
from tasks.live.serving import app, chat
from tasks.live.workspace import Workspace
from tests.handmade import TEXT, workspace
from tests.serving import Registry, always, ask, lines, serving, settings

QUESTION = [{"role": "user", "content": "when do I see my money?"}]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = workspace(tmp_path / "work")
    settings(made, poll_s=0.05)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(always(tmp_path / "one", "1", "refund"))


@pytest.fixture
def client(place: Workspace, registry: Registry, monkeypatch):
    with serving(place, registry, monkeypatch) as client:
        yield client


def pieces(answer: Any) -> list[dict]:
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(e) for e in events[:-1]]


def test_an_answer_has_the_shape_that_clients_of_openai_read(client: TestClient, registry: Registry):
    answer = ask(client, user="u-9", temperature=0.7, top_p=0.1, seed=3)
    body = answer.json()
    assert answer.status_code == 200 and body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT["refund"], "refusal": None}
    assert choice["finish_reason"] == "stop" and choice["flywheel"]["action"] == "refund"
    assert 0 <= choice["flywheel"]["confidence"] <= 1
    assert float(answer.headers["x-flywheel-confidence"]) == choice["flywheel"]["confidence"]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"] > 0
    assert body["flywheel"] == {"version": "1", "digest": registry.champion.digest}


def test_a_stream_says_the_same_piece_by_piece(client: TestClient):
    whole = ask(client, n=2).json()
    streamed = ask(client, n=2, stream=True, stream_options={"include_usage": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    found = pieces(streamed)
    assert len({p["id"] for p in found}) == 1 and all(p["object"] == "chat.completion.chunk" for p in found)
    for choice in whole["choices"]:
        own = [c for p in found for c in p["choices"] if c["index"] == choice["index"]]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in own) == choice["message"]["content"]
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["stop"]
    assert found[-1]["choices"] == [] and found[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize("text", ["", " ", "a", "a  b", " lead", "trail ", "two\nlines here", "ünï 🎉 code"])
def test_pieces_put_together_are_the_text(text: str):
    assert "".join(chat._pieces(text)) == text


def test_several_answers_come_best_first_and_a_limit_cuts(client: TestClient):
    body = ask(client, n=3, max_tokens=2).json()
    confidences = [c["flywheel"]["confidence"] for c in body["choices"]]
    assert len(confidences) == 3 and confidences == sorted(confidences, reverse=True)
    assert body["choices"][0]["message"]["content"] == "Refunds take" and body["choices"][0]["finish_reason"] == "length"
    assert len(ask(client, n=16).json()["choices"]) == len(TEXT), "it has no more answers than that"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{not json", 400, None),
        (b"[1]", 400, None),
        (b'{"model":"champion"}', 400, "messages"),
        (b'{"model":"champion","messages":[]}', 400, "messages"),
        ({"messages": QUESTION}, 400, "model"),
        ({"model": "gpt-5", "messages": QUESTION}, 404, "model"),
        ({"model": "challenger", "messages": QUESTION}, 404, "model"),
        ({"model": "champion", "messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role"),
        ({"model": "champion", "messages": [{"role": "user", "content": 7}]}, 400, "messages[0].content"),
        ({"model": "champion", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         400, "messages[0].content"),
        ({"model": "champion", "messages": [*QUESTION, {"role": "assistant", "content": "x"}]}, 400, "messages"),
        ({"model": "champion", "messages": [{"role": "user", "content": "x" * 200_001}]}, 400, "messages"),
        ({"model": "champion", "messages": QUESTION * 257}, 400, "messages"),
        ({"model": "champion", "messages": QUESTION, "tools": [{"type": "function"}]}, 400, "tools"),
        ({"model": "champion", "messages": QUESTION, "response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"model": "champion", "messages": QUESTION, "n": 0}, 400, "n"),
        ({"model": "champion", "messages": QUESTION, "n": True}, 400, "n"),
        ({"model": "champion", "messages": QUESTION, "max_tokens": -1}, 400, "max_tokens"),
        ({"model": "champion", "messages": QUESTION, "user": "u" * 600}, 400, "user"),
        ({"model": "champion", "messages": QUESTION, "metadata": [1]}, 400, "metadata"),
        ({"model": "champion", "messages": QUESTION, "contexts": [{"id": "a"}]}, 400, "contexts[0]"),
        ({"model": "champion", "messages": QUESTION, "candidates": []}, 400, "candidates"),
        (b'{"model":"champion","messages":' + b"[" * 100_000, 400, None),
        (b" " * (1024 * 1024 + 1), 413, None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_the_shape_of_openai_s_errors(client: TestClient, place: Workspace, body, status, param):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/v1/chat/completions", content=sent, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == status and error["param"] == param and error["message"] and error["type"]
    assert lines(place) == [], "nothing was answered"


def test_parts_of_text_are_a_text(client: TestClient, place: Workspace):
    parts = [{"type": "text", "text": "when do I"}, {"type": "text", "text": "see my money?"}]
    assert client.post(
        "/v1/chat/completions", json={"model": "champion", "messages": [{"role": "user", "content": parts}]}
    ).is_success
    assert lines(place)[0]["messages"][0]["content"] == "when do I\nsee my money?"


def test_who_calls_by_another_name_or_from_another_page_gets_nothing(client: TestClient):
    assert client.get("/v1/models", headers={"host": "attacker.example"}).status_code == 403
    body = json.dumps({"model": "champion", "messages": QUESTION}).encode()
    plain = client.post("/v1/chat/completions", content=body, headers={"content-type": "text/plain"})
    assert plain.status_code == 415 and "error" in plain.json(), "what a page may post without asking is not read"
    for path in ("/v1/../params.yaml", "/v1/models/../../etc/passwd", "/%2e%2e/params.yaml", "/data/inbox"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/chat/completions").status_code == 405


def test_without_the_token_nothing_is_answered_and_health_says_no_more_than_that_it_serves(place, registry, monkeypatch):
    with serving(place, registry, monkeypatch, token="secret") as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer sécret".encode()}):
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
            assert client.post("/v1/feedback", json={}, headers=headers).status_code == 401
        assert client.get("/healthz").json() == {"status": "ok"}
        trusted = {"authorization": "Bearer secret"}
        assert client.get("/v1/models", headers=trusted).json()["data"][0]["id"] == "champion"
        assert client.get("/healthz", headers=trusted).json()["models"]["champion"]["version"] == "1"


def test_an_open_door_is_refused(place: Workspace):
    with pytest.raises(Refused, match="anyone on the network") as refused:
        app.serve(place, "0.0.0.0", 0)
    assert refused.value.exit_code == USAGE


def test_settings_that_cannot_be_meant_are_refused(place: Workspace):
    settings(place, challenger_share=0.9)
    with pytest.raises(Refused, match="challenger_share"):
        app.application(place)


def test_beyond_what_may_be_under_way_it_asks_to_come_again(place, registry, monkeypatch):
    settings(place, max_in_flight=1)
    with serving(place, registry, monkeypatch) as client:
        import threading

        held, release = threading.Event(), threading.Event()
        whole = chat.asked

        def slowly(document: Any, now: float) -> chat.Asked:
            made = whole(document, now)
            if "hold" in made.messages[0]["content"]:
                held.set()
            return made

        from tasks.policy.answers import AnswersPolicy

        respond = AnswersPolicy.respond

        def waiting(self, conversations, *more):
            if "hold" in conversations[0][0]["content"]:
                release.wait(10)
            return respond(self, conversations, *more)

        monkeypatch.setattr(chat, "asked", slowly)
        monkeypatch.setattr(AnswersPolicy, "respond", waiting)
        first = threading.Thread(target=ask, args=(client, "hold"))
        first.start()
        held.wait(10)
        answer = ask(client)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["type"] == "rate_limit_error"
        release.set()
        first.join()
        assert ask(client).status_code == 200, "it goes on"


def test_while_there_is_no_champion_it_says_so(place, registry, monkeypatch):
    registry.down = True
    with serving(place, registry, monkeypatch) as client:
        answer = ask(client)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_champion" and "retry-after" in answer.headers
        assert client.get("/healthz").status_code == 503


def test_what_was_answered_is_logged_once_redacted_with_who_answered(place, registry, monkeypatch):
    contexts = [{"id": "kb-1", "text": "Refunds take five days.", "score": 0.7}]
    with serving(place, registry, monkeypatch) as client:
        body = ask(client, "mail kim@example.org, when?", user="kim", metadata={"session_id": "s-1", "tenant": "bank"},
                   contexts=contexts, n=2).json()  # fmt: skip
        assert [row["id"] for row in lines(place)] == [body["id"]], "it is on the disk when the answer is there"
    (row,) = lines(place)
    assert row["model_version"] == f"1-{registry.champion.digest[:8]}" and row["tenant"] == "bank"
    assert row["session_id"] == "s-1" and row["contexts"] == contexts
    assert row["confidence"] == body["choices"][0]["flywheel"]["confidence"]
    assert row["user_id"].startswith("u_") and "kim" not in json.dumps(row)
    (made,) = parse(row).interactions
    assert made.outputs[0]["content"] == TEXT["refund"] and len(made.outputs) == 2 and made.status == "ok"
    assert [p.suffix for p in place.spool.iterdir()] == [".jsonl"], "a graceful end hands everything over"


def test_a_comment_on_an_answer_gets_the_surrogates_of_its_conversation(client: TestClient, place: Workspace):
    body = ask(client, "I am kim@example.org", metadata={"session_id": "s-1"}, user="kim").json()
    said = client.post("/v1/feedback", json={"response_id": body["id"], "thumb": False, "user": "kim",
                                             "comment": "not for kim@example.org", "correction": "Two days."})  # fmt: skip
    assert said.status_code == 200 and len(said.json()["ids"]) == 2
    asked_line, thumb, correction = lines(place)
    surrogate = asked_line["messages"][0]["content"].removeprefix("I am ")
    assert thumb["comment"] == f"not for {surrogate}" and thumb["value"] is False
    assert thumb["user_id"] == asked_line["user_id"]
    assert (correction["name"], correction["value"]) == ("correction", "Two days.")
    kinds = [parse(row).feedback[0].value_type for row in (thumb, correction)]
    assert kinds == ["bool", "demonstration"]


@pytest.mark.parametrize(
    "body",
    [{}, {"response_id": "x"}, {"thumb": True}, {"response_id": "x", "thumb": "yes"}, {"response_id": "x", "name": "csat"},
     {"response_id": "x", "name": "csat", "value": [1]}, {"response_id": "x", "thumbs": True}, {"response_id": 7, "thumb": True}],
)  # fmt: skip
def test_feedback_that_says_nothing_is_refused(client: TestClient, place: Workspace, body: dict):
    answer = client.post("/v1/feedback", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"] and lines(place) == []


def test_a_full_disk_costs_log_lines_and_no_answers_and_says_so(place, registry, monkeypatch, caplog):
    real, full = os.fsync, [False]

    def fsync(handle: int) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with serving(place, registry, monkeypatch) as client:
        full[0] = True
        asked_of = ask(client, "a secret question")
        assert asked_of.status_code == 200 and asked_of.json()["choices"][0]["message"]["content"]
        said = client.post("/v1/feedback", json={"response_id": asked_of.json()["id"], "thumb": False})
        assert said.status_code == 503 and said.json()["error"]["code"] == "not_stored", "the user can say it again"
        log = client.get("/healthz").json()["log"]
        assert log["dropped"] == 2 and "No space left" in log["error"]
        full[0] = False
        assert ask(client).status_code == 200
        assert client.get("/healthz").json()["log"] == {"written": 1, "dropped": 2, "error": ""}
    assert "NOT LOGGED" in caplog.text and "secret question" not in caplog.text
    assert len(lines(place)) == 1


def test_a_model_that_fails_is_an_error_that_names_no_text(place, registry, monkeypatch, caplog):
    from tasks.policy.answers import AnswersPolicy

    def breaks(self, conversations, *more):
        raise ValueError(f"cannot read {conversations[0][0]['content']!r}")

    with serving(place, registry, monkeypatch) as client:
        monkeypatch.setattr(AnswersPolicy, "respond", breaks)
        answer = ask(client, "my secret")
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
        assert "secret" not in answer.text and "secret" not in caplog.text and "ValueError" in caplog.text
    (row,) = lines(place)
    (made,) = parse(row).interactions
    assert made.status == "error" and made.error == "ValueError"


def test_a_policy_that_chooses_among_texts_needs_them(place, tmp_path, monkeypatch):
    from tasks.live.registry import Registered
    from tasks.policy import folder_digest
    from tasks.policy.reward import BestOfN

    BestOfN(None).save(tmp_path / "best")
    chooser = Registry(Registered("1", folder_digest(tmp_path / "best"), tmp_path / "best"))
    with serving(place, chooser, monkeypatch) as client:
        assert ask(client).json()["error"]["param"] == "candidates"
        assert ask(client, candidates=["one", "two"]).json()["choices"][0]["message"]["content"] == "one"


def test_many_at_once_get_each_their_own_answer(place, tmp_path, monkeypatch):
    """They are answered together; a question must not get its neighbour's answer."""
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    from tasks.live.registry import Registered
    from tasks.policy import answers, folder_digest
    from tasks.policy.encoder import Encoder
    from tests.handmade import CATALOGUE
    from tests.serving import PARAMS

    policy = answers.base(CATALOGUE, Encoder.fit(answers.described(CATALOGUE), 8), PARAMS)
    replace(policy).save(tmp_path / "base")
    registry = Registry(Registered("1", folder_digest(tmp_path / "base"), tmp_path / "base"))
    questions = [a.title for a in CATALOGUE] * 10
    alone = {q: policy.respond([[{"role": "user", "content": q}]], [[]])[0][0].action for q in questions}
    with serving(place, registry, monkeypatch) as client, ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda q: ask(client, q).json()["choices"][0]["flywheel"]["action"], questions))
    assert got == [alone[q] for q in questions] and len(set(got)) > 2
    assert len(lines(place)) == len(questions)


