"""What could stand there instead? Tokens replaced by what a masked language model expects.

    text -> chosen tokens masked -> model -> top k of each place -> one drawn, or the likeliest

The label is not asked about: at high rates a word may come in that turns the meaning, so keep the
rate low, and let the study tell whether it helps.

Source: Kobayashi, "Contextual Augmentation", 2018 (arXiv:1805.06201), without its condition on the
label; Wu et al. 2019 (arXiv:1812.06705) for BERT.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from hf_stabilizer.augmentation.technique import Rated
from hf_stabilizer.augmentation.tokens import (
    Window,
    masking_tokenizer,
    windows_of,
    with_spans_replaced,
)
from hf_stabilizer.errors import ConfigurationError, check_choice, check_whole, first_line
from hf_stabilizer.models import check_whole_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

HOW = ("sample", "top")
_MARKS = ("##", "\u0120", "\u2581")  # How a token says whether it begins a word.
_WINDOWS = 32  # Windows in a batch.


@dataclass(frozen=True)
class ReplaceTokens(Rated):
    """Replaces each token with the probability `rate` by another that the model expects there.

    A replacement is never the token itself, never special, has letters or digits as the token had,
    and begins a word where the token did. Special tokens are not touched, the label is kept.

    Raises:
        ConfigurationError: A value is out of range, or there is no such masked language model.
    """

    model: str
    """A masked language model: a Hub id, a folder or `pkg://package/path`."""
    rate: float = 0.1
    """Chance of each token, in [0, 1]; 0 leaves texts as they are."""
    top_k: int = 10
    """So many of the likeliest tokens are drawn from, 1 or more."""
    how: str = "sample"
    """"sample": drawn by their probabilities. "top": the likeliest one."""

    name = "replace"
    is_slow = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.top_k, "1 or more", name="top_k", least=1)
        check_choice(self.how, HOW, name="how")
        masking_tokenizer(self.model)
        _masked_model(self.model)

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the texts with other tokens."""
        tokenizer = masking_tokenizer(self.model)
        changes: list[list[tuple[int, int, str]]] = [[] for _ in texts]
        chosen = [
            (window, [at for at, (start, end) in enumerate(window.spans) if end > start
                      and draws[window.text].random() < self.rate])
            for window in windows_of(texts, tokenizer)
        ]  # fmt: skip
        working = [(window, places) for window, places in chosen if places]
        for at in range(0, len(working), _WINDOWS):
            batch = working[at : at + _WINDOWS]
            for (window, places), guesses in zip(batch, self._expected(batch), strict=True):
                draw = draws[window.text]
                for place, guess in zip(places, guesses, strict=True):
                    word = self._choose(window.ids[place], guess, draw)
                    if word is not None:
                        changes[window.text].append((*window.spans[place], word))
        return [with_spans_replaced(text, mine) for text, mine in zip(texts, changes, strict=True)]

    def _expected(self, batch: Sequence[tuple[Window, list[int]]]) -> list[torch.Tensor]:
        """Returns for each window the log-probabilities of its chosen places."""
        import torch

        tokenizer, model = masking_tokenizer(self.model), _masked_model(self.model)
        rows = [{"input_ids": list(window.ids)} for window, _ in batch]
        inputs = tokenizer.pad(rows, return_tensors="pt").to(model.device)
        for row, (_, places) in enumerate(batch):
            inputs["input_ids"][row, places] = tokenizer.mask_token_id
        with torch.inference_mode():
            logits = model(**inputs).logits.float()  # (windows, tokens, vocabulary)
        return [logits[row, places].log_softmax(-1).cpu() for row, (_, places) in enumerate(batch)]

    def _choose(self, old: int, guess: torch.Tensor, draw: random.Random) -> str | None:
        """Draws from the top k that may stand in for the token; None if none may."""
        kinds, words = _vocabulary(self.model)
        if kinds[old] is None:
            return None
        order: list[int] = guess.argsort(descending=True, stable=True).tolist()
        fitting = [one for one in order if one != old and kinds[one] == kinds[old]][: self.top_k]
        if not fitting:
            return None
        if self.how == "top":
            return words[fitting[0]]
        weights: list[float] = guess[fitting].double().exp().tolist()
        return words[draw.choices(fitting, weights)[0]] if sum(weights) > 0 else words[fitting[0]]


@cache
def _masked_model(name: str) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForMaskedLM

    from hf_stabilizer.data import resolve_location

    try:
        model, loaded = AutoModelForMaskedLM.from_pretrained(
            resolve_location(name), dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{name!r} is no masked language model that can be loaded: {first_line(error)}"
        ) from error
    check_whole_model(name, loaded["missing_keys"], "fill in masks")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    model.eval()
    found: PreTrainedModel = model
    return found


@cache
def _vocabulary(name: str) -> tuple[list[str | None], list[str]]:
    """Returns the kind of each token, its mark; None for what may not be replaced; and its word."""
    tokenizer = masking_tokenizer(name)
    size = len(_masked_model(name).get_input_embeddings().weight)  # type: ignore[arg-type]
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    special = set(tokenizer.all_special_ids)
    kinds: list[str | None] = []
    words: list[str] = []
    for place, piece in enumerate(pieces):
        mark = next((mark for mark in _MARKS if piece.startswith(mark)), "")
        word = str(tokenizer.decode([place])).strip().removeprefix("##")
        is_word = any(letter.isalnum() for letter in word) and "\ufffd" not in word
        kinds.append(mark if is_word and place not in special else None)
        words.append(word)
    lacking = size - len(kinds)  # Rows of the embeddings that no token has.
    return kinds + [None] * lacking, words + [""] * lacking
