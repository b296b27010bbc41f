"""How would one say it otherwise? Into another language and back, with two seq2seq models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.augmentation.rewriting import load_seq2seq, rewrite
from hf_stabilizer.augmentation.technique import Rated, change_chosen
from hf_stabilizer.errors import check_whole


@dataclass(frozen=True)
class BackTranslate(Rated):
    """Translates a text into another language and back, with the probability `rate`.

    With `sample=False` (beam search) it is the same each time, so one copy is enough. A text that
    comes back empty stays as it was; `augment` adds no rows that stay as they were.

    Raises:
        ConfigurationError: A value is out of range, or a model is no seq2seq model.

    Source: Sennrich, Haddow and Birch, "Improving Neural Machine Translation Models with
    Monolingual Data", 2016 (arXiv:1511.06709); as augmentation Xie et al. 2020 (arXiv:1904.12848).
    """

    model: str
    """Translates from the language of the texts: a Hub id, a folder or `pkg://package/path`."""
    back_model: str
    """Translates back."""
    rate: float = 1.0
    """Chance of each text, in [0, 1]; rows that stay as they are, all at 0, are not added."""
    prefix: str = ""
    """What stands before each text, as T5 wants it: "translate English to German: "."""
    back_prefix: str = ""
    """The same on the way back."""
    num_beams: int = 4
    """Beams of the search, 1 or more; without effect on samples."""
    sample: bool = False
    """Draw each token by its probability, so that copies differ."""
    max_new_tokens: int = 128
    """Tokens to write at most, 1 or more."""

    name = "back-translate"
    is_slow = True
    rewrites = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.num_beams, "1 or more", name="num_beams", least=1)
        check_whole(self.max_new_tokens, "1 or more", name="max_new_tokens", least=1)
        load_seq2seq(self.model)
        load_seq2seq(self.back_model)

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the texts as they come back."""
        return change_chosen(texts, draws, self.rate, self._there_and_back)

    def _there_and_back(self, texts: list[str], draws: Sequence[random.Random]) -> list[str]:
        beams = 1 if self.sample else self.num_beams
        options = {
            "num_beams": beams, "do_sample": self.sample, "max_new_tokens": self.max_new_tokens
        }  # fmt: skip
        seeds = [draws[0].getrandbits(31) for _ in range(2)] if draws else [0, 0]
        there = rewrite(texts, self.model, prefix=self.prefix, seed=seeds[0], **options)
        return rewrite(there, self.back_model, prefix=self.back_prefix, seed=seeds[1], **options)
