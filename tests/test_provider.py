"""Tuning at a provider, against a server that speaks its API: a job is paid for once, whatever dies, and nobody's key is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.examples import TABLES
from tasks.exports import openai_dpo, openai_sft
from tasks.policy import folder_digest, load
from tasks.policy.provider import api, training
from tasks.policy.provider.orders import BYTES_PER_TOKEN, Notes, ProviderParams
from tasks.records import write_jsonl
from tests import provider_server
from tests.handmade import CATALOGUE, TEXT
from tests.imports import ROOT
from tests.provider_server import Provider
from tests.tables import SAID, example

PARAMS = ProviderParams(
    url="https://nowhere.example/v1", base="base-nano", steps=["supervised"], epochs=2, beta=0.1, seed=1, suffix="flywheel",
    max_examples=1000, usd_per_million=1.5, max_cost=20.0, wait_hours=24.0, max_tokens=64,
)  # fmt: skip
KEY = "sk-test-9f3"
ROWS = 12


def text(value: Any) -> str:
    return orjson.dumps(value).decode()


def asked(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"question number {n}: when do I see my money?"}]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A dataset of twelve supervised rows and twelve pairs, and the catalogue."""
    answers = [{"role": "assistant", "content": TEXT["refund"]}]
    sft = [example("sft", n, messages=text([*asked(n), *answers]), action="refund") for n in range(ROWS)]
    pairs = [
        example("preference", n, prompt=text(asked(n)), chosen=text([{"role": "assistant", "content": TEXT["invoice"]}]),
                rejected=text(answers), tools="[]")
        for n in range(ROWS)
    ]  # fmt: skip
    for table, rows in (("sft", sft), ("preference", pairs)):
        shards.write_rows(tmp_path / "dataset/parquet/train" / table, TABLES[table].row, rows)
    write_jsonl(tmp_path / "catalogue.jsonl", CATALOGUE)
    return tmp_path


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with provider_server.served(Provider(KEY)) as (server, url):
        monkeypatch.setenv(api.URL, url)
        monkeypatch.setenv(api.KEY, KEY)
        yield server


def train(place: Path, sleep: Any = lambda s: None, **changes: Any) -> Any:
    return training.train(
        place / "catalogue.jsonl", place / "dataset", place / "model", place / "checkpoints", replace(PARAMS, **changes), sleep
    )


