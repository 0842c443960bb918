"""Realistic logs of any size: sessions of several turns, retrieved documents, feedback, unicode, long tails, planted faults.

    {"flywheel":"interaction/1","id":"r-17-2","session_id":"s-17","time":"2026-01-05T08:00:12.431Z","user_id":"user-8123", …}
    {"flywheel":"feedback/1","id":"f-17-2","target":{"response_id":"r-17-2"},"name":"thumb","value":false, …}

What was planted is returned, so that an account can be checked to the record. Same seed, same bytes.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
SYLLABLES = "ba ce di fo gu la me ni ro su ta ve wi yo zu kra ple sti dro nne schl ing ung tion ough".split()  # noqa: SIM905
OTHER_SCRIPTS = (
    "请问什么时候能到账",
    "Когда придёт возврат",
    "متى يصل المبلغ",
    "返金はいつですか",
    "größte Übermäßigkeit",
    "naïve café 🚲🔋",
    "環境\u2028設定",
)
PERSONAL = (
    "write to {n}@mail.example.org", "my number is +49 30 {d7}", "IBAN DE89370400440532013000 is mine",
    "the card was 4111 1111 1111 1111", "from 203.0.113.{b} it failed", "call (212) 555-0{d3} after six",
    "Authorization: Bearer sk-proj-{k}", "ssn 536-22-{d4}",
)  # fmt: skip
HARMLESS = (
    "order 77-{d3}",
    "on 2026-01-{b2} at 12:30",
    "for 129.90 EUR",
    "ticket {d5}",
    "version 4.2.{b}",
    "in 3 to 5 days",
)


@dataclass(slots=True)
class Planted:
    """What a log holds, by kind: what capture must account for."""

    interactions: int = 0
    feedback: int = 0
    duplicates: int = 0
    bad: int = 0
    with_personal_data: int = 0
    bytes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def lines(self) -> int:
        return self.interactions + self.feedback + self.duplicates + self.bad


class Texts:
    """Sentences of a made-up language with the lengths and the oddities of real ones."""

    def __init__(self, seed: int, personal: float):
        self.chance = random.Random(seed)
        words = ["".join(self.chance.choices(SYLLABLES, k=self.chance.randint(1, 4))) for _ in range(8000)]
        popular = [1 / (rank + 2) for rank in range(len(words))]
        drawn = iter(self.chance.choices(words, popular, k=400_000))
        self.sentences = [
            " ".join(next(drawn) for _ in range(self.chance.randint(4, 24))).capitalize() + "." for _ in range(20_000)
        ]
        self.personal = personal

    def text(self, most: int) -> tuple[str, bool]:
        """A text of up to about `most` sentences, one in 500 fifty times as long; and whether it holds personal data."""
        c = self.chance
        n = max(1, min(int(c.lognormvariate(0.5, 0.8)), most)) * (50 if c.random() < 0.002 else 1)
        start = c.randrange(len(self.sentences) - 1000)
        parts = self.sentences[start : start + n]
        roll, holds = c.random(), False
        if roll < 0.15:
            parts.append(self.filled(c.choice(HARMLESS)))
        elif roll < 0.2:
            parts.append(c.choice(OTHER_SCRIPTS))
        elif roll < 0.2 + self.personal:
            parts.append(self.filled(c.choice(PERSONAL)))
            holds = True
        return (" " if c.random() < 0.7 else "\n").join(parts), holds

    def filled(self, pattern: str) -> str:
        c = self.chance
        return pattern.format(
            n=f"kim.{c.choice(SYLLABLES)}{c.randint(1, 999)}", d3=f"{c.randint(0, 999):03}", d4=f"{c.randint(1, 9999):04}",
            d5=c.randint(10_000, 99_999), d7=c.randint(1_000_000, 9_999_999), b=c.randint(1, 254), b2=f"{c.randint(1, 28):02}",
            k=f"{c.getrandbits(160):040x}",
        )  # fmt: skip


def write_log(path: Path, interactions: int, seed: int = 1, personal: float = 0.03, bad: float = 0.001) -> Planted:
    """Write a log of about `interactions` interactions (1.4 kB each) and a tenth as many feedback events."""
    texts, chance, planted = Texts(seed, personal), random.Random(seed + 1), Planted()
    path.parent.mkdir(parents=True, exist_ok=True)
    recent: list[bytes] = []
    session = 0
    with path.open("wb") as log:

        def put(line: bytes) -> None:
            log.write(line + b"\n")
            planted.bytes += len(line) + 1

        while planted.interactions < interactions:
            session += 1
            user, at = f"user-{chance.randint(1, 200_000)}", START + timedelta(seconds=session * 2.7)
            history: list[dict[str, str]] = []
            for turn in range(min(1 + int(chance.expovariate(0.7)), 12)):
                row, holds = _interaction(texts, chance, f"{session}-{turn}", session, user, at, history)
                line = _dumped(row)
                put(line)
                planted.interactions += 1
                planted.with_personal_data += holds
                history = [*row["messages"], {"role": "assistant", "content": row["response"]}][-6:]
                at += timedelta(seconds=chance.uniform(5, 300))
                if chance.random() < 0.1:
                    put(_dumped(_feedback(texts, chance, f"{session}-{turn}", user, at)))
                    planted.feedback += 1
                if chance.random() < 0.005:
                    put(chance.choice(recent) if recent else line)
                    planted.duplicates += 1
                if chance.random() < 0.01:
                    recent = [*recent[-50:], line]
                if chance.random() < bad:
                    reason, broken = _broken(chance, row)
                    put(broken)
                    planted.bad += 1
                    planted.reasons[reason] = planted.reasons.get(reason, 0) + 1
    return planted


def _interaction(texts, chance, name, session, user, at, history):
    question, in_question = texts.text(3)
    answer, in_answer = texts.text(6)
    documents = [texts.text(5) for _ in range(chance.choice((0, 0, 1, 2, 3)))]
    row = {
        "flywheel": "interaction/1",
        "id": f"r-{name}",
        "session_id": f"s-{session}",
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "user_id": user,
        "messages": [*history, {"role": "user", "content": question}],
        "response": answer,
        "contexts": [
            {"id": f"kb-{chance.randint(1, 5000)}", "text": text, "score": chance.random()} for text, _ in documents
        ],
        "model_served": "velora-large-2",
        "prompt_version": "7",
        "finish_reason": "stop",
        "latency_ms": chance.lognormvariate(6.5, 0.6),
        "input_tokens": chance.randint(20, 4000),
        "output_tokens": chance.randint(1, 900),
    }
    return row, in_question or in_answer or any(holds for _, holds in documents)


def _feedback(texts, chance, name, user, at):
    row = {
        "flywheel": "feedback/1",
        "id": f"f-{name}",
        "target": {"response_id": f"r-{name}"},
        "name": "thumb",
        "value": chance.random() < 0.6,
        "user_id": user,
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if chance.random() < 0.2:
        row["comment"] = texts.text(1)[0]
    return row


def _broken(chance, row):
    whole = _dumped(row)
    return chance.choice(
        (
            ("bad_json", whole[: len(whole) // 2]),
            ("bad_time", _dumped(row | {"id": row["id"] + "-t", "time": "yesterday"})),
            ("missing_field", _dumped({k: v for k, v in row.items() if k != "id"})),
            ("bad_json", whole[:30] + b"\xff\xfe" + whole[30:]),
            ("unknown_dialect", b'{"who": "knows", "what": 1}'),
        )
    )


def _dumped(row) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
