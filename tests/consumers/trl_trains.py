"""Run by the consumers' Python: TRL and `datasets` read a data set from its folder, and TRL's trainers take their steps on it.

    python trl_trains.py FOLDER SCRATCH   ->  {"loaded": {"sft": {"train": 12}, …}, "trained": {"sft": 3.9, …}, …}   (the last line)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from trl.data_utils import is_conversational, maybe_apply_chat_template

# What every template in use does with tools: their schemas first, the arguments of a call as JSON.
TEMPLATE = """{%- if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|end|>{% endif -%}
{%- for message in messages %}<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] %}<|call|>{{ call.function.name }}{{ call.function.arguments | tojson }}
{%- endfor %}<|end|>{% endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}"""
TRAINED = ("sft", "preference", "unpaired", "reward", "prompts")


def main(folder: Path, scratch: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    said: dict[str, Any] = {"loaded": {}, "differs": [], "conversational": [], "trained": {}}
    tables = {}
    for name in datasets.get_dataset_config_names(str(folder)):
        tables[name] = datasets.load_dataset(str(folder), name, cache_dir=str(scratch / "cache"))
        said["loaded"][name] = {split: len(rows) for split, rows in tables[name].items()}
        for split, rows in tables[name].items():
            side = "holdout" if split == "test" else "train"
            if rows.to_list() != lines(folder / "jsonl" / side / name):
                said["differs"].append(f"{name}/{split}")
    tokens = tokenizer(folder)
    for name in TRAINED:
        rows = tables[name]["train"]
        if all(is_conversational(row) for row in rows):
            said["conversational"].append(name)
        # As the trainers do it: the text of the tools is opened first.
        shown = [maybe_apply_chat_template(row, tokens, tools=json.loads(row.get("tools", "[]"))) for row in rows]
        said.setdefault("texts", {})[name] = [{k: v for k, v in s.items() if isinstance(v, str)} for s in shown]
    said["trained"]["sft"], said["learned"] = sft(tables["sft"]["train"], tokens, scratch)
    said["trained"]["preference"] = dpo(tables["preference"]["train"], tokens, scratch)
    said["trained"]["unpaired"] = kto(tables["unpaired"]["train"], tokens, scratch)
    said["trained"]["reward"] = reward(tables["reward"]["train"], tokens, scratch)
    said["trained"]["prompts"], said["checked"] = grpo(tables["prompts"]["train"], tokens, scratch)
    print(json.dumps(said))


def lines(folder: Path) -> list[dict[str, Any]]:
    shards = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for shard in shards for line in shard.read_bytes().decode().split("\n") if line]


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Learned from the data set itself: there is no hub here."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    special = ["<pad>", "<|end|>", "<|tools|>", "<|call|>", *(f"<|{r}|>" for r in ("system", "user", "assistant", "tool"))]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learn = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train([str(p) for p in sorted((folder / "jsonl" / "train" / "sft").glob("*.jsonl"))], learn)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    return fast


def model(tokens: PreTrainedTokenizerFast, scratch: Path, cls: type = LlamaForCausalLM, **more: Any) -> Any:
    """A model of no size, from a folder: DPO and KTO load what they compare with from where the model came from."""
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=1024, pad_token_id=tokens.pad_token_id, eos_token_id=tokens.eos_token_id,
        bos_token_id=None, **more,
    )  # fmt: skip
    cls(config).save_pretrained(scratch / cls.__name__)
    return cls.from_pretrained(scratch / cls.__name__)


def common(scratch: Path, name: str) -> dict[str, Any]:
    return {
        "output_dir": str(scratch / name), "max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "bf16": False, "gradient_checkpointing": False, "seed": 1,
    }  # fmt: skip


def steps(trainer: Any) -> float:
    done = trainer.train()
    assert done.global_step == 2, done
    return done.training_loss


def sft(rows: Any, tokens: Any, scratch: Path) -> tuple[float, list[str]]:
    """The loss, and what of each row is learned, in words."""
    trainer = SFTTrainer(model(tokens, scratch), SFTConfig(**common(scratch, "sft")), train_dataset=rows, processing_class=tokens)
    learned = [tokens.decode([t for t in row["labels"] if t != -100]) for row in trainer.train_dataset]
    return steps(trainer), learned


def dpo(rows: Any, tokens: Any, scratch: Path) -> float:
    args = DPOConfig(**common(scratch, "dpo"))
    return steps(DPOTrainer(model(tokens, scratch), args=args, train_dataset=rows, processing_class=tokens))


def kto(rows: Any, tokens: Any, scratch: Path) -> float:
    args = KTOConfig(**common(scratch, "kto"))
    return steps(KTOTrainer(model(tokens, scratch), args=args, train_dataset=rows, processing_class=tokens))


def reward(rows: Any, tokens: Any, scratch: Path) -> float:
    judge = model(tokens, scratch, LlamaForSequenceClassification, num_labels=1)
    trainer = RewardTrainer(judge, args=RewardConfig(**common(scratch, "reward")), train_dataset=rows, processing_class=tokens)
    assert "margin" in trainer.train_dataset.column_names
    return steps(trainer)


def grpo(rows: Any, tokens: Any, scratch: Path) -> tuple[float, list[list[dict[str, Any]]]]:
    """The loss, and the checks as a reward function is given them."""
    given: list[list[dict[str, Any]]] = []

    def checked(completions: list, checks: list, ground_truth: list, **_: Any) -> list[float]:
        given.extend(checks)
        return [float(len(c[0]["content"]) % 5) for c in completions]

    args = GRPOConfig(**common(scratch, "grpo"), num_generations=2, max_completion_length=8)
    trainer = GRPOTrainer(model(tokens, scratch), reward_funcs=checked, args=args, train_dataset=rows, processing_class=tokens)
    return steps(trainer), given


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
