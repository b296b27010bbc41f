"""In which batches is a model asked? As the Trainer batches an evaluation, longest rows first."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_stabilizer.member import Member
from hf_stabilizer.prediction.loading import precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from hf_stabilizer.tasks import PreparedTask

# Any in this module: what a model takes by name.


@dataclass(frozen=True)
class Batch:
    """Some rows, padded, on the device of the model."""

    places: Sequence[int]
    """The place of each in the rows that were given."""
    inputs: dict[str, Any]
    """What the model takes, but for labels."""
    labels: torch.Tensor | None
    """The labels, if the task has any."""


@contextmanager
def asking(model: PreTrainedModel, member: Member) -> Iterator[None]:
    """Within it a model computes in the precision of its run, and remembers nothing for gradients.

    Not in `batches`: a generator that an error leaves behind would stay in that mode.
    """
    import torch

    with torch.inference_mode(), precision(member, model.device):
        yield


def batches(model: PreTrainedModel, prepared: PreparedTask, *, batch_size: int) -> Iterator[Batch]:
    """Yields the `validation` rows of a task.

    Args:
        model: Says where the batches go, and which inputs it takes.
        prepared: What `tokenised` returned.
        batch_size: Rows per forward pass, the longest rows first.
    """
    rows = prepared.validation
    places = prepared.validation_rows or tuple(range(len(rows)))
    takes = set(inspect.signature(model.forward).parameters)
    collate = prepared.data_collator
    for start in range(0, len(rows), batch_size):
        chosen = range(start, min(start + batch_size, len(rows)))
        batch = collate([rows[row] for row in chosen])
        inputs = {k: v.to(model.device) for k, v in batch.items() if k in takes}
        labels = inputs.pop("labels", None)
        yield Batch([places[row] for row in chosen], inputs, labels)
