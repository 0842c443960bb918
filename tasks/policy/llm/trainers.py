"""The five trainings, each by TRL's own trainer on the dataset's own rows, and each taken up again where it was killed.

    train(DPO, Start(base, Weights(adapter=Path("…/0-sft/done/model"))), rows, params, Path("…/2-dpo"))   ->  Ended(model, log)

What a method needs beside the model (what it is held against, the reward) is put together here; when, in which order and where the
results lie is `training`'s matter.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
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

from tasks.errors import Refused
from tasks.policy.llm import CHECKS, DPO, GRPO, KTO, REWARD, SFT, LlmParams, models
from tasks.policy.llm.checks import verified
from tasks.policy.llm.exact import accelerated
from tasks.policy.llm.models import Base, Weights
from tasks.policy.llm.rows import Row, taught, too_long

WHOLE = "whole"  # in a checkpoint, once all of it is written
KEPT = 2  # checkpoints


@dataclass(frozen=True, slots=True)
class Start:
    """Where a method begins: the base, what was made of it so far, the reward model if there is one by now."""

    base: Base
    policy: Weights
    judge: Weights | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The trained model (or its adapter) with its state, the tokenizer, TRL's log (a dict a step), and who took part."""

    model: PreTrainedModel | PeftModel
    state: Any
    tokenizer: PreTrainedTokenizerBase
    log: Sequence[dict[str, float]]
    steps: int
    too_long: int
    accelerator: Any


def train(method: str, start: Start, rows: Sequence[Row], params: LlmParams, place: Path) -> Ended:
    """One method to its end, from the last whole checkpoint in `place` if there is one."""
    tokenizer = models.tokens(start.policy.whole or start.base.folder)
    trainer = _MAKE[method](start, rows, params, place, tokenizer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(_Watch(method, params))
    trainer.train(resume_from_checkpoint=_gone_on(method, _last_whole(place)))
    accelerator = trainer.accelerator
    state = accelerator.get_state_dict(trainer.model)
    log = [x for x in trainer.state.log_history if "loss" in x]
    model = accelerator.unwrap_model(trainer.model)
    return Ended(model, state, tokenizer, log, trainer.state.global_step, too_long(rows, tokenizer, params.max_length), accelerator)


def _sft(start: Start, rows: Sequence[Row], params: LlmParams, place: Path, tokenizer: PreTrainedTokenizerBase) -> SFTTrainer:
    """A row is a prompt and its right answer, so the loss on the completion is the loss on the assistant's words, whatever the
    template marks; earlier turns of the assistant are what was served, right or wrong, and are not learned."""
    args = SFTConfig(
        **_common(params, place, params.sft_rate), num_train_epochs=params.sft_epochs, max_length=params.max_length,
        packing=params.packing, completion_only_loss=params.assistant_only_loss,
    )  # fmt: skip
    model = models.causal(start.base, start.policy, params)
    return SFTTrainer(model, args, train_dataset=taught(rows), processing_class=tokenizer)


def _reward(
    start: Start, rows: Sequence[Row], params: LlmParams, place: Path, tokenizer: PreTrainedTokenizerBase
) -> RewardTrainer:
    args = RewardConfig(
        **_common(params, place, params.reward_rate), num_train_epochs=params.reward_epochs, max_length=params.max_length
    )
    model = models.classifier(start.base, start.policy, params)
    model.config.pad_token_id = tokenizer.pad_token_id
    return RewardTrainer(model, args=args, train_dataset=taught(rows), processing_class=tokenizer)


def _dpo(start: Start, rows: Sequence[Row], params: LlmParams, place: Path, tokenizer: PreTrainedTokenizerBase) -> DPOTrainer:
    """With a share of the supervised loss on the chosen answer: DPO alone lowers both answers of a pair (likelihood displacement;
    Pang et al. 2024, iterative reasoning preference optimisation)."""
    mixed = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, params.dpo_sft_share]} if params.dpo_sft_share else {}
    args = DPOConfig(
        **_common(params, place, params.dpo_rate), num_train_epochs=params.dpo_epochs, max_length=params.max_length,
        beta=params.dpo_beta, **mixed,
    )  # fmt: skip
    return DPOTrainer(
        models.causal(start.base, start.policy, params), models.reference(start.base, start.policy, params), args,
        train_dataset=taught(rows), processing_class=tokenizer,
    )  # fmt: skip


