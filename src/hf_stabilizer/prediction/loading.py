"""Where are the weights of a trained model, and how are they loaded to be asked?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.member import Member
from hf_stabilizer.models import auto_class
from hf_stabilizer.prediction.bars import without_bars

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Any in this module: contexts of torch.


@contextlib.contextmanager
def loaded(member: Member) -> Iterator[PreTrainedModel]:
    """Loads the weights in evaluation mode, on the GPU if there is one, and frees them after.

    Raises:
        ConfigurationError: They cannot be loaded.
    """
    import torch
    from transformers.utils import logging

    with without_bars(logging):
        try:
            model: PreTrainedModel = auto_class(member.task).from_pretrained(
                str(member.model_folder), dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"the model in {str(member.model_folder)!r} cannot be loaded: {error}"
            ) from error
    model.to(_device(member))  # type: ignore[arg-type]  # as transformers decorates `to`
    yield model.eval()
    model.to("cpu")  # type: ignore[arg-type]


def precision(member: Member, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Half precision where the run's evaluations had it, and the device has it, too."""
    import torch

    values = member.configuration.values if member.configuration is not None else {}
    kind = torch.bfloat16 if values.get("bf16") else torch.float16 if values.get("fp16") else None
    if kind is None or (device.type == "cpu" and kind == torch.float16):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=kind)


def tokenizer_folder(member: Member) -> Path:
    """A checkpoint may lack the tokenizer; its run has it."""
    places = (member.model_folder, member.folder.parent / "model")
    for place in places:
        if (place / "tokenizer_config.json").is_file():
            return place
    return member.model_folder


def _device(member: Member) -> torch.device:
    import torch

    if member.configuration is not None and member.configuration.values.get("use_cpu"):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
