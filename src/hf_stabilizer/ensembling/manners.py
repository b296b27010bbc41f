"""How is a model of each task asked about rows, and what is written beside them?

    task                             asked for                 written
    text-classification and -        outputs of each row       see `predicted`
    regression, multiple-choice
    token-classification             outputs of each word      prediction, probability: lists
    seq2seq                          a text for each row       prediction
    causal-lm                        loss of each row          negative_log_likelihood,
                                                               perplexity, tokens

What is said lies in arrays that numpy writes without pickling, rows (or words) on the first axis.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.ensembling.combining import combine as combined
from hf_stabilizer.ensembling.gathering import Answers, kind_of, without_lost
from hf_stabilizer.ensembling.predicted import PREDICTION, prediction_columns
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.prediction import (
    UNREAD,
    Member,
    losses_of,
    outputs_of,
    texts_of,
    tokenise,
    words_of,
)
from hf_stabilizer.prediction.columns import checked_words
from hf_stabilizer.scores import NUMBER, SINGLE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_stabilizer.data.columns import Columns
    from hf_stabilizer.ensembling.request import Request

# Any in this module: cells of a table.
logger = logging.getLogger(__name__)
PROBABILITY = "probability"


@dataclass(frozen=True)
class Manner:
    """What `predict` does for a task."""

    say: Callable[[PreTrainedModel, Member, pd.DataFrame, Columns, int], Array]
    """From a loaded model, what it is, rows, columns and batch size to what it says of the rows."""
    write: Callable[[Request, Array], pd.DataFrame]
    """From what all members say, [members, ...], to the columns that stand beside the rows."""
    sample: Callable[[Request], Array]
    """From a request for one row to an array as members could say it, to try `write` out with."""
    check: Callable[[Request], object]
    """Raises if what these models say of these rows could not be combined."""


def manner_of(task: str) -> Manner:
    """Returns how models of a task are asked.

    Raises:
        ConfigurationError: They have no answer to a whole row.

    Example:
        >>> manner_of("masked-lm")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: a model trained for masked-lm foretells masked
        words and says nothing of a row as a whole; fill masks with transformers'
        pipeline("fill-mask", model=...), or train causal-lm to score texts
    """
    if task == "masked-lm":
        raise ConfigurationError(
            "a model trained for masked-lm foretells masked words and says nothing of a row as a "
            'whole; fill masks with transformers\' pipeline("fill-mask", model=...), or train '
            "causal-lm to score texts"
        )
    return _MANNERS.get(task, _NUMBERS)


def _check_numbers(request: Request) -> None:
    """Whether they can be combined is seen where a sample of them is."""


def _check_alone(request: Request) -> None:
    task = request.members[0].task
    if len(request.members) > 1:
        raise ConfigurationError(
            f"{len(request.members)} models are named, and what models for {task} say of a row has "
            "no mean; name one"
        )
    if request.combine != "mean_probability":
        raise ConfigurationError(
            f"combine={request.combine!r} is for several models, and one for {task} is asked "
            "alone; leave it out"
        )


def _say_numbers(
    model: PreTrainedModel, member: Member, rows: pd.DataFrame, columns: Columns, batch_size: int
) -> Array:
    choices = columns.choices or None
    prepared = tokenise(member, rows, text_columns=columns.texts, choice_columns=choices)
    return outputs_of(model, prepared, member, batch_size=batch_size)


def _write_numbers(request: Request, outputs: Array) -> pd.DataFrame:
    kind = kind_of(request.members[0])
    answers = Answers(request.names, outputs, None, kind, request.label_names, "file")
    numbers = without_lost(answers).outputs
    found = combined(numbers, kind, how=request.combine, weights=request.weights)
    return prediction_columns(found, kind, request.label_names)


def _sample_numbers(request: Request) -> Array:
    classes = len(request.label_names or ("number",))
    return np.zeros((len(request.members), 1, classes), np.float32)


def _say_words(
    model: PreTrainedModel, member: Member, rows: pd.DataFrame, columns: Columns, batch_size: int
) -> Array:
    return words_of(model, member, rows, columns, batch_size=batch_size)


def _write_words(request: Request, outputs: Array) -> pd.DataFrame:
    """Each word has the tag of the mean; one that a model has not read has none."""
    read = ~(outputs == UNREAD).all(axis=2).any(axis=0)  # (words,)
    lengths = _lengths(request)
    _tell_of_unread(read, lengths)
    answers = Answers(request.names, outputs[:, read], None, SINGLE, request.label_names, "file")
    found = combined(
        without_lost(answers).outputs, SINGLE, how=request.combine, weights=request.weights
    )
    best = found.argmax(axis=1)
    tags, chances = np.full(len(read), None, object), np.full(len(read), None, object)
    tags[read] = np.asarray(request.label_names, object)[best]
    chances[read] = found[np.arange(len(best)), best]
    ends = np.cumsum(lengths)[:-1]
    return pd.DataFrame(
        {
            name: [list(row) for row in np.split(cells, ends)]
            for name, cells in ((PREDICTION, tags), (PROBABILITY, chances))
        }
    )


def _check_words(request: Request) -> None:
    _lengths(request)


def _sample_words(request: Request) -> Array:
    words, tags = sum(_lengths(request)), len(request.label_names or ())
    return np.zeros((len(request.members), words, tags), np.float32)


def _lengths(request: Request) -> list[int]:
    """Returns the number of words in each row; all members are to read the same ones."""
    columns = dict.fromkeys(columns.texts for columns in request.columns)
    each = [[len(w) for w in checked_words(request.table, column)] for (column,) in columns]
    if any(lengths != each[0] for lengths in each):
        names = " and ".join(repr(column) for (column,) in columns)
        raise ConfigurationError(
            f"the models read the columns {names}, whose words differ in number, so their tags "
            "have no mean; name one column with text_columns"
        )
    return each[0]


def _tell_of_unread(read: Array, lengths: Sequence[int]) -> None:
    unread = int((~read).sum())
    if not unread:
        return
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.unique(row_of[~read])
    logger.warning(
        "%d of %d words, in %d of %d rows (the first is row %d), have no tag (null): they lie "
        "beyond the tokens that a row may have (max_length of the run), or the tokenizer makes "
        "nothing of them; divide long rows",
        *(unread, len(read), len(rows), len(lengths), rows[0] + 1),
    )


def _say_texts(
    model: PreTrainedModel, member: Member, rows: pd.DataFrame, columns: Columns, batch_size: int
) -> Array:
    return texts_of(model, member, rows, columns, batch_size=batch_size)


def _write_texts(request: Request, texts: Array) -> pd.DataFrame:
    return pd.DataFrame({PREDICTION: texts[0].tolist()})


def _sample_texts(request: Request) -> Array:
    return np.full((1, 1), "")


def _say_losses(
    model: PreTrainedModel, member: Member, rows: pd.DataFrame, columns: Columns, batch_size: int
) -> Array:
    return losses_of(model, member, rows, columns, batch_size=batch_size)


def _write_losses(request: Request, losses: Array) -> pd.DataFrame:
    mean, tokens = losses[0].T
    said = losses[:, tokens > 0]
    without_lost(Answers(request.names, said, None, NUMBER, None, "file"))
    with np.errstate(over="ignore"):
        columns: dict[str, Any] = {"negative_log_likelihood": mean, "perplexity": np.exp(mean)}
    return pd.DataFrame({**columns, "tokens": tokens.astype(np.int64)})


def _sample_losses(request: Request) -> Array:
    return np.zeros((1, 1, 2))


_NUMBERS = Manner(_say_numbers, _write_numbers, _sample_numbers, _check_numbers)
_MANNERS: Mapping[str, Manner] = MappingProxyType(
    {
        "token-classification": Manner(_say_words, _write_words, _sample_words, _check_words),
        "seq2seq": Manner(_say_texts, _write_texts, _sample_texts, _check_alone),
        "causal-lm": Manner(_say_losses, _write_losses, _sample_losses, _check_alone),
    }
)
