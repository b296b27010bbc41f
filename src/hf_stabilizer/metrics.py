r"""Which score? Metrics as `evaluate` modules over well-kept libraries; none needs a network.

    name                       what it is                                          wants
    accuracy                   share of right rows (several labels: all right)     class ids
    f1                         F1 of class 1 of two                                class ids
    f1_macro, f1_micro         F1 averaged over classes, or over all decisions     class ids
    matthews_correlation       Matthews correlation                                class ids
    top_K_accuracy             share of rows whose label is among the K best       scores
    map_at_K                   mean of 1 / rank of the label, 0 beyond rank K      scores
    negative_log_likelihood    mean of -ln p of the label, nats                    scores
    brier_score                squared distance of p from the label, 0..2          scores
    calibration_error          expected, over 15 bins; calibration_error_K: over K scores
    prediction_entropy         mean entropy of p, nats; decides nothing            scores
    rmse, mse, mae             root mean squared, mean squared, absolute error     numbers
    pearson, spearman          correlation of values, or of their ranks            numbers
    seqeval_f1, _precision,    over whole entities of all rows                     names of tags
      _recall
    token_accuracy             share of right tokens                               names of tags
    perplexity                 exp of the mean loss per token                      losses
    bleu                       corpus BLEU, 0..100                                 texts
    rouge_1, rouge_2, rouge_l  mean F1 of ROUGE                                    texts
    meteor, meteor_exact_stem  mean METEOR, with and without synonyms              texts
    generated_length           tokens per text; decides nothing                    token ids

How each is computed is in `scores`. Importing this module imports none of those packages:
`evaluate` alone takes seconds, since it imports transformers' pipelines; after the Trainer it takes
next to nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_stabilizer.errors import ConfigurationError, check_choice
from hf_stabilizer.scores import (
    CHOICE,
    GENERATION,
    LANGUAGE,
    MULTI,
    NUMBER,
    SCORES,
    SINGLE,
    TAGS,
    Array,
    Kind,
    Score,
)
from hf_stabilizer.scores.entities import check_tags
from hf_stabilizer.scores.inputs import Outputs, features_of
from hf_stabilizer.scores.names import parse_name
from hf_stabilizer.scores.texts import check_packages

if TYPE_CHECKING:
    import evaluate
    from transformers import EvalPrediction, PreTrainedTokenizerBase

# Any in this module: what `evaluate` hands to a metric, and its own descriptions.
_COLLAPSED = "collapsed"
# Those of text-classification fit one label per row and several: which it is, the rows tell.
_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("accuracy", "f1_macro"),
    "text-regression": ("rmse", "mae", "pearson", "spearman"),
    "multiple-choice": ("accuracy", "map_at_3"),
    "token-classification": ("seqeval_f1", "seqeval_precision", "seqeval_recall", "token_accuracy"),
    "causal-lm": ("perplexity",),
    "masked-lm": ("perplexity",),
    "seq2seq": ("bleu", "rouge_l", "meteor"),
}
_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "text-classification": (SINGLE, MULTI),
    "text-regression": (NUMBER,),
    "multiple-choice": (CHOICE,),
    "token-classification": (TAGS,),
    "causal-lm": (LANGUAGE,),
    "masked-lm": (LANGUAGE,),
    "seq2seq": (GENERATION,),
}


def metric_names(task: str) -> tuple[str, ...]:
    """Returns the names of the metrics that fit a task; K stands for a whole number.

    Raises:
        ConfigurationError: The task is unknown.

    Example:
        >>> metric_names("multiple-choice")[:3]
        ('accuracy', 'top_K_accuracy', 'map_at_K')
    """
    check_choice(task, _KINDS, name="task")
    return _fitting(*_KINDS[task])


def default_metrics(task: str) -> list[str]:
    """Returns the metrics of a task where none are named; the first decides.

    Raises:
        ConfigurationError: The task is unknown.

    Example:
        >>> default_metrics("text-regression")
        ['rmse', 'mae', 'pearson', 'spearman']
    """
    check_choice(task, _KINDS, name="task")
    return [metric_name(name) for name in _DEFAULTS[task]]


def metric_name(name: str) -> str:
    """Returns the one name of a metric that goes by several.

    "meteor" is "meteor_exact_stem" where WordNet is not installed: that is what is computed there.

    Raises:
        ConfigurationError: There is no such metric.

    Example:
        >>> metric_name("MAP@3"), metric_name("mcc"), metric_name("top-5")
        ('map_at_3', 'matthews_correlation', 'top_5_accuracy')
    """
    family, k = parse_name(name)
    return family.replace("K", str(k))


def greater_is_better(name: str) -> bool:
    """Tells whether larger values of a metric are better; knows the loss, and the prefix `eval_`.

    Raises:
        ConfigurationError: There is no such metric, or it tells no better model from a worse one,
            such as the entropy of predictions: it cannot decide.

    Example:
        >>> greater_is_better("accuracy"), greater_is_better("rmse"), greater_is_better("eval_loss")
        (True, False, False)
    """
    plain = name.removeprefix("eval_")
    if plain == "loss":
        return False
    score = SCORES[parse_name(plain)[0]]
    if not score.decides:
        raise ConfigurationError(
            f"metric {plain!r} says nothing of how good a model is, so it cannot decide; name "
            "another one first, or as metric_for_best_model"
        )
    return score.greater_is_better


def load_metric(name: str) -> evaluate.Metric:
    """Returns a metric as an `evaluate` module, which keeps its rows in memory.

    Its predictions are class ids (for several labels a 0 or 1 per class), for ranking metrics and
    those of probabilities a score per class, for regression numbers, for entities the names of the
    tags of each row, for perplexity the losses of each row, for generation texts; its references
    class ids (or the same flags), numbers, names of tags, texts, and for perplexity none.

    Raises:
        ConfigurationError: There is no such metric.
        MissingDependencyError: A package that it is computed with is not installed.

    Example:
        >>> load_metric("map@2").compute(predictions=[[1, 3, 2], [1, 3, 2]], references=[2, 0])
        {'map_at_2': 0.25}
    """
    family, _ = parse_name(name)
    check_packages(SCORES[family].packages, metric=family)
    return _module(metric_name(name))(keep_in_memory=True)


def build_compute_metrics(
    names: Sequence[str],
    problem_type: str | None,
    *,
    num_labels: int | None = None,
    label_names: Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    references: Callable[[Array], Sequence[str] | None] | None = None,
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Returns the function for `Trainer(compute_metrics=...)`.

    Of several classes per row those with a probability over 1/2 count. For single-label
    classification the key "collapsed" is 1.0 if `collapsed` says so, else 0.0. For language models
    the predictions are losses per token, which `hf_stabilizer.scores.token_losses` makes in
    `preprocess_logits_for_metrics`; for generation ids of tokens.

    Args:
        names: Names of metrics, in any spelling that `metric_name` knows; keys are its names.
        problem_type: As `PreparedTask.problem_type` has it; None for multiple-choice;
            "token-classification", "language-model" and "generation", or the name of such a task.
        num_labels: Number of classes, so that a metric for two is refused before any training;
            None: it is refused when it first meets more.
        label_names: Names of the classes in the order of their ids; needed to find entities.
        tokenizer: What turns ids into texts; needed for generation.
        references: From the labels of the evaluated rows to the whole texts that are right, None
            if it does not know them; None: the labels are read as texts, which flatters where
            they were cut.

    Raises:
        ConfigurationError: A metric is unknown, or does not fit.
        MissingDependencyError: A package that a metric is computed with is not installed.

    Example:
        >>> from types import SimpleNamespace as Prediction
        >>> compute = build_compute_metrics(["acc"], "single_label_classification")
        >>> compute(Prediction(predictions=np.eye(2), label_ids=np.array([0, 1])))
        {'accuracy': 1.0, 'collapsed': 0.0}
    """
    kind = _kind(problem_type)
    scores = {metric_name(name): parse_name(name) for name in names}
    for name, (family, _) in scores.items():
        _check_fit(name, SCORES[family], kind, num_labels=num_labels, label_names=label_names)
        if SCORES[family].wants in ("texts", "tokens") and tokenizer is None:
            raise ConfigurationError(f"metric {name!r} needs tokenizer=..., to read ids as texts")

    wanted_by_any = {SCORES[family].wants for family, _ in scores.values()}

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        given = prediction.predictions
        # Some models return hidden states after the logits.
        predictions = np.asarray(given[0] if isinstance(given, tuple) else given)
        labels = np.asarray(prediction.label_ids)
        right = None if references is None else references(labels)
        outputs = Outputs(predictions, labels, kind, label_names, tokenizer, right)
        wanted = {wants: outputs.read(wants) for wants in wanted_by_any}
        values = {
            name: _compute(family, k, *wanted[SCORES[family].wants])
            for name, (family, k) in scores.items()
        }
        if kind == SINGLE:
            values[_COLLAPSED] = float(bool(collapsed(predictions.argmax(-1), labels)))
        return values

    return compute_metrics


