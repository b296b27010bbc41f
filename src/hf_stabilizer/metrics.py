r"""Which score? Metrics as `evaluate` modules over scikit-learn and scipy; none needs a network.

    name                  what it is                                         wants
    accuracy              share of right rows (several labels: all right)    class ids
    f1                    F1 of class 1 of two                               class ids
    f1_macro, f1_micro    F1 averaged over classes, or over all decisions    class ids
    matthews_correlation  Matthews correlation                               class ids
    top_K_accuracy        share of rows whose label is among the K best      scores
    map_at_K              mean of 1 / rank of the label, 0 beyond rank K     scores
    rmse, mse, mae        root mean squared, mean squared, absolute error    numbers
    pearson, spearman     correlation of values, or of their ranks           numbers

How each is computed is in `scores`. Importing this module imports none of those packages:
`evaluate` alone takes seconds, since it imports transformers' pipelines; after the Trainer it takes
next to nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_stabilizer.errors import ConfigurationError, check_choice, did_you_mean
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, SCORES, SINGLE, Array, Kind, Wants

if TYPE_CHECKING:
    import evaluate
    from transformers import EvalPrediction

# Any in this module: what `evaluate` hands to a metric, and its own descriptions.
_COLLAPSED = "collapsed"
_ALIASES = {
    "acc": "accuracy",
    "macro_f1": "f1_macro",
    "micro_f1": "f1_micro",
    "mcc": "matthews_correlation",
    "matthews": "matthews_correlation",
    "matthews_corrcoef": "matthews_correlation",
    "pearsonr": "pearson",
    "spearmanr": "spearman",
    "pearson_correlation": "pearson",
    "spearman_correlation": "spearman",
    "root_mean_squared_error": "rmse",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
}
# Those of text-classification fit one label per row and several: which it is, the rows tell.
_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("accuracy", "f1_macro"),
    "text-regression": ("rmse", "mae", "pearson", "spearman"),
    "multiple-choice": ("accuracy", "map_at_3"),
}
_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "text-classification": (SINGLE, MULTI),
    "text-regression": (NUMBER,),
    "multiple-choice": (CHOICE,),
}


def metric_names(task: str) -> tuple[str, ...]:
    """Returns the names of the metrics that fit a task; K stands for a whole number.

    Raises:
        ConfigurationError: The task is unknown.

    Example:
        >>> metric_names("multiple-choice")
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
    return list(_DEFAULTS[task])


def metric_name(name: str) -> str:
    """Returns the one name of a metric that goes by several.

    Raises:
        ConfigurationError: There is no such metric.

    Example:
        >>> metric_name("MAP@3"), metric_name("mcc"), metric_name("top-5")
        ('map_at_3', 'matthews_correlation', 'top_5_accuracy')
    """
    family, k = _parse(name)
    return family.replace("K", str(k))


def greater_is_better(name: str) -> bool:
    """Tells whether larger values of a metric are better; knows the loss, and the prefix `eval_`.

    Raises:
        ConfigurationError: There is no such metric.

    Example:
        >>> greater_is_better("accuracy"), greater_is_better("rmse"), greater_is_better("eval_loss")
        (True, False, False)
    """
    plain = name.removeprefix("eval_")
    return plain != "loss" and SCORES[_parse(plain)[0]].greater_is_better


def load_metric(name: str) -> evaluate.Metric:
    """Returns a metric as an `evaluate` module, which keeps its rows in memory.

    Its predictions are class ids (for several labels a 0 or 1 per class), for ranking metrics a
    score per class, for regression numbers; its references class ids (or the same flags) or
    numbers.

    Raises:
        ConfigurationError: There is no such metric.

    Example:
        >>> load_metric("map@2").compute(predictions=[[1, 3, 2], [1, 3, 2]], references=[2, 0])
        {'map_at_2': 0.25}
    """
    return _module(metric_name(name))(keep_in_memory=True)


