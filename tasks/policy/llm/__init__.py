"""Language models behind the policy interface: trained with TRL on the dataset's own JSON lines, served from a folder, no pickle.

    train(Path("data/dataset"), Path("data/model"), Path("data/checkpoints"), params)   ->  Trained(summary, curves)
    data/model/policy.json        {"kind":"llm","form":"whole","base":"Qwen/Qwen3-0.6B","revision":"c1899de2…", …}
    data/model/model/             config.json, model.safetensors, tokenizer.json, chat_template.jinja …   (form: whole)
    data/model/adapter/           adapter_config.json, adapter_model.safetensors, the tokenizer           (form: adapter)
    data/model/reward/…           the reward model, in the same two forms, where one was trained

docs/training.md says how it is used. Everything that needs torch is imported inside functions: the extra [llm] may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from tasks.errors import Refused

KIND = "llm"
SFT, REWARD, DPO, KTO, GRPO = "sft", "reward", "dpo", "kto", "grpo"
# A method and the table of the dataset that it learns from.
TABLES = {SFT: "sft", REWARD: "reward", DPO: "preference", KTO: "unpaired", GRPO: "prompts"}
LORA, QLORA, FULL = "lora", "qlora", "full"
AUTO, FP32, BF16 = "auto", "fp32", "bf16"
CHECKS = "checks"
COUNTS = (
    "min_rows", "batch", "accumulation", "processes", "threads", "checkpoint_every", "max_new_tokens", "answer_batch", "lora_rank",
)  # fmt: skip
NEEDS = ("torch", "trl", "peft", "accelerate")


@dataclass(frozen=True, slots=True)
class LlmParams:
    """The section `llm` of params.yaml; each key is explained there. `…_rate` are learning rates, lengths are in tokens."""

    base: str
    revision: str
    methods: list[str]
    min_rows: int
    tuning: str
    merge: bool
    lora_rank: int
    lora_alpha: int
    lora_dropout: float
    lora_targets: list[str]
    precision: str
    max_length: int
    packing: bool
    assistant_only_loss: bool
    batch: int
    accumulation: int
    processes: int
    threads: int
    checkpoint_every: int
    seed: int
    sft_epochs: float
    sft_rate: float
    reward_epochs: float
    reward_rate: float
    dpo_epochs: float
    dpo_rate: float
    dpo_beta: float
    dpo_sft_share: float
    kto_epochs: float
    kto_rate: float
    kto_beta: float
    grpo_steps: int
    grpo_rate: float
    grpo_beta: float
    grpo_generations: int
    grpo_reward: str
    max_new_tokens: int
    answer_batch: int
    temperature: float


def check(params: LlmParams) -> None:
    """Raises Refused where the parameters contradict themselves, or ask for what is not installed."""
    needed()
    for name, value, known in (
        ("tuning", params.tuning, (LORA, QLORA, FULL)),
        ("precision", params.precision, (AUTO, FP32, BF16)),
        ("grpo_reward", params.grpo_reward, (REWARD, CHECKS)),
        *(("methods", method, tuple(TABLES)) for method in params.methods),
    ):
        if value not in known:
            raise Refused(f"params.yaml: llm.{name} is {value!r}", f"one of {', '.join(known)}")
    if len(set(params.methods)) < len(params.methods):
        raise Refused("params.yaml: llm.methods names a method twice", "raise its epochs instead")
    if not params.base:
        raise Refused("params.yaml: llm.base names no model", "a folder with safetensors, or the id of a model on the hub")
    for name in COUNTS:
        if getattr(params, name) < 1:
            raise Refused(f"params.yaml: llm.{name} is {getattr(params, name)}", "1 or more")
    if params.max_new_tokens >= params.max_length:
        raise Refused("params.yaml: llm.max_new_tokens leaves no room for a prompt", "make it smaller than llm.max_length")
    if GRPO in params.methods:
        if params.grpo_generations < 2 or params.batch * params.accumulation * params.processes % params.grpo_generations:
            raise Refused(
                f"params.yaml: llm.grpo_generations is {params.grpo_generations}; the answers to a prompt are compared with each"
                " other, and must fit into whole batches",
                "2 or more, and a divisor of batch × accumulation × processes",
            )
        before = params.methods[: params.methods.index(GRPO)]
        if params.grpo_reward == REWARD and REWARD not in before:
            raise Refused("llm.grpo_reward is the reward model, and none is trained before grpo", "put reward before grpo")
    if KTO in params.methods and params.batch < 2:
        raise Refused("kto compares the rows of a batch, and llm.batch is 1", "llm.batch: 2 or more, with less accumulation")


def needed() -> None:
    """Raises Refused where the extra is not installed."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise Refused(
            f"a language model needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            "make llm (torch for processors), or pip install 'flywheel[llm]' with the torch of your GPU",
        )
