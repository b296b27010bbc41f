"""Which optimizers, and which ways of sharding, cannot have a rate per layer?

Those that make parameter groups of their own, that step inside the backward pass, or that flatten
the layers into one tensor: the rates would be dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from transformers import TrainingArguments

from hf_stabilizer.errors import ConfigurationError

# Values of `args.optim` whose optimizer makes groups of its own or steps inside backward. Those
# that are installed are recognised by what the Trainer's table returns; these by name, because
# their ImportError would come first.
_OWN_GROUPS = ("galore", "apollo", "lomo", "adalomo", "muon", "dion")


def refuse_conflicts(args: TrainingArguments) -> None:
    """Raises where the arguments alone show that rates per layer would be lost.

    Raises:
        ConfigurationError: An optimizer with groups of its own, a DeepSpeed configuration with an
            optimizer or a scheduler, or FSDP 1 with flattened parameters.
    """
    name = _name(args)
    if name.startswith(_OWN_GROUPS) or "layerwise" in name:
        raise _own_groups(name)
    deepspeed = getattr(getattr(args, "deepspeed_plugin", None), "deepspeed_config", None) or {}
    for section in {"optimizer", "scheduler"} & deepspeed.keys():
        raise ConfigurationError(
            f"the DeepSpeed configuration has a section {section!r}, which drops the rates of the "
            f"layers; remove {section!r} from it, so that the Trainer's own is used"
        )
    fsdp = args.fsdp_config if args.fsdp and isinstance(args.fsdp_config, dict) else {}
    if str(fsdp.get("use_orig_params", True)).lower() == "false":
        raise ConfigurationError(
            "fsdp_config has use_orig_params=False, which flattens the layers into one tensor; "
            "use FSDP2 (version 2), or equal rates"
        )


# Any: whatever stands in the Trainer's table of optimizers.
def refuse_own_groups(args: TrainingArguments, kind: Any, kwargs: Mapping[str, Any]) -> None:
    """Raises for what is no class that takes groups: a factory, or one that brings its own.

    Args:
        args: Name the optimizer, for the message.
        kind: The first half of what `Trainer.get_optimizer_cls_and_kwargs(args)` returned.
        kwargs: The second half; the Trainer takes groups or the model from these keys.

    Raises:
        ConfigurationError: It cannot have a rate per layer.
    """
    is_class = isinstance(kind, type) and issubclass(kind, Optimizer)
    if not is_class or {"params", "model", "optimizer_dict"} & kwargs.keys():
        raise _own_groups(_name(args))


def _name(args: TrainingArguments) -> str:
    """The value of the enum, whose `str()` would be the name of the member."""
    return str(getattr(args.optim, "value", args.optim))


def _own_groups(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"optim={name!r} makes parameter groups of its own, so it cannot have a rate per layer; "
        "choose another optimizer, such as 'adamw_torch', or equal rates"
    )
