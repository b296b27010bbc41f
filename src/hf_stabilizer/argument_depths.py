"""Which depths do these options freeze, and which do they draw anew?

`transfer_layers` without `transfer_from` says from below what `reinit_layers` says from above: of N
blocks the lowest n keep what the checkpoint brought, so N - n start anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from hf_stabilizer.arguments import StabilizerArguments


def frozen_depths(args: TrainingArguments, num_layers: int) -> range:
    """Returns the depths that `prepare_model` freezes for the whole run; none of plain arguments.

    Args:
        args: `StabilizerArguments`, or any.
        num_layers: N, the blocks of the model.
    """
    if getattr(args, "freeze_body", False):
        return range(num_layers + 1)
    blocks = getattr(args, "freeze_layers", 0)
    return range(0 if getattr(args, "freeze_embeddings", False) else 1, blocks + 1)


def keeps_lowest(args: StabilizerArguments) -> bool:
    """Whether `transfer_layers` speaks of the model's own checkpoint."""
    return args.transfer_layers is not None and args.transfer_from is None


def fresh_blocks(args: StabilizerArguments, num_layers: int) -> int:
    """Returns how many of the top blocks start anew."""
    if args.transfer_layers is not None and args.transfer_from is None:
        return num_layers - args.transfer_layers
    return args.reinit_layers


def pooler_choice(args: StabilizerArguments) -> str:
    """Returns what becomes of the pooler: "true", "false", "identity" or "auto"."""
    default = "true" if args.reinit_layers or keeps_lowest(args) else "false"
    return args.reinit_pooler or default


def draws_layers(args: StabilizerArguments) -> bool:
    """Whether anything beside a new head is drawn: blocks, or the pooler."""
    return bool(args.reinit_layers) or keeps_lowest(args) or pooler_choice(args) != "false"
