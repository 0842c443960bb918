"""Opening and saving language models: a base from a folder or the hub, adapters on it, reward models; safetensors only.

    base = found(params)                     ->  Base(folder=Path("models/tiny"), digest="5c0e…")
    causal(base, Weights(adapter=…), params) ->  a model with its adapter, ready to train or to answer

No code of a model's repository is run (trust_remote_code), and nothing that is pickled is read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from tasks.errors import Refused
from tasks.policy.llm import AUTO, BF16, FULL, QLORA, LlmParams
from tasks.policy.llm.exact import accelerated
from tasks.records import canonical, digest

COMMIT = re.compile("[0-9a-f]{40}")
READ = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")  # of a model on the hub; no pickle, no code
# For a base without a chat template of its own: no token that it does not know, and what the assistant says is marked.
TEMPLATE = """{%- if tools %}tools:
{{ tools | tojson }}{{ eos_token }}
{% endif -%}
{%- for message in messages -%}
{{ message.role }}:
{% if message.role == 'assistant' %}{% generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
call {{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}{{ eos_token }}{% endgeneration %}
{%- else %}{{ message.content or '' }}{{ eos_token }}{% endif %}
{% endfor -%}
{%- if add_generation_prompt %}assistant:
{% endif -%}"""


@dataclass(frozen=True, slots=True)
class Base:
    """A model to begin with, on this machine. `digest` is of its files, wherever they lie."""

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Weights:
    """What a training made: a whole model's folder, or an adapter's; neither: the base as it is."""

    whole: Path | None = None
    adapter: Path | None = None


def found(name: str, revision: str, near: Path | None = None) -> Base:
    """The base that params.yaml names. Raises Refused where it is missing, unpinned, changed, or without safetensors.

    A relative folder is looked for here, and in the folders that `near` lies in: a model of a workspace may be loaded anywhere.
    """
    places = [Path(), *([near, *near.parents] if near is not None else [])]
    folder = next((place / name for place in places if (place / name).is_dir()), None)
    if folder is None:
        folder = _fetched(name, revision)
        return Base(_whole(folder, name), f"{name}@{revision}")
    made = _digest(_whole(folder, name))
    if revision and not made.startswith(revision):
        raise Refused(f"the base {name} has the digest {made[:12]}, and llm.revision is {revision}", "put the right model there")
    return Base(folder, made)


def _fetched(name: str, revision: str) -> Path:
    if not COMMIT.fullmatch(revision):
        raise Refused(
            f"the base {name!r} is no folder; of a model on the hub llm.revision must name a commit: a branch changes unseen",
            "set llm.revision, or llm.base to the folder of a model",
        )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(READ)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
        raise Refused(
            f"the base {name}@{revision} could not be had: {e}", "check the name, or fetch it and name its folder"
        ) from None


def _whole(folder: Path, name: str) -> Path:
    if not (folder / "config.json").is_file():
        raise Refused(f"the base {name} has no config.json", "name a folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        raise Refused(
            f"the base {name} has no safetensors; weights in a pickle could run code and are not read",
            "convert it: save_pretrained(…, safe_serialization=True) where you trust it",
        )
    return folder


def _digest(folder: Path) -> str:
    """Of what is read of a model. In pieces: weights don't fit into memory twice."""
    named = []
    for path in sorted({p for pattern in READ for p in folder.glob(pattern)}):
        whole = sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 24):
                whole.update(piece)
        named.append([path.name, whole.hexdigest()])
    return digest(canonical(named))


def tokens(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with a chat template and a padding token."""
    made = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if made.eos_token is None:
        raise Refused(f"the tokenizer in {folder} has no end-of-text token", "give it one: an answer could never end")
    if made.pad_token is None:
        made.pad_token = made.eos_token
    if made.chat_template is None:
        made.chat_template = TEMPLATE
    made.padding_side = "left"
    return made


def precise(params: LlmParams) -> bool:
    """Whether to compute in bf16. Raises Refused where that, or 4-bit weights, are asked of a machine without a GPU for it."""
    able = accelerated() and torch.cuda.is_bf16_supported()
    if params.precision == BF16 and not able:
        raise Refused("llm.precision is bf16, and no GPU here computes in it", "llm.precision: auto, or fp32")
    if params.tuning == QLORA:
        _quantised()
    return able if params.precision == AUTO else params.precision == BF16


def _quantised() -> Any:
    from importlib.util import find_spec

    if not accelerated() or find_spec("bitsandbytes") is None:
        lacks = "no GPU" if not accelerated() else "no bitsandbytes"
        raise Refused(f"llm.tuning is qlora, and there is {lacks} here", "llm.tuning: lora, or a GPU and pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_use_double_quant=True
    )


def causal(base: Base, weights: Weights, params: LlmParams) -> PreTrainedModel | PeftModel:
    """The policy, ready to go on training: with an adapter (a new one, or the one that was trained so far) unless all is tuned."""
    model = _opened(AutoModelForCausalLM, weights.whole or base.folder, params)
    if params.tuning == FULL:
        return model
    if weights.adapter is not None:
        return PeftModel.from_pretrained(model, weights.adapter, is_trainable=True)
    return _adapted(model, params, "CAUSAL_LM", None)


def reference(base: Base, weights: Weights, params: LlmParams) -> PreTrainedModel | None:
    """What the policy is held against; with an adapter TRL keeps a copy of that, and no other model."""
    return _opened(AutoModelForCausalLM, weights.whole or base.folder, params) if params.tuning == FULL else None


def classifier(base: Base, weights: Weights, params: LlmParams) -> PreTrainedModel | PeftModel:
    """A reward model that knows nothing yet: the policy so far where all is tuned, else an adapter on the base; and a new head."""
    set_seed(params.seed)  # the head is drawn
    model = _opened(AutoModelForSequenceClassification, weights.whole or base.folder, params, num_labels=1)
    return model if params.tuning == FULL else _adapted(model, params, "SEQ_CLS", ["score"])


def _adapted(model: PreTrainedModel, params: LlmParams, task: str, kept: list[str] | None) -> PeftModel:
    set_seed(params.seed)  # an adapter's first matrix is drawn
    targets: Any = params.lora_targets[0] if params.lora_targets == ["all-linear"] else params.lora_targets
    config = LoraConfig(
        r=params.lora_rank, lora_alpha=params.lora_alpha, lora_dropout=params.lora_dropout, target_modules=targets,
        task_type=task, modules_to_save=kept,
    )  # fmt: skip
    return get_peft_model(model, config)


def _opened(kind: Any, folder: Path, params: LlmParams, **more: Any) -> PreTrainedModel:
    """All weights are tuned in fp32, with bf16 arithmetic where that is possible; frozen ones are held in bf16 then."""
    if params.tuning == QLORA:
        more["quantization_config"] = _quantised()
    held = torch.bfloat16 if precise(params) and params.tuning != FULL else torch.float32
    return _read(kind, folder, held, **more)


def _read(kind: Any, folder: Path, held: Any, **more: Any) -> PreTrainedModel:
    return kind.from_pretrained(
        folder, dtype=held, use_safetensors=True, trust_remote_code=False, local_files_only=True, **more
    )


def opened(kind: Any, base: Path | None, weights: Weights, **more: Any) -> PreTrainedModel | PeftModel:
    """A model to answer with, in the precision in which it was saved."""
    model = _read(kind, weights.whole or base, "auto", **more).eval()
    return model if weights.adapter is None else PeftModel.from_pretrained(model, weights.adapter).eval()


def judge(base: Base, weights: Weights) -> PreTrainedModel:
    """A reward model as one model: TRL's trainers take no adapters for one."""
    if weights.adapter is None:
        return opened(AutoModelForSequenceClassification, None, weights, num_labels=1)
    return merged(AutoModelForSequenceClassification, base, weights.adapter, num_labels=1)


def merged(kind: Any, base: Base, adapter: Path, **more: Any) -> PreTrainedModel:
    """A base with an adapter worked into its weights."""
    return opened(kind, base.folder, Weights(adapter=adapter), **more).merge_and_unload()


def save(model: PreTrainedModel | PeftModel, state: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, named: str) -> None:
    """A model or its adapter, and the tokenizer. `named` is how the base is called; where it lay on this machine stays out."""
    folder.mkdir(parents=True)
    if isinstance(model, PeftModel):
        # Not the copy that the trainer held it against.
        model.save_pretrained(folder, safe_serialization=True, state_dict=state, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)
        _tell(folder / "adapter_config.json", named)
    else:
        model.save_pretrained(folder, safe_serialization=True, state_dict=state)
    tokenizer.save_pretrained(folder)


def _tell(path: Path, named: str) -> None:
    """An adapter's settings in equal bytes: PEFT writes sets in any order."""
    settings = json.loads(path.read_bytes()) | {"base_model_name_or_path": named}
    path.write_bytes(canonical({k: sorted(v) if k == "target_modules" and isinstance(v, list) else v for k, v in settings.items()}))