def _kto(start: Start, rows: Sequence[Row], params: LlmParams, place: Path, tokenizer: PreTrainedTokenizerBase) -> KTOTrainer:
    """Its estimate of the divergence pairs a row with its neighbours, so the trainer does not shuffle: we do."""
    mixed = list(rows)
    random.Random(params.seed).shuffle(mixed)
    args = KTOConfig(
        **_common(params, place, params.kto_rate), num_train_epochs=params.kto_epochs, max_length=params.max_length,
        beta=params.kto_beta,
    )  # fmt: skip
    return KTOTrainer(
        models.causal(start.base, start.policy, params), models.reference(start.base, start.policy, params), args,
        train_dataset=taught(mixed), processing_class=tokenizer,
    )  # fmt: skip


def _grpo(start: Start, rows: Sequence[Row], params: LlmParams, place: Path, tokenizer: PreTrainedTokenizerBase) -> GRPOTrainer:
    args = GRPOConfig(
        **_common(params, place, params.grpo_rate), max_steps=params.grpo_steps, beta=params.grpo_beta,
        num_generations=params.grpo_generations, max_completion_length=params.max_new_tokens, temperature=params.temperature,
    )  # fmt: skip
    if params.grpo_reward == CHECKS:
        judging: dict[str, Any] = {"reward_funcs": [verified]}
    else:
        judge = models.judge(start.base, start.judge)
        judge.config.pad_token_id = tokenizer.pad_token_id
        judging = {"reward_funcs": [judge], "reward_processing_classes": [tokenizer]}
    model = models.causal(start.base, start.policy, params)
    return GRPOTrainer(model, args=args, train_dataset=taught(rows), processing_class=tokenizer, **judging)


_MAKE: dict[str, Callable[..., Any]] = {SFT: _sft, REWARD: _reward, DPO: _dpo, KTO: _kto, GRPO: _grpo}


def _common(params: LlmParams, place: Path, rate: float) -> dict[str, Any]:
    """Every step is logged: a loss that is no number must be seen when it appears, not as an average of numbers without it."""
    gpu = accelerated()
    return {
        "output_dir": str(place), "learning_rate": rate, "per_device_train_batch_size": params.batch,
        "gradient_accumulation_steps": params.accumulation, "lr_scheduler_type": "linear", "warmup_steps": 0.05,
        "seed": params.seed, "data_seed": params.seed, "bf16": models.precise(params), "use_cpu": not gpu,
        "gradient_checkpointing": gpu, "logging_steps": 1, "logging_nan_inf_filter": False, "report_to": "none",
        "disable_tqdm": True, "save_strategy": "steps", "save_steps": params.checkpoint_every, "save_total_limit": KEPT,
        "dataloader_num_workers": 0,
    }  # fmt: skip


def _last_whole(place: Path) -> str | None:
    """The newest checkpoint that was written to its end; what was not is swept away."""
    whole = {}
    for folder in place.glob("checkpoint-*"):
        if (folder / WHOLE).is_file():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return str(whole[max(whole)]) if whole else None


def _gone_on(method: str, checkpoint: str | None) -> str | None:
    if checkpoint is not None:
        print(f"{method}: goes on from {checkpoint}", file=sys.stderr, flush=True)
    return checkpoint


class _Watch(TrainerCallback):
    """Marks checkpoints as whole, and stops at a loss or gradient that is no number."""

    def __init__(self, method: str, params: LlmParams):
        self.method, self.params = method, params

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise Refused(
                    f"{self.method}: the {name} is {logs[name]} at step {state.global_step}; nothing was saved",
                    f"lower llm.{self.method}_rate (it is {args.learning_rate:g}), or llm.precision: fp32",
                )
