"""Which tokens are masked? Training rows anew each time, evaluation rows once for all.

Masks that were drawn in every evaluation would move its score; so those of the evaluation rows are
drawn once, when the rows are prepared, from a seed that never changes: every evaluation, run and
recipe is scored on the same ones.

Source: Devlin et al. 2019, section 3.1, arXiv 1810.04805: 15 % of the tokens, of which 80 % become
the mask, 10 % another token, 10 % stay. The draws are transformers' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

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

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns the batch with "labels"."""
        if "labels" in rows[0]:
            return dict(self._pads(rows))
        return draw_masks(self._masks, rows)


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
