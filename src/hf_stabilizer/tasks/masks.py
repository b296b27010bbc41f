"""Which tokens are masked? Training rows anew each time, evaluation rows once for all.

Masks that were drawn in every evaluation would move its score; so those of the evaluation rows are
drawn once, when the rows are prepared, from a seed that never changes: every evaluation, run and
recipe is scored on the same ones.

Those of a training batch are a function of (seed, epoch, its tokens), never of how often a
generator was asked before: batches are made ahead of their step, so a run that goes on from a
checkpoint would draw others from the generator that the checkpoint brings.

Source: Devlin et al. 2019, section 3.1, arXiv 1810.04805: 15 % of the tokens, of which 80 % become
the mask, 10 % another token, 10 % stay. The draws are transformers' own.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import (
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerBase,
        Trainer,
        TrainerState,
    )

    from hf_stabilizer.tasks.encoders import Encoder, Rows

# Any in this module: rows and batches.
EVALUATION_SEED = 0
"""Seed of the masks of validation and test rows."""
TRIES = 100
"""How often masks are drawn until one token is masked: rows of a word or two are often spared, and
a batch without any has a loss that is no number."""


class MaskingCollator:
    """Pads a batch, and masks it unless it was masked before; for `Trainer(data_collator=...)`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        import transformers

        self._masks = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True)
        self._pads = transformers.DataCollatorForTokenClassification(tokenizer)
        self._seed: int | None = None
        self._epoch = 0

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns the batch with "labels"; without a Trainer to follow by torch's own generator."""
        if "labels" in rows[0]:
            return dict(self._pads(rows))
        if self._seed is None:
            return draw_masks(self._masks, rows)
        self._masks.generator = self._generator(rows, self._seed)
        try:
            return draw_masks(self._masks, rows)
        finally:
            self._masks.generator = None

    def follow(self, trainer: Trainer) -> None:
        """Takes the seed of a Trainer, and hears of its epochs."""
        from transformers import TrainerCallback

        def begin(args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
            self._epoch = math.floor((state.epoch or 0) + 1e-9)  # also where one is gone on within

        epochs = TrainerCallback()
        epochs.on_epoch_begin = begin  # type: ignore[method-assign]  # no class at import
        self._seed = int(trainer.args.seed)
        trainer.add_callback(epochs)

    def _generator(self, rows: list[dict[str, Any]], seed: int) -> torch.Generator:
        import torch

        tokens = [zlib.crc32(np.asarray(row["input_ids"], np.int64).tobytes()) for row in rows]
        state = np.random.SeedSequence([seed, self._epoch, *tokens]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def draw_masks(
    collator: DataCollatorForLanguageModeling, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns a masked batch with one masked token at least, where any can be masked."""
    for _ in range(TRIES):
        batch = collator([dict(row) for row in rows])
        if bool((batch["labels"] != -100).any()):
            break
    return dict(batch)


def fixed_masks(texts: Encoder, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Returns an encoder whose rows are masked, each by itself; the draws depend on their order."""
    import torch
    import transformers

    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True)
    # Its own seed is refused in a process that is not the first (transformers 5.23).
    collator.generator = torch.Generator().manual_seed(EVALUATION_SEED)

    def encode(rows: Rows) -> dict[str, list[Any]]:
        found = texts(rows)
        masked = [draw_masks(collator, [{"input_ids": ids}]) for ids in found["input_ids"]]
        return {
            **found,
            "input_ids": [row["input_ids"][0].tolist() for row in masked],
            "labels": [row["labels"][0].tolist() for row in masked],
        }

    return encode