def collapsed(predictions: Sequence[int] | Array, labels: Sequence[int] | Array) -> str:
    """Tells in a sentence how a classifier has collapsed, or returns "" if it has not.

    It has if it predicts the same for all rows, or is right no more often than the majority label
    would be. Rows that all have one label cannot tell.

    Args:
        predictions: Predicted class ids. Shape (rows,).
        labels: True class ids. Shape (rows,).

    Example:
        >>> collapsed([1, 1, 1], [0, 1, 1])
        'the same class 1 is predicted for all 3 rows'
        >>> collapsed([1, 0, 1], [0, 1, 1])
        'accuracy 0.3333 is no better than 0.6667, that of the majority label'
        >>> collapsed([0, 1, 1], [0, 1, 1])
        ''
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    distinct, counts = np.unique(labels, return_counts=True)
    if len(distinct) < 2:
        return ""
    if len(np.unique(predictions)) == 1:
        return f"the same class {predictions[0]} is predicted for all {len(predictions)} rows"
    right, majority = int((predictions == labels).sum()), int(counts.max())
    if right > majority:
        return ""
    total = len(labels)
    return (
        f"accuracy {right / total:.4f} is no better than {majority / total:.4f}, that of the "
        "majority label"
    )


def _kind(problem_type: str | None) -> Kind:
    """Returns the kind of label; a task that has but one kind of label stands for it."""
    kinds = _KINDS.get(problem_type or "", ())
    return kinds[0] if len(kinds) == 1 else cast(Kind, problem_type or CHOICE)


def _check_fit(
    name: str,
    score: Score,
    kind: Kind,
    *,
    num_labels: int | None,
    label_names: Sequence[str] | None,
) -> None:
    if kind not in score.kinds:
        raise ConfigurationError(
            f"metric {name!r} does not fit {kind}; use one of {', '.join(_fitting(kind))}"
        )
    if None not in (score.num_labels, num_labels) and score.num_labels != num_labels:
        raise ConfigurationError(
            f"metric {name!r} is for {score.num_labels} classes, and there are {num_labels}; "
            f"use one of {', '.join(n for n in _fitting(kind) if n != name)}"
        )
    if score.of_entities:
        if label_names is None:
            raise ConfigurationError(
                f"metric {name!r} needs label_names, to tell where an entity begins"
            )
        check_tags(label_names, metric=name)
    check_packages(score.packages, metric=name)


def _fitting(*kinds: str) -> tuple[str, ...]:
    return tuple(name for name, score in SCORES.items() if set(kinds) & set(score.kinds))


@functools.cache
def _module(name: str) -> type[evaluate.Metric]:
    """Makes the class of a metric; inside a function, as its base costs seconds to import."""
    import evaluate

    family, k = parse_name(name)
    score = SCORES[family]

    def _info(self: evaluate.Metric) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"{name}, see hf_stabilizer.metrics",
            citation="",
            inputs_description="Predictions and references, see hf_stabilizer.metrics",
            features=features_of(score.wants),
        )

    def compute(
        self: evaluate.Metric, predictions: Any, references: Any = None
    ) -> dict[str, float]:
        if score.wants in ("classes", "scores", "numbers"):
            predictions, references = np.asarray(predictions), np.asarray(references)
        return {name: _compute(family, k, predictions, references)}

    return type(name, (evaluate.Metric,), {"_info": _info, "_compute": compute})


def _compute(family: str, k: int | None, predictions: Any, references: Any) -> float:
    score = SCORES[family]
    return score.compute(predictions, references, **({"k": k} if score.has_k else {}))
