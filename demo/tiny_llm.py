"""A Llama of a few hundred thousand parameters: a tokenizer learned from texts, weights drawn at random, and what it reads first.

    base(Path("tiny"), texts=["user asks …", …], Size(hidden=96, layers=3), seed=1)   ->  a folder that `llm.base` can name
    pretrain(Path("tiny"), Path("read"), conversations, epochs=3, seed=1)             ->  the same model after it read them

It is a real model of the architecture that is served everywhere, only small enough for a processor and for tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
# What every template in use does with tools: their schemas first, the arguments of a call as JSON.
TEMPLATE = """{%- if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|end|>{% endif -%}
{%- for message in messages %}<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] %}<|call|>{{ call.function.name }}{{ call.function.arguments | tojson }}
{%- endfor %}<|end|>{% endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}"""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    vocabulary: int = 1200
    hidden: int = 96
    layers: int = 3
    heads: int = 4
    length: int = 512


def base(folder: Path, texts: Sequence[str], size: Size, seed: int) -> None:
    """Write a model that has learned nothing yet, and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    tokens = tokenizer(texts, size.vocabulary)
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=size.hidden, intermediate_size=3 * size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.heads, max_position_embeddings=size.length,
        tie_word_embeddings=True, pad_token_id=tokens.pad_token_id, eos_token_id=tokens.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokens.save_pretrained(folder)


def tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    special = ["<pad>", "<|end|>", "<|tools|>", "<|call|>", *(f"<|{role}|>" for role in ROLES)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learn = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, learn)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    return fast


def pretrain(
    folder: Path,
    to: Path,
    conversations: Sequence[Sequence[Message]],
    epochs: float,
    rate: float,
    batch: int,
    threads: int,
    seed: int,
) -> None:
    """Let a model read conversations, every word of them, and write what became of it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from tasks.policy.llm.exact import fixed, keep_memory, quiet

    quiet()
    keep_memory()
    tokens = AutoTokenizer.from_pretrained(folder)
    args = SFTConfig(
        output_dir=str(to), num_train_epochs=epochs, learning_rate=rate, per_device_train_batch_size=batch, warmup_steps=0.05,
        lr_scheduler_type="cosine", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, bf16=False,
        gradient_checkpointing=False, seed=seed, logging_steps=1000, train_sampling_strategy="group_by_length",
    )  # fmt: skip
    rows = Dataset.from_dict({"messages": [list(c) for c in conversations]})
    with fixed(threads):
        model = AutoModelForCausalLM.from_pretrained(folder)
        trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=tokens)
        trainer.train()
    shutil.rmtree(to, ignore_errors=True)
    trainer.model.save_pretrained(to)
    tokens.save_pretrained(to)
