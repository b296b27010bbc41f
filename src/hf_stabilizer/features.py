"""What reaches a layer when the model looks at rows?

Only what lies behind the model's logits counts: of a decoder's last linear layer the input at
the last token, of a multiple-choice head one input per choice, of a tagger one per token. Which
those are is the model's own affair and is not guessed: for the pass, the layer's outputs are
replaced by a number for each input, and the numbers that come out as logits name the inputs.
What the body's layers make of the same rows can be had from the same pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

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
    """One batch as the layer saw it, on the CPU but for the hidden states."""

    inputs: Tensor
    """(batch, features), (batch, choices, features) or (batch, tokens, features)"""
    labels: Tensor
    """As the collator made them."""
    are_choices: bool
    """Whether a row's logits are the layer's only output for several inputs."""
    rows: tuple[int, ...] = ()
    """Places in the dataset of the rows that the batch was made of."""
    hidden: tuple[Tensor, ...] = ()
    """What came out of the embeddings and of every block above them, if that was asked for;
    of an encoder-decoder the decoder's blocks follow the encoder's. On the model's device."""
    mask: Tensor | None = None
    """The attention mask, on the model's device; None if the model takes none."""

    @property
    def per_token(self) -> bool:
        """Whether there are logits for every token."""
        return self.inputs.ndim == 3 and not self.are_choices


Kept = TypeVar("Kept")


def observe_inputs(
    model: nn.Module,
    layer: nn.Linear,
    dataset: Rows,
    data_collator: Callable[[list[Any]], Any],
    *,
    keep: Callable[[Observation], Kept],
    indices: Sequence[int] | None = None,
    hidden_states: bool = False,
) -> list[Kept]:
    """Shows the rows to the model in one pass; returns what `keep` makes of each batch.

    In evaluation mode, without gradients and autocast, on the layer's device.

    Args:
        model: The model.
        layer: Its last linear layer.
        dataset: Tokenised rows with labels.
        data_collator: Makes a batch of a list of rows.
        keep: Called with each batch; None ends the pass early.
        indices: Places of the rows, in the order to go through them. None: all, the longest
            first; that saves padding, and a batch too large for the memory fails at once.
        hidden_states: Whether the observations hold the hidden states.

    Raises:
        ConfigurationError: The model's logits are not outputs of `layer`, or it shows no hidden
            states.
        DataError: There are no rows, or no labels.
    """
    check_rows(dataset)
    parameters = _forward_parameters(model)
    names = set(parameters)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if hidden_states and "output_hidden_states" not in names and not takes_any:
        raise _no_hidden_states()
    if indices is None:
        indices = longest_first(dataset, range(len(dataset)))
    kept = []
    with evaluation_mode(model), torch.no_grad():
        for start in range(0, len(indices), BATCH_SIZE):
            places = tuple(indices[start : start + BATCH_SIZE])
            batch = data_collator([_known_columns(dataset[place], names) for place in places])
            result = keep(_observe(model, layer, batch, places, hidden_states))
            if result is None:
                break
            kept.append(result)
    return kept


def check_rows(dataset: Rows) -> None:
    """Raises DataError if the rows cannot be counted and found by index, or there are none."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            "the rows must have a length and be found by index, got a "
            f"{type(dataset).__name__}; collect a stream's rows in a list first"
        )
    if not len(dataset):
        raise DataError("the dataset has no rows; at least two labelled ones are needed")


def longest_first(dataset: Rows, indices: Sequence[int]) -> list[int]:
    """Returns the places sorted by the tokens of their rows, the most first.

    Example:
        >>> longest_first([{"input_ids": [5]}, {"input_ids": [5, 6]}], [0, 1])
        [1, 0]
    """
    return sorted(indices, key=lambda place: _length(dataset[place]), reverse=True)


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


def _forward_parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The model's inputs by name, behind wrappers that show only **kwargs."""
    inner: Any = model
    for wrapped in ("_orig_mod", "module"):
        inner = getattr(inner, wrapped, inner)
    if hasattr(inner, "get_base_model"):  # PEFT
        inner = inner.get_base_model()
    return inspect.signature(inner.forward).parameters


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


def _observe(
    model: nn.Module,
    layer: nn.Linear,
    batch: Mapping[str, Any],
    places: tuple[int, ...],
    hidden_states: bool,
) -> Observation:
    device = layer.weight.device
    arguments = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    labels = arguments.pop("labels", None)
    if labels is None:
        raise DataError(
            f'the collator must make "labels", and made {sorted(batch)}; name the label column '
            '"label" or "labels"'
        )
    if hidden_states:
        arguments["output_hidden_states"] = True
    met: list[Tensor] = []

    def number(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        met.append(args[0])
        numbers = _numbers(args[0]).view(*output.shape[:-1], 1)
        return numbers.repeat_interleave(output.shape[-1], dim=-1)

    hook = layer.register_forward_hook(number)
    try:
        with torch.autocast(device.type, enabled=False):
            outputs = model(**arguments)
    finally:
        hook.remove()
    logits = _logits(outputs)
    # A head may call its last layer more than once (multi-sample dropout): in evaluation mode
    # all calls are alike.
    if not met or not all(torch.equal(met[0], other) for other in met[1:]):
        raise _foreign_logits()
    inputs, are_choices = _behind(logits, met[0], layer.out_features)
    return Observation(
        inputs.cpu(),
        torch.as_tensor(labels).cpu(),
        are_choices,
        places,
        _hidden_states(outputs) if hidden_states else (),
        arguments.get("attention_mask"),
    )


def _hidden_states(outputs: Any) -> tuple[Tensor, ...]:
    """Returns the hidden states from the embeddings upwards."""
    found = {
        name: getattr(outputs, name, None) or ()
        for name in ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
    }
    both = *found["encoder_hidden_states"], *found["decoder_hidden_states"][1:]
    states = tuple(found["hidden_states"]) or both
    if not states or any(state.ndim != 3 for state in states):
        raise _no_hidden_states()
    return states


def _no_hidden_states() -> ConfigurationError:
    return ConfigurationError(
        "the model shows no hidden states of shape (rows, tokens, features) when it is called "
        "with output_hidden_states=True, so its layers cannot be compared"
    )


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
        "be averaged, scaled, or several), so neither fit_head nor probe can work with it; leave "
        "fit_head out"
    )