def test_a_tuned_model_answers_what_it_was_taught(place: Path, provider: Provider) -> None:
    done = train(place)
    assert done.summary["rows"] == {"supervised": ROWS} and done.summary["jobs"] == ["ftjob-1"]
    assert provider.jobs["ftjob-1"]["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    assert [p.value for p in done.curves if p.metric == "supervised/train_loss"] == [2.0, 1.0, 0.6667, 0.5, 0.4]
    policy = load(place / "model")
    known, unknown = policy.respond([asked(3), asked(99)], [[], []])
    assert (known[0].action, known[0].text, known[0].confidence) == ("refund", TEXT["refund"], 0.9)
    assert (unknown[0].action, unknown[0].confidence) == ("", 0.4)


def test_what_is_sent_is_what_the_export_says(place: Path, provider: Provider) -> None:
    train(place, steps=["supervised", "dpo"])
    for n, (table, dialect) in enumerate((("sft", openai_sft), ("preference", openai_dpo)), start=1):
        rows = shards.read(place / "dataset/parquet/train" / table, TABLES[table].row)
        sent = [json.loads(x) for x in provider.files[f"file-{n}"]["bytes"].splitlines()]
        assert sent == [dialect.line(table, r).document for r in rows]


def test_dpo_goes_on_from_the_supervised_model(place: Path, provider: Provider) -> None:
    done = train(place, steps=["supervised", "dpo"])
    first, second = provider.jobs.values()
    assert second["model"] == first["fine_tuned_model"] and done.summary["model"] == second["fine_tuned_model"]
    assert second["method"]["dpo"]["hyperparameters"] == {"n_epochs": 2, "beta": 0.1}
    assert load(place / "model").respond([asked(0)], [[]])[0][0].action == "invoice"


def test_a_chat_is_asked_as_the_rows_were_written(place: Path, provider: Provider) -> None:
    """Else the model is asked something that it was not taught: the same messages, contexts or not."""
    train(place)
    load(place / "model").respond([asked(1)], [[{"id": "d1", "text": "Five days."}]])
    sent = json.loads(provider.files["file-1"]["bytes"].splitlines()[1])["messages"][:-1]
    assert provider.chats[-1]["messages"] == sent
    assert (provider.chats[-1]["temperature"], provider.chats[-1]["logprobs"]) == (0, True)


def test_several_answers_come_best_first_and_each_once(place: Path, provider: Provider) -> None:
    train(place)
    replies = load(place / "model").respond([asked(1)], [[]], n=5)[0]
    assert [r.confidence for r in replies] == [0.9, 0.4, 0.4]
    assert len({r.text for r in replies}) == 3


def test_of_texts_on_offer_the_one_most_like_its_own_is_picked(place: Path, provider: Provider) -> None:
    train(place)
    offered = ["We ship to Norway.", TEXT["refund"].upper(), "Refunds are not given."]
    (reply,) = load(place / "model").respond([asked(1)], [[]], offered=[offered])[0]
    assert reply.text == offered[1] and reply.confidence == 0.9


def test_an_answer_without_probabilities_is_refused(place: Path, provider: Provider) -> None:
    train(place)
    provider.logprobs = False
    with pytest.raises(Refused, match="no probabilities"):
        load(place / "model").respond([asked(1)], [[]])


def test_being_told_to_slow_down_and_broken_answers_cost_patience_and_no_second_job(place: Path, provider: Provider) -> None:
    waits: list[float] = []
    provider.busy = {"POST files": 2, "GET fine_tuning/jobs/ftjob-1": 1}
    provider.broken = {"POST fine_tuning/jobs": 2, "GET fine_tuning/jobs/ftjob-1/events": 1}
    train(place, waits.append)
    assert len(provider.jobs) == 1
    assert waits.count(0.01) == 3  # as long as the provider said


def test_a_job_that_was_made_and_never_heard_of_is_found_again(place: Path, provider: Provider) -> None:
    provider.lost = 1
    assert train(place).summary["jobs"] == ["ftjob-1"]
    assert len(provider.jobs) == 1


def test_the_same_order_is_paid_for_once(place: Path, provider: Provider) -> None:
    first = train(place)
    digest = folder_digest(place / "model")
    assert train(place).summary == first.summary and folder_digest(place / "model") == digest
    for note in (place / "checkpoints" / "provider").iterdir():  # another machine has no notes
        note.unlink()
    train(place)
    assert list(provider.jobs) == ["ftjob-1"] and len(provider.files) == 1


def test_another_order_is_another_job_and_the_one_that_nobody_waits_for_is_cancelled(place: Path, provider: Provider) -> None:
    class Died(Exception):
        pass

    def dies(_: float) -> None:
        raise Died

    with pytest.raises(Died):
        train(place, dies)
    assert provider.jobs["ftjob-1"]["status"] == "validating_files"
    train(place, seed=2)
    assert {j["id"]: j["status"] for j in provider.jobs.values()} == {"ftjob-1": "cancelled", "ftjob-2": "succeeded"}
    assert train(place).summary["jobs"] == ["ftjob-3"], "what was cancelled is not waited for"


def test_patience_ends_and_the_next_training_waits_for_the_same_job(place: Path, provider: Provider) -> None:
    provider.pace = 5
    with pytest.raises(Refused, match=r"ftjob-1 is still .* after 0\.001 hours"):
        train(place, wait_hours=0.001)
    assert not (place / "model").exists()
    assert train(place).summary["jobs"] == ["ftjob-1"]


def test_a_job_is_cancelled_by_its_id(place: Path, provider: Provider) -> None:
    provider.pace = 5
    with pytest.raises(Refused, match="still"):
        train(place, wait_hours=0.0)
    assert training.cancel(place / "checkpoints", PARAMS.url, "ftjob-1").status == "cancelled"
    assert provider.jobs["ftjob-1"]["status"] == "cancelled"
    with pytest.raises(Refused, match="no job ftjob-77"):
        training.cancel(place / "checkpoints", PARAMS.url, "ftjob-77")


def test_a_failed_job_is_refused_in_the_providers_words_and_ordered_anew(place: Path, provider: Provider) -> None:
    provider.fails = {"code": "moderation", "message": "The job failed due to an unsafe training file."}
    with pytest.raises(Refused, match=r"ftjob-1 failed: The job failed due to an unsafe training file\. \(moderation\)") as refused:
        train(place)
    assert refused.value.exit_code == INVALID and not (place / "model").exists()
    provider.fails = None
    assert train(place).summary["jobs"] == ["ftjob-2"]


def test_a_file_that_the_provider_can_not_use_is_refused_with_its_reason(place: Path, provider: Provider) -> None:
    rows = shards.read(place / "dataset/parquet/train/sft", TABLES["sft"].row)
    shards.write_rows(place / "few/parquet/train/sft", TABLES["sft"].row, rows[:4])
    (place / "dataset").rename(place / "all")
    (place / "few").rename(place / "dataset")
    with pytest.raises(Refused, match=r"4 example\(s\), but must have at least 10"):
        train(place)


def test_rows_that_the_dialect_can_not_say_are_counted(place: Path, provider: Provider) -> None:
    rows = shards.read(place / "dataset/parquet/train/sft", TABLES["sft"].row)
    silent = replace(rows[0], example_id="ex_silent", messages=text([*SAID, {"role": "assistant", "content": ""}]))
    (place / "dataset/parquet/train/sft").rename(place / "old")
    shards.write_rows(place / "dataset/parquet/train/sft", TABLES["sft"].row, [*rows, silent])
    summary = train(place).summary
    assert summary["rows"] == {"supervised": ROWS} and summary["left_out"] == {"supervised": {"empty_answer": 1}}


def test_nothing_is_sent_that_may_cost_more_than_was_allowed(place: Path, provider: Provider) -> None:
    train(place)
    size = len(provider.files["file-1"]["bytes"])
    usd = size / BYTES_PER_TOKEN * 3 * 1000 / 1e6
    with pytest.raises(Refused, match=rf"may cost {usd:.2f} USD"):
        train(place, epochs=3, usd_per_million=1000.0, max_cost=usd * 0.99)
    with pytest.raises(Refused, match=r"provider\.max_examples"):
        train(place, max_examples=ROWS - 1)
    assert len(provider.files) == len(provider.jobs) == 1


def test_what_was_uploaded_is_deleted_once_the_job_is_over(place: Path, provider: Provider) -> None:
    provider.fails = {"code": "x", "message": "no"}
    with pytest.raises(Refused):
        train(place)
    provider.fails = None
    train(place)
    assert sorted(provider.deleted) == sorted(provider.files) == ["file-1", "file-2"]


def test_long_lists_are_read_to_their_end(place: Path, provider: Provider) -> None:
    provider.limit = 2
    assert len(train(place).curves) == 10


def test_a_wrong_key_is_refused_and_never_told(
    place: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(api.KEY, "sk-wrong-77")
    with pytest.raises(Refused, match=r"refuses the key \(401\)") as refused:
        train(place)
    assert "sk-wrong" not in str(refused.value) + "".join(capsys.readouterr())
    monkeypatch.setenv(api.KEY, KEY)
    train(place)
    written = [p.read_bytes() for p in place.rglob("*") if p.is_file()]
    assert not [b for b in written if KEY.encode() in b] and KEY not in "".join(capsys.readouterr())
    assert KEY not in repr(api.endpoint("https://x/v1"))


def test_the_notes_hold_no_text_of_the_data(place: Path, provider: Provider) -> None:
    train(place)
    notes = b"".join(p.read_bytes() for p in (place / "checkpoints").rglob("*") if p.is_file())
    assert notes and b"money" not in notes and TEXT["refund"].encode() not in notes


@pytest.mark.parametrize("url", ["http://provider.example/v1", "ftp://x", "https://user:pw@host/v1", ""])
def test_a_key_is_sent_to_no_address_that_may_leak_it(url: str) -> None:
    with pytest.raises(Refused):
        api.endpoint(url, {})


@pytest.mark.parametrize(("changes", "said"), [({"steps": []}, "steps"), ({"steps": ["sft"]}, "steps"), ({"epochs": 0}, "epochs")])
def test_settings_that_make_no_order_are_refused(place: Path, provider: Provider, changes: dict, said: str) -> None:
    with pytest.raises(Refused, match=f"provider.{said}"):
        train(place, **changes)
    assert provider.asked == []


def test_a_provider_that_stays_away_is_given_up_after_patience(place: Path, provider: Provider) -> None:
    provider.broken = {"GET fine_tuning/jobs": 1000}
    waits: list[float] = []
    with pytest.raises(Refused, match="did not answer GET fine_tuning/jobs after 7 attempts: 503 overloaded"):
        train(place, waits.append)
    assert len(waits) == api.RETRIES


@pytest.mark.slow
def test_a_killed_training_goes_on_with_its_job(place: Path, provider: Provider) -> None:
    """The stage itself, killed while it waits; then once more."""
    provider.pace = 10**6
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["train"]["policy"] = "provider"
    settings["provider"] |= {"base": "base-nano", "epochs": 2}
    settings["advise"]["sft"] = ROWS
    (place / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (place / "frozen").mkdir()
    (place / "catalogue.jsonl").rename(place / "frozen" / "catalogue.jsonl")
    for table in ("unpaired", "reward", "prompts"):
        shards.write_rows(place / "dataset/parquet/train" / table, TABLES[table].row, [])
    names = ("frozen", "dataset", "model", "checkpoints", "curves", "report")
    paths = {n: f"reports/{n}" if n in ("curves", "report") else n for n in names}
    command = [sys.executable, "-m", "tasks.stages.train", *(x for n in names for x in (f"--{n}", paths[n]))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stage = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not Notes(place / "checkpoints" / "provider").all():
        assert stage.poll() is None and time.monotonic() < until, stage.stderr.read()
        time.sleep(0.05)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    assert not (place / "reports/report").exists()
    provider.pace = 1
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert list(provider.jobs) == ["ftjob-1"]
    report = json.loads((place / "reports/report").read_bytes())
    assert (report["policy"], report["jobs"], report["digest"]) == ("provider", ["ftjob-1"], folder_digest(place / "model"))
    assert (place / "reports/curves").read_text().startswith("step,metric,value\n1,supervised/train_loss,2\n")
