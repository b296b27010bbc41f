"""Is there a moment between the gradients and the step that they make?"""

from __future__ import annotations

from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from hf_stabilizer.errors import ConfigurationError


def refuse_hidden_steps(name: str, args: TrainingArguments) -> None:
    """Raises where the optimizer takes its step inside the backward pass.

    Args:
        name: The callback that asks, for the message.
        args: The Trainer's arguments.

    Raises:
        ConfigurationError: DeepSpeed, LOMO, GaLore and APOLLO layer by layer.
    """
    stepping = ""
    if args.deepspeed_plugin is not None:
        stepping = "DeepSpeed"
    elif (optim := str(OptimizerNames(args.optim).value)).endswith(("lomo", "layerwise")):
        stepping = f"optim={optim!r}"
    if stepping:
        raise ConfigurationError(
            f"{name} cannot be combined with {stepping}, which changes the weights inside the "
            "backward pass, where no callback sees the gradients; use another one, or leave the "
            "callback out"
        )
