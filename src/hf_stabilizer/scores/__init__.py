"""How good are these predictions? One function per score, over well-kept libraries.

Importing this package imports none of them; the functions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hf_stabilizer.scores.classes import (
    accuracy,
    f1,
    map_at,
    matthews_correlation,
    top_accuracy,
)
from hf_stabilizer.scores.entities import entity_score, token_accuracy
from hf_stabilizer.scores.numbers import (
    correlation,
    mean_absolute_error,
    mean_squared_error,
    root_mean_squared_error,
)
from hf_stabilizer.scores.probabilities import (
    brier_score,
    calibration_error,
    negative_log_likelihood,
    prediction_entropy,
)
from hf_stabilizer.scores.score import (
    CHOICE,
    GENERATION,
    LANGUAGE,
    MULTI,
    NUMBER,
    SINGLE,
    TAGS,
    Array,
    Kind,
    Score,
    Wants,
)
from hf_stabilizer.scores.texts import bleu, meteor, rouge
from hf_stabilizer.scores.tokens import mean_length, mean_token_entropy, perplexity, token_losses

__all__ = [
    "CHOICE",
    "GENERATION",
    "LANGUAGE",
    "MULTI",
    "NUMBER",
    "SCORES",
    "SINGLE",
    "TAGS",
    "Array",
    "Kind",
    "Score",
    "Wants",
    "mean_token_entropy",
    "token_losses",
]

_ONE_RIGHT: tuple[Kind, ...] = (SINGLE, CHOICE)

_CLASSES: Mapping[str, Score] = {
    "accuracy": Score(accuracy, "classes", (SINGLE, MULTI, CHOICE)),
    "f1": Score(partial(f1, average="binary"), "classes", (SINGLE,), num_labels=2),
    "f1_macro": Score(partial(f1, average="macro"), "classes", (SINGLE, MULTI)),
    "f1_micro": Score(partial(f1, average="micro"), "classes", (SINGLE, MULTI)),
    "matthews_correlation": Score(matthews_correlation, "classes", (SINGLE,)),
    "top_K_accuracy": Score(top_accuracy, "scores", _ONE_RIGHT, has_k=True),
    "map_at_K": Score(map_at, "scores", _ONE_RIGHT, has_k=True),
}
_PROBABILITIES: Mapping[str, Score] = {
    "negative_log_likelihood": Score(
        negative_log_likelihood, "scores", _ONE_RIGHT, greater_is_better=False
    ),
    "brier_score": Score(brier_score, "scores", _ONE_RIGHT, greater_is_better=False),
    "calibration_error": Score(calibration_error, "scores", _ONE_RIGHT, greater_is_better=False),
    "calibration_error_K": Score(
        calibration_error, "scores", _ONE_RIGHT, greater_is_better=False, has_k=True
    ),
    "prediction_entropy": Score(prediction_entropy, "scores", _ONE_RIGHT, decides=False),
}
_NUMBERS: Mapping[str, Score] = {
    "rmse": Score(root_mean_squared_error, "numbers", (NUMBER,), greater_is_better=False),
    "mse": Score(mean_squared_error, "numbers", (NUMBER,), greater_is_better=False),
    "mae": Score(mean_absolute_error, "numbers", (NUMBER,), greater_is_better=False),
    "pearson": Score(partial(correlation, kind="pearson"), "numbers", (NUMBER,)),
    "spearman": Score(partial(correlation, kind="spearman"), "numbers", (NUMBER,)),
}
_TOKENS: Mapping[str, Score] = {
    "seqeval_f1": Score(partial(entity_score, which="f1"), "tags", (TAGS,), of_entities=True),
    "seqeval_precision": Score(
        partial(entity_score, which="precision"), "tags", (TAGS,), of_entities=True
    ),
    "seqeval_recall": Score(
        partial(entity_score, which="recall"), "tags", (TAGS,), of_entities=True
    ),
    "token_accuracy": Score(token_accuracy, "tags", (TAGS,)),
    "perplexity": Score(perplexity, "losses", (LANGUAGE,), greater_is_better=False),
}
_BLEU, _ROUGE, _METEOR = ("sacrebleu",), ("rouge_score",), ("nltk",)
_TEXTS: Mapping[str, Score] = {
    "bleu": Score(bleu, "texts", (GENERATION,), packages=_BLEU),
    "rouge_1": Score(partial(rouge, kind="rouge1"), "texts", (GENERATION,), packages=_ROUGE),
    "rouge_2": Score(partial(rouge, kind="rouge2"), "texts", (GENERATION,), packages=_ROUGE),
    "rouge_l": Score(partial(rouge, kind="rougeL"), "texts", (GENERATION,), packages=_ROUGE),
    "meteor": Score(partial(meteor, with_synonyms=True), "texts", (GENERATION,), packages=_METEOR),
    "meteor_exact_stem": Score(
        partial(meteor, with_synonyms=False), "texts", (GENERATION,), packages=_METEOR
    ),
    "generated_length": Score(mean_length, "tokens", (GENERATION,), decides=False),
}

SCORES: Mapping[str, Score] = {**_CLASSES, **_PROBABILITIES, **_NUMBERS, **_TOKENS, **_TEXTS}
"""By name; K stands for a whole number."""
