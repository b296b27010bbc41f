"""Which tokens are to be told? A batch for the model, its masks drawn anew in every epoch.

    each word (or token): chosen with probability p
    each chosen token:    80 % [MASK], 10 % any token, 10 % as it was        loss on these alone

The draw is a function of (seed, epoch, rows of the batch), never of how often a generator was
asked before: a run that goes on from a checkpoint sees the masks that it would have seen.

Source: Devlin et al. 2019 (arXiv:1810.04805), section 3.1; whole words as in their code of May
2019; drawn anew as in Liu et al. 2019 (arXiv:1907.11692), section 4.1. transformers' own collator
replaces the chosen tokens; for whole words it would replace all of them by [MASK], and it takes
words that touch (5.23), such as "film" and ".", for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DataCollatorForLanguageModeling,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_stabilizer.pretraining.options import MASKED
from hf_stabilizer.pretraining.rows import NO_WORD

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# Any in this module: rows of tokens, and what the Trainer hands to every callback.
IGNORED = -100
"""Label of a token without loss."""
_FIXED = 2**32 - 1  # stands for the epoch where masks are drawn once and for all


class LanguageModelingCollator:
    """Pads rows and draws masks, for the Trainer's `data_collator`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        objective: str,
        mlm_probability: float = 0.15,
        seed: int = 0,
    ):
        """Takes what the rows of `make_rows` are to become.

        Args:
            tokenizer: Pads, and brings the mask token.
            objective: "mlm", "clm" or "mlm+nsp".
            mlm_probability: p, in (0, 1); not with "clm".
            seed: Of the masks, 0 or more.
        """
        self.epoch = 0
        self.seed = seed
        self._pad = int(tokenizer.pad_token_id or 0)
        self._probability = mlm_probability
        self._is_masked = objective in MASKED
        if self._is_masked:  # All that are chosen here are masked there: probability 1.
            self._replacing = DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.0)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns the batch: (rows, length) each, and (rows,) the labels of sentence pairs."""
        ids = _padded(examples, "input_ids", self._pad)
        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        real = torch.arange(ids.shape[1]) < lengths[:, None]  # (rows, length)
        batch = {"input_ids": ids, "attention_mask": real.long()}
        if "token_type_ids" in examples[0]:
            batch["token_type_ids"] = _padded(examples, "token_type_ids", 0)
        if "labels" in examples[0]:
            batch["labels"] = _padded(examples, "labels", IGNORED)
        elif self._is_masked:
            words = _padded(examples, "words", NO_WORD)
            generator = self._generator([int(example["row"]) for example in examples])
            batch["input_ids"], batch["labels"] = self._mask(ids, words, generator, least_one=True)
        else:
            batch["labels"] = ids.masked_fill(~real, IGNORED)
        if "next_sentence_label" in examples[0]:
            told = [int(example["next_sentence_label"]) for example in examples]
            batch["next_sentence_label"] = torch.tensor(told)
        return batch

    def fix_masks(self, rows: Dataset) -> Dataset:
        """Masks rows once and for all, so that perplexities of different models compare.

        A row in which nothing was chosen has no part in perplexity and is left out; of a sentence
        pair one word is chosen then, as its other label counts all the same.
        """
        if not self._is_masked:
            return rows
        least_one = "next_sentence_label" in rows.column_names

        def fixed(row: Mapping[str, Any]) -> dict[str, Any]:
            ids, words = torch.tensor([row["input_ids"]]), torch.tensor([row["words"]])
            generator = self._generator([int(row["row"])], epoch=_FIXED)
            ids, labels = self._mask(ids, words, generator, least_one=least_one)
            return {"input_ids": ids[0].tolist(), "labels": labels[0].tolist()}

        masked = [{**row, **fixed(row)} for row in rows]
        return type(rows).from_list([row for row in masked if max(row["labels"]) > IGNORED])

    def _generator(self, rows: Sequence[int], *, epoch: int | None = None) -> torch.Generator:
        entropy = [self.seed, self.epoch if epoch is None else epoch, *rows]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def _mask(
        self,
        ids: torch.Tensor,
        words: torch.Tensor,
        generator: torch.Generator,
        *,
        least_one: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = self._choose(words, generator, least_one=least_one)  # (rows, length)
        self._replacing.generator = generator
        masked, labels = self._replacing.torch_mask_tokens(ids.clone(), special_tokens_mask=~chosen)
        return masked, labels

    def _choose(
        self, words: torch.Tensor, generator: torch.Generator, *, least_one: bool
    ) -> torch.Tensor:
        count = max(1, int(words.max()) + 1)
        drawn = torch.rand(words.shape[0], count, generator=generator) < self._probability
        may = words > NO_WORD
        chosen = drawn.gather(1, words.clamp(min=0)) & may
        if least_one and not chosen.any() and may.any():  # a loss over nothing is no number
            places = may.nonzero()
            row, place = places[int(torch.randint(len(places), (), generator=generator))]
            chosen = (words == words[row, place]) & (torch.arange(len(words)) == row)[:, None]
        return chosen


class EpochCallback(TrainerCallback):
    """Tells the collator which epoch begins."""

    def __init__(self, collator: LanguageModelingCollator):
        self.collator = collator

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts whole epochs, also when the run goes on within one."""
        self.collator.epoch = math.floor((state.epoch or 0) + 1e-9)


def _padded(examples: Sequence[Mapping[str, Any]], name: str, value: int) -> torch.Tensor:
    columns = [torch.tensor(example[name]) for example in examples]
    return pad_sequence(columns, batch_first=True, padding_value=value)