def build_compute_metrics(
    names: Sequence[str], problem_type: str | None, *, num_labels: int | None = None
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Returns the function for `Trainer(compute_metrics=...)`.

    Of several classes per row those with a probability over 1/2 count. For single-label
    classification the key "collapsed" is 1.0 if `collapsed` says so, else 0.0.

    Args:
        names: Names of metrics, in any spelling that `metric_name` knows; keys are its names.
        problem_type: As `PreparedTask.problem_type` has it; None for multiple-choice.
        num_labels: Number of classes, so that a metric for two is refused before any training;
            None: it is refused when it first meets more.

    Raises:
        ConfigurationError: A metric is unknown, or does not fit.

    Example:
        >>> from types import SimpleNamespace as Prediction
        >>> compute = build_compute_metrics(["acc"], "single_label_classification")
        >>> compute(Prediction(predictions=np.eye(2), label_ids=np.array([0, 1])))
        {'accuracy': 1.0, 'collapsed': 0.0}
    """
    kind = problem_type or CHOICE
    scores = {metric_name(name): SCORES[_parse(name)[0]] for name in names}
    for name, score in scores.items():
        if kind not in score.kinds:
            raise ConfigurationError(
                f"metric {name!r} does not fit {kind}; use one of {', '.join(_fitting(kind))}"
            )
        if None not in (score.num_labels, num_labels) and score.num_labels != num_labels:
            raise ConfigurationError(
                f"metric {name!r} is for {score.num_labels} classes, and there are {num_labels}; "
                f"use one of {', '.join(n for n in _fitting(kind) if n != name)}"
            )

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        outputs = prediction.predictions
        # Some models return hidden states after the logits.
        logits = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
        labels = np.asarray(prediction.label_ids)
        references = labels.astype(np.int64) if kind == MULTI else labels
        values: dict[str, float] = {}
        for name, score in scores.items():
            wanted = _as_wanted(score.wants, logits, references, several=kind == MULTI)
            values |= load_metric(name).compute(predictions=wanted, references=references)
        if kind == SINGLE:
            values[_COLLAPSED] = float(bool(collapsed(logits.argmax(-1), labels)))
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


def _fitting(*kinds: str) -> tuple[str, ...]:
    return tuple(name for name, score in SCORES.items() if set(kinds) & set(score.kinds))


def _parse(name: str) -> tuple[str, int | None]:
    """Splits a name into its family, as `SCORES` has it, and its number K."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    if match := re.fullmatch(r"map(?:@|_at_|_|)([1-9]\d*)", plain):
        return "map_at_K", int(match[1])
    if match := re.fullmatch(r"top_?([1-9]\d*)(?:_accuracy|_acc|)", plain):
        return "top_K_accuracy", int(match[1])
    family = _ALIASES.get(plain, plain)
    if family not in SCORES or SCORES[family].has_k:
        known = [family.replace("K", "3") for family in SCORES]
        hint = did_you_mean(plain, [*known, *_ALIASES]) or f"; known are {', '.join(known)}"
        raise ConfigurationError(f"there is no metric {name!r}{hint}")
    return family, None


@functools.cache
def _module(name: str) -> type[evaluate.Metric]:
    """Makes the class of a metric; inside a function, as its base costs seconds to import."""
    import evaluate

    family, k = _parse(name)
    score = SCORES[family]

    def _info(self: evaluate.Metric) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"{name}, see hf_stabilizer.metrics",
            citation="",
            inputs_description="Predictions and references, see hf_stabilizer.metrics",
            features=_features(score.wants),
        )

    def _compute(self: evaluate.Metric, predictions: Any, references: Any) -> dict[str, float]:
        arrays = np.asarray(predictions), np.asarray(references)
        return {name: score.compute(*arrays, **({"k": k} if score.has_k else {}))}

    return type(name, (evaluate.Metric,), {"_info": _info, "_compute": _compute})


def _features(wants: Wants) -> Any:
    """Returns what `evaluate` checks the predictions and references against."""
    from datasets import Features, Sequence, Value

    number, whole = Value("float64"), Value("int64")
    if wants == "scores":
        return Features({"predictions": Sequence(number), "references": whole})
    if wants == "numbers":
        return Features({"predictions": number, "references": number})
    one = Features({"predictions": whole, "references": whole})
    return [one, Features({"predictions": Sequence(whole), "references": Sequence(whole)})]


def _as_wanted(wants: Wants, logits: Array, references: Array, *, several: bool) -> Array:
    """Returns predictions of the kind that a score compares.

    A row whose logits are not numbers says nothing and counts as wrong: the largest of NaNs would
    be class 0, and a model that diverged would be right wherever that is the answer.
    """
    if wants == "scores":
        return logits
    if wants == "numbers":
        return logits.reshape(len(logits)).astype(np.float64)
    if several:  # A probability over 1/2 is a logit over 0.
        return np.where(np.isnan(logits), 1 - references, logits > 0).astype(np.int64)
    lost = np.isnan(logits).any(axis=-1)
    classes: Array = np.where(lost, (references + 1) % logits.shape[-1], logits.argmax(-1))
    return classes
