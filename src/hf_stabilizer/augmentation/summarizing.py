"""What is it in short? Texts replaced by what a seq2seq model makes of them in fewer words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.augmentation.rewriting import load_seq2seq, rewrite
from hf_stabilizer.augmentation.technique import Rated, change_chosen
from hf_stabilizer.errors import check_whole


@dataclass(frozen=True)
class Summarize(Rated):
    """Replaces a text by its summary, with the probability `rate`.

    Meant for texts of many sentences. What the label rests on may be lost; let the study tell. A
    summary that is empty leaves the text as it was, and `augment` adds no rows that stay as they
    were. Beam search, so the same each time.

    Raises:
        ConfigurationError: A value is out of range, or the model is no seq2seq model.
    """

    model: str
    """A seq2seq model that summarises: a Hub id, a folder or `pkg://package/path`."""
    rate: float = 1.0
    """Chance of each text, in [0, 1]; rows that stay as they are, all at 0, are not added."""
    prefix: str = ""
    """What stands before each text, as T5 wants it: "summarize: "."""
    num_beams: int = 4
    """Beams of the search, 1 or more."""
    max_new_tokens: int = 64
    """Tokens to write at most, 1 or more."""

    name = "summarize"
    is_slow = True
    rewrites = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.num_beams, "1 or more", name="num_beams", least=1)
        check_whole(self.max_new_tokens, "1 or more", name="max_new_tokens", least=1)
        load_seq2seq(self.model)

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the summaries."""
        return change_chosen(texts, draws, self.rate, self._summaries)

    def _summaries(self, texts: list[str], draws: Sequence[random.Random]) -> list[str]:
        return rewrite(
            texts,
            self.model,
            prefix=self.prefix,
            seed=0,
            num_beams=self.num_beams,
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
        )
