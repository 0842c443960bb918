"""A language model as a policy: it writes the answer, or picks among the texts that it is offered.

    LlmPolicy.load(Path("data/model")).respond([[{"role": "user", "content": "when do I see my money?"}]], [[]], n=2)
    ->  [[Reply(action="", text="Refunds take five days.", confidence=0.83), Reply("", "Refunds take a week.", 0.41)]]

Confidence is the geometric mean of the chances that the model gave each token of its answer: exp(mean log p). It ranks the answers
of one model and is not calibrated: a model may be sure and wrong.

Like the rows that it was trained on, a prompt is what the application itself sent: documents that it put into its messages are in
them, and `contexts` are not put in a second time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from tasks.errors import Refused
from tasks.policy import Context, Messages, Reply
from tasks.policy.llm import KIND, REWARD, LlmParams, models, needed
from tasks.policy.llm.exact import accelerated, fixed, quiet
from tasks.policy.llm.models import Base, Weights
from tasks.records import canonical, read_jsonl

WHOLE, ADAPTER, MODEL = "whole", "adapter", "model"
DIGITS = 6  # of a confidence: the last bits of a float are the machine's


@dataclass(frozen=True, slots=True)
class Described:
    """policy.json: what else is needed to answer as the training meant it. `form` is WHOLE, or ADAPTER on `base`, which then lies
    elsewhere and must have `base_digest`."""

    kind: str
    form: str
    base: str
    revision: str
    base_digest: str
    reward: bool
    max_length: int
    max_new_tokens: int
    temperature: float
    batch: int
    threads: int
    seed: int

    @classmethod
    def of(cls, base: Base, params: LlmParams, form: str, reward: bool) -> Described:
        return cls(
            kind=KIND, form=form, base=params.base, revision=params.revision, base_digest=base.digest, reward=reward,
            max_length=params.max_length, max_new_tokens=params.max_new_tokens, temperature=params.temperature,
            batch=params.answer_batch, threads=params.threads, seed=params.seed,
        )  # fmt: skip

    def write(self, folder: Path) -> None:
        (folder / "policy.json").write_bytes(canonical(asdict(self)) + b"\n")


@dataclass(frozen=True, slots=True)
class Judge:
    """The reward model: a score for a whole conversation, higher is better; only differences mean something."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    described: Described

    def score(self, conversations: Sequence[Messages], responses: Sequence[str]) -> list[float]:
        """One score a response."""
        said = [[*c, {"role": "assistant", "content": r}] for c, r in zip(conversations, responses, strict=True)]
        ids = [self.tokenizer.apply_chat_template(s, return_dict=True)["input_ids"][-self.described.max_length :] for s in said]
        scores = [0.0] * len(ids)
        with fixed(self.described.threads), torch.inference_mode():
            for rows in _batches(ids, self.described.batch):
                padded = _padded([ids[k] for k in rows], self.tokenizer, self.model.device)
                found = self.model(**padded).logits[:, 0].float().tolist()
                for k, score in zip(rows, found, strict=True):
                    scores[k] = score
        return scores


