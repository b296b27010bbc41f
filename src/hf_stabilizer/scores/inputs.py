"""What does each score take from what a Trainer's evaluation hands out?

kind                  predictions                        labels
one label, a choice   (rows, classes)                    (rows,)
several labels        (rows, classes)                    (rows, classes), 0 or 1
regression            (rows,) or (rows, 1)               (rows,)
token-classification  (rows, tokens, classes)            (rows, tokens), -100 where none
language-model        (rows, tokens), `token_losses`     not read
generation            (rows, tokens), ids, padded        (rows, tokens), ids, -100 padded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.scores.score import MULTI, Array, Kind, Wants
from hf_stabilizer.scores.tokens import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOST = "?-?"
# Any in this module: predictions and references of any of the kinds above.


@dataclass(frozen=True)
class Outputs:
    """What was put out for the evaluated rows, and what is right."""

    predictions: Array
    """As the model or `preprocess_logits_for_metrics` made them."""
    labels: Array
    """As the data set has them."""
    kind: Kind
    """Of the labels."""
    label_names: Sequence[str] | None = None
    """Names of the classes; None: their numbers."""
    tokenizer: PreTrainedTokenizerBase | None = None
    """What turns ids into texts; None: no score of texts is asked for."""
    references: Sequence[str] | None = None
    """The texts that are right, whole; None: the labels are read as texts, as far as they go."""

    def read(self, wants: Wants) -> tuple[Any, Any]:
        """Returns (predictions, references) as a score wants them."""
        if wants == "scores":
            return self.predictions, self.labels
        if wants == "losses":
            return _as_losses(self.predictions), None
        if wants == "numbers":
            return self.predictions.reshape(len(self.predictions)).astype(np.float64), self.labels
        if wants == "tags":
            return self._found_tags(), self._tags(self.labels)
        if wants == "texts":
            return self._texts(self.predictions), self._references()
        if wants == "tokens":
            return self._tokens(self.predictions), None
        if self.kind == MULTI:
            flags = self.labels.astype(np.int64)
            # A probability over 1/2 is a logit over 0.
            chosen = np.where(np.isnan(self.predictions), 1 - flags, self.predictions > 0)
            return chosen.astype(np.int64), flags
        return self._classes(), self.labels

    def _classes(self) -> Array:
        """Returns the class with the largest logit.

        A row whose logits are not numbers says nothing and counts as wrong: the largest of NaNs
        would be class 0, and a model that diverged would be right wherever that is the answer.
        """
        lost = np.isnan(self.predictions).any(axis=-1)
        wrong = (self.labels + 1) % self.predictions.shape[-1]
        classes: Array = np.where(lost, wrong, self.predictions.argmax(-1))
        return classes

    def _tags(self, classes: Array) -> list[list[str]]:
        """Returns the names of the tokens that have a label, row by row."""
        names = self.label_names
        return [
            [str(c) if names is None else names[c] for c in row[labels != IGNORED]]
            for row, labels in zip(classes, self.labels, strict=True)
        ]

    def _found_tags(self) -> list[list[str]]:
        """Returns the names of the predicted tags; the one of a lost token is nobody's name."""
        lost: Array = np.any(np.isnan(self.predictions), axis=-1, keepdims=False)  # (rows, tokens)
        return [
            [
                _LOST if is_lost else tag
                for tag, is_lost in zip(tags, row[labels != IGNORED], strict=True)
            ]
            for tags, row, labels in zip(
                self._tags(self.predictions.argmax(-1)), lost, self.labels, strict=True
            )
        ]

    def _references(self) -> list[str]:
        if self.references is None:
            return self._texts(self.labels)
        return [text.strip() for text in self.references]

    def _texts(self, ids: Array) -> list[str]:
        tokenizer = _needed(self.tokenizer)
        padded = np.where(_as_ids(ids) == IGNORED, tokenizer.pad_token_id, ids)
        texts = tokenizer.batch_decode(padded.tolist(), skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _tokens(self, ids: Array) -> list[list[int]]:
        left_out = {IGNORED, *_needed(self.tokenizer).all_special_ids}
        return [[i for i in row if i not in left_out] for row in _as_ids(ids).tolist()]


def _needed(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    assert tokenizer is not None  # asked for where the metrics are built
    return tokenizer


def _as_ids(ids: Array) -> Array:
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ConfigurationError(
            "scores of texts need the ids of generated tokens, of shape (rows, tokens), got "
            f"{ids.dtype} of shape {ids.shape}; set predict_with_generate=True"
        )
    return ids


def _as_losses(predictions: Array) -> Array:
    if predictions.ndim != 2:
        raise ConfigurationError(
            "perplexity needs losses of shape (rows, tokens), got predictions of shape "
            f"{predictions.shape}; use token_losses in preprocess_logits_for_metrics"
        )
    return predictions


def features_of(wants: Wants) -> Any:
    """Returns what `evaluate` checks the predictions and references against."""
    from datasets import Features, Sequence, Value

    number, whole, text = Value("float64"), Value("int64"), Value("string")
    both = {
        "scores": (Sequence(number), whole),
        "numbers": (number, number),
        "tags": (Sequence(text), Sequence(text)),
        "texts": (text, text),
    }
    alone = {"losses": Sequence(number), "tokens": Sequence(whole)}
    if wants in both:
        return Features(dict(zip(("predictions", "references"), both[wants], strict=True)))
    if wants in alone:
        return Features({"predictions": alone[wants]})
    one = Features({"predictions": whole, "references": whole})
    return [one, Features({"predictions": Sequence(whole), "references": Sequence(whole)})]
