"""What reaches a layer when the model looks at rows?

Only what lies behind the model's logits counts: of a decoder's last linear layer the input at
the last token, of a multiple-choice head one input per choice, of a tagger one per token. Which
those are is the model's own affair and is not guessed: for the pass, the layer's outputs are
replaced by a number for each input, and the numbers that come out as logits name the inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hf_stabilizer.errors import ConfigurationError, DataError

BATCH_SIZE = 32

# Any in this module: rows and batches hold whatever the tokenizer and the collator put there.


class Rows(Protocol):
    """A map-style dataset of tokenised rows, a `datasets.Dataset` among them."""

    def __len__(self) -> int:
        """Returns the number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """Returns one row, most often a mapping with "input_ids" and "label"."""


@dataclass(frozen=True)
class Observation:
    """One batch as the layer saw it, on the CPU."""

    inputs: Tensor
    """(batch, features), (batch, choices, features) or (batch, tokens, features)"""
    labels: Tensor
    """As the collator made them."""
    are_choices: bool
    """Whether a row's logits are the layer's only output for several inputs."""

    @property
    def per_token(self) -> bool:
        """Whether there are logits for every token."""
        return self.inputs.ndim == 3 and not self.are_choices


def observe_inputs(
    model: nn.Module, layer: nn.Linear, dataset: Rows, data_collator: Callable[[list[Any]], Any]
) -> list[Observation]:
    """Returns the inputs of `layer` behind each logit, batch by batch, in one pass over the rows.

    In evaluation mode, without gradients and autocast, on the layer's device. The rows come
    longest first: that saves padding, and a batch too large for the memory fails at once.

    Raises:
        ConfigurationError: The model's logits are not outputs of `layer`.
        DataError: There are no rows, or no labels.
    """
    rows = _rows(model, dataset)
    batches = (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))
    with evaluation_mode(model), torch.no_grad():
        return [_observe(model, layer, data_collator(batch)) for batch in batches]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts all modules in evaluation mode, and each back in its own mode at the end.

    Example:
        >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluation_mode(model):
        ...     [module.training for module in model]
        [False, False]
        >>> [module.training for module in model]
        [True, False]
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _rows(model: nn.Module, dataset: Rows) -> list[Any]:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            "the rows must have a length and be found by index, got a "
            f"{type(dataset).__name__}; collect a stream's rows in a list first"
        )
    if not len(dataset):
        raise DataError("the dataset has no rows; at least two labelled ones are needed")
    names = _forward_names(model)
    rows = [_known_columns(dataset[index], names) for index in range(len(dataset))]
    return sorted(rows, key=_length, reverse=True)


def _forward_names(model: nn.Module) -> set[str]:
    """Names of the model's inputs, behind wrappers that show only **kwargs."""
    inner: Any = model
    for wrapped in ("_orig_mod", "module"):
        inner = getattr(inner, wrapped, inner)
    if hasattr(inner, "get_base_model"):  # PEFT
        inner = inner.get_base_model()
    return set(inspect.signature(inner.forward).parameters)


def _known_columns(row: Any, names: set[str]) -> Any:
    """Leaves out texts and the like, as the Trainer does.

    A row without any input of the model is the business of a collator that tokenises.
    """
    labels = {"label", "label_ids", "labels"}
    if not isinstance(row, Mapping) or not row.keys() & (names - labels):
        return row
    return {key: row[key] for key in row if key in names | labels}


def _length(row: Any) -> int:
    """Tokens of a row, of all its choices together."""
    tokens = row.get("input_ids", ()) if isinstance(row, Mapping) else ()
    return tokens.numel() if isinstance(tokens, Tensor) else sum(np.size(part) for part in tokens)


def _observe(model: nn.Module, layer: nn.Linear, batch: Mapping[str, Any]) -> Observation:
    device = layer.weight.device
    arguments = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    labels = arguments.pop("labels", None)
    if labels is None:
        raise DataError(
            f'the collator must make "labels", and made {sorted(batch)}; name the label column '
            '"label" or "labels"'
        )
    met: list[Tensor] = []

    def number(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        met.append(args[0])
        numbers = _numbers(args[0]).view(*output.shape[:-1], 1)
        return numbers.repeat_interleave(output.shape[-1], dim=-1)

    hook = layer.register_forward_hook(number)
    try:
        with torch.autocast(device.type, enabled=False):
            logits = _logits(model(**arguments))
    finally:
        hook.remove()
    # A head may call its last layer more than once (multi-sample dropout): in evaluation mode
    # all calls are alike.
    if not met or not all(torch.equal(met[0], other) for other in met[1:]):
        raise _foreign_logits()
    inputs, are_choices = _behind(logits, met[0], layer.out_features)
    return Observation(inputs.cpu(), torch.as_tensor(labels).cpu(), are_choices)


def _numbers(inputs: Tensor) -> Tensor:
    """Returns a number for each input (..., features), shuffled so that no mean imitates one.

    In single precision, which holds whole numbers up to 2^24 whatever the dtype of the model.
    """
    count = inputs[..., 0].numel()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order.to(inputs.device, torch.float32)


def _behind(logits: Tensor, inputs: Tensor, outputs: int) -> tuple[Tensor, bool]:
    """Returns the inputs that the numbers among the logits name, and whether they are choices."""
    are_choices = outputs == 1 and logits.ndim == 2 and logits.shape[1] > 1
    numbers = logits
    if logits.ndim > 1 and not are_choices:
        numbers = logits[..., 0]
        if logits.shape[-1] != outputs or not torch.equal(
            logits, numbers[..., None].expand_as(logits)
        ):
            raise _foreign_logits()
    flat = inputs.reshape(-1, inputs.shape[-1])
    whole = (numbers == numbers.round()) & (numbers >= 0) & (numbers < len(flat))
    if not whole.all():
        raise _foreign_logits()
    places = _numbers(inputs).argsort()[numbers.long()]
    return flat[places], are_choices


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits")
    elif isinstance(outputs, tuple):
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise _foreign_logits()
    return outputs


def _foreign_logits() -> ConfigurationError:
    return ConfigurationError(
        "the model's logits are not, or not only, the outputs of its last linear layer (they may "
        "be averaged, scaled, or several), so that layer cannot be fitted; leave fit_head out"
    )