@dataclass(frozen=True, slots=True)
class Turn:
    """The tokens of what was said before an answer, and of the answer, with whatever the template puts at its end."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class LlmPolicy:
    """`folder` is where it was loaded from: a model that was not changed is saved by copying it."""

    folder: Path
    described: Described
    model: Any
    tokenizer: PreTrainedTokenizerBase
    judge: Judge | None

    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        """The likeliest answer; with n > 1 also n - 1 that are drawn (equal seed, equal draws), best first: by the reward model
        if there is one, else by confidence. Of `offered` texts the n best by the same measure, with their chances as confidence."""
        if not conversations:
            return []
        with fixed(self.described.threads), torch.inference_mode():
            if offered is not None:
                return [self._chosen(list(c), list(t), n) for c, t in zip(conversations, offered, strict=True)]
            prompts = [self._prompt(c) for c in conversations]
            found = self._written(prompts, None)
            if n == 1:
                return [[reply] for reply in found]
            drawn = [self._written(prompts, self.described.seed + k) for k in range(n - 1)]
        return [self._ranked(list(c), [found[k], *(d[k] for d in drawn)]) for k, c in enumerate(conversations)]

    def likelihood(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float]:
        """The mean log-probability of each answer's tokens after its prompt (0 for an answer without tokens)."""
        whole = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
        means = [0.0] * len(whole)
        for rows in _batches(whole, self.described.batch):
            longest = max(len(answers[k]) for k in rows)
            if not longest:
                continue
            padded = _padded([whole[k] for k in rows], self.tokenizer, self.model.device)
            logits = self.model(**padded, logits_to_keep=longest + 1).logits[:, :-1].float()
            said = padded["input_ids"][:, -longest:]
            chances = logits.log_softmax(-1).gather(-1, said.unsqueeze(-1)).squeeze(-1)
            for row, k in zip(chances, rows, strict=True):
                if answers[k]:
                    means[k] = float(row[-len(answers[k]) :].mean())
        return means

    def save(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    @classmethod
    def load(cls, folder: Path) -> LlmPolicy:
        """Raises Refused where the extra is not installed, or the base of an adapter is not the one that it was trained on."""
        needed()
        quiet()
        described = Described(**next(read_jsonl(folder / "policy.json")))
        base = None
        if described.form == ADAPTER:
            base = models.found(described.base, described.revision, near=folder.resolve())
            if base.digest != described.base_digest:
                raise Refused(f"{folder} is an adapter on another {described.base} than the one here", "put that model back there")
        tokenizer, model = _loaded(AutoModelForCausalLM, folder, base)
        judge = None
        if described.reward:
            own, scorer = _loaded(AutoModelForSequenceClassification, folder / REWARD, base, num_labels=1)
            scorer.config.pad_token_id = own.pad_token_id
            judge = Judge(scorer, own, described)
        return cls(folder, described, model, tokenizer, judge)

    def _prompt(self, conversation: Messages) -> list[int]:
        """Tokens of what was said; of one that is too long, its end."""
        ids = self.tokenizer.apply_chat_template(list(conversation), add_generation_prompt=True, return_dict=True)["input_ids"]
        return ids[-(self.described.max_length - self.described.max_new_tokens) :]

    def _written(self, prompts: list[list[int]], seed: int | None) -> list[Reply]:
        """An answer to each prompt: the likeliest tokens, or with a seed drawn ones."""
        drawing = {"do_sample": False} if seed is None else {"do_sample": True, "temperature": self.described.temperature}
        answers: list[list[int]] = [[] for _ in prompts]
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0 if seed is None else seed)
            for rows in _batches(prompts, self.described.batch):
                padded = _padded([prompts[k] for k in rows], self.tokenizer, self.model.device)
                made = self.model.generate(
                    **padded, **drawing, max_new_tokens=self.described.max_new_tokens, top_k=0, top_p=1.0,
                    pad_token_id=self.tokenizer.pad_token_id, eos_token_id=self._ends(),
                )  # fmt: skip
                for k, row in zip(rows, made[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
                    answers[k] = _until(row, ends)
        chances = self.likelihood(prompts, answers)
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [Reply("", t.strip(), _confidence(c)) for t, c in zip(texts, chances, strict=True)]

    def _ends(self) -> list[int]:
        known = self.model.generation_config.eos_token_id
        return sorted({self.tokenizer.eos_token_id, *(known if isinstance(known, list) else [known] if known is not None else [])})

    def _ranked(self, conversation: list[dict[str, Any]], replies: list[Reply]) -> list[Reply]:
        """Each text once, best first."""
        unique = list({r.text: r for r in reversed(replies)}.values())[::-1]
        if self.judge is None:
            return sorted(unique, key=lambda r: -r.confidence)
        scores = dict(zip(unique, self.judge.score([conversation] * len(unique), [r.text for r in unique]), strict=True))
        return sorted(unique, key=lambda r: -scores[r])

    def _chosen(self, conversation: list[dict[str, Any]], texts: list[str], n: int) -> list[Reply]:
        if self.judge is not None:
            scores = self.judge.score([conversation] * len(texts), texts)
        else:
            turns = [self.turn(conversation, t) for t in texts]
            scores = self.likelihood([t.prompt for t in turns], [t.answer for t in turns])
        chances = torch.tensor(scores).softmax(0).tolist()
        best = sorted(range(len(texts)), key=lambda k: (-scores[k], k))[:n]
        return [Reply("", texts[k], round(chances[k], DIGITS)) for k in best]

    def turn(self, conversation: Messages, text: str) -> Turn:
        """A text as the assistant's turn after a conversation."""
        said = [*conversation, {"role": "assistant", "content": text}]
        whole = self.tokenizer.apply_chat_template(said, return_dict=True)["input_ids"]
        before = self.tokenizer.apply_chat_template(list(conversation), add_generation_prompt=True, return_dict=True)["input_ids"]
        return Turn(self._prompt(conversation), whole[len(before) :][: self.described.max_new_tokens])


def _loaded(kind: Any, folder: Path, base: Base | None, **more: Any) -> tuple[PreTrainedTokenizerBase, Any]:
    """A tokenizer and its model, whole or as an adapter; of a base that nothing was trained on, the base's."""
    whole, adapter = folder / MODEL, folder / ADAPTER
    if whole.is_dir():
        place, model = whole, models.opened(kind, None, Weights(whole=whole), **more)
    elif adapter.is_dir():
        place, model = adapter, models.opened(kind, base.folder, Weights(adapter=adapter), **more)
    else:
        place, model = base.folder, models.opened(kind, base.folder, Weights(), **more)
    return models.tokens(place), model.to("cuda" if accelerated() else "cpu")


def _batches(ids: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Positions in batches of like length: little is padded."""
    order = sorted(range(len(ids)), key=lambda k: (len(ids[k]), k))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _padded(ids: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase, device: Any) -> dict[str, torch.Tensor]:
    """On the left: what is generated stands at the end of every row."""
    width = max(map(len, ids))
    tokens = torch.tensor([[tokenizer.pad_token_id] * (width - len(x)) + list(x) for x in ids], device=device)
    mask = torch.tensor([[0] * (width - len(x)) + [1] * len(x) for x in ids], device=device)
    return {"input_ids": tokens, "attention_mask": mask}


def _until(row: list[int], ends: set[int]) -> list[int]:
    """The tokens up to the first end, with it: how sure a model is that it is done counts too."""
    for at, token in enumerate(row):
        if token in ends:
            return row[: at + 1]
    return row


def _confidence(mean_log: float) -> float:
    return round(min(1.0, max(0.0, float(torch.tensor(mean_log).exp()))), DIGITS)
