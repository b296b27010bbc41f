"""Which metric decides between the runs of people's function, and is greater better?

    named      metric_for_best_model of overrides, recipe, or set by the function
    else       the first that compute_metrics returns; without compute_metrics the loss

Names and their order are known from a prediction of a few validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset
from transformers import Trainer

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import ConfigurationError, did_you_mean
from hf_stabilizer.metrics import greater_is_better
from hf_stabilizer.outcome import TIMINGS
from hf_stabilizer.studies.past_runs.reading import SMALLER_IS_BETTER

# Any in this module: data sets of any kind, and what metrics are.

ROWS = 16
"""Validation rows that are predicted to learn which metrics there are."""


@dataclass(frozen=True)
class Decision:
    """What decides between runs."""

    metric: str
    """Plain name of the metric, without `eval_`."""
    greater_is_better: bool
    """Its direction."""
    why: str
    """Why this one where nobody named it, in a sentence; else empty."""


def decide(
    trainer: Trainer, test: Any, configuration: Configuration, *, handed: str | None, name: str
) -> Decision:
    """Returns which metric decides between the runs of a function.

    Args:
        trainer: What the function made; its arguments have `greater_is_better` None unless people
            set it.
        test: Its test rows, or None.
        configuration: Names the metric, or does not.
        handed: `metric_for_best_model` of the arguments before the function got them.
        name: The function, for messages.

    Raises:
        ConfigurationError: The metric is not computed, nothing tells which it is, or the function
            and the configuration name two.
    """
    known = _metrics(trainer, trainer.eval_dataset)
    metric, why = _name(trainer, configuration, known, handed=handed, name=name)
    if known is not None and metric not in known:
        raise ConfigurationError(
            f"metric_for_best_model={metric!r} is not computed by the Trainer of {name}; there are "
            f"{', '.join(known) or 'none: its validation rows have no labels'}"
            f"{did_you_mean(metric, known)}"
        )
    tested = _metrics(trainer, test) if test is not None else None
    if tested is not None and metric not in tested:
        raise ConfigurationError(
            f"{metric!r}, which decides, cannot be computed on the test rows that {name} returns; "
            "return test rows with labels, or the Trainer alone"
        )
    given = trainer.args.greater_is_better
    return Decision(metric, direction_of(metric) if given is None else bool(given), why)


def _name(
    trainer: Trainer,
    configuration: Configuration,
    known: list[str] | None,
    *,
    handed: str | None,
    name: str,
) -> tuple[str, str]:
    given = configuration.values.get("metric_for_best_model")
    own = trainer.args.metric_for_best_model
    if own is not None and own != handed:
        if given is not None and _plain(given) != _plain(own):
            raise ConfigurationError(
                f"{name} sets metric_for_best_model={own!r}, and the study asks for {given!r}; "
                "leave one of the two out"
            )
        return _plain(own), ""
    if given is not None:
        return _plain(given), ""
    way_out = "metric_for_best_model names another"
    if trainer.compute_metrics is None and _is_stock(trainer):
        return "loss", f"the loss decides, as {name} has no compute_metrics"
    if not known:
        raise ConfigurationError(
            f"which metric decides between the runs of {name}? Set metric_for_best_model to what "
            "its evaluation returns, or to loss"
        )
    first = next((metric for metric in known if not metric.endswith("loss")), "loss")
    return first, f"{first} decides, the first that {name} computes; {way_out}"


def _metrics(trainer: Trainer, rows: Any) -> list[str] | None:
    """The names of what is computed for a few rows, in their order; None if that cannot be told."""
    if not _is_stock(trainer):  # an evaluation of their own may compute more
        return None
    if isinstance(rows, Mapping):
        parts = [(f"{key}_", part) for key, part in rows.items()]
    else:
        parts = [("", rows)]
    names: list[str] = []
    for prefix, part in parts:
        few = _few(part)
        if few is None:
            return None
        try:
            output = trainer.predict(few, metric_key_prefix=f"eval_{prefix}".rstrip("_"))
        except Exception:  # few rows may not be enough, as for an AUC of one class
            return None
        names += [key.removeprefix("eval_") for key in output.metrics or {}]
    return [name for name in names if not name.endswith(TIMINGS)]


def _few(rows: Any) -> Any:
    try:
        count = min(len(rows), ROWS)
    except TypeError:  # a stream
        return None
    return rows.select(range(count)) if hasattr(rows, "select") else Subset(rows, range(count))


def _is_stock(trainer: Trainer) -> bool:
    return all(
        getattr(type(trainer), method) is getattr(Trainer, method)
        for method in ("evaluate", "predict", "evaluation_loop")
    )


def direction_of(metric: str) -> bool:
    """As the name tells; greater is better for one that nobody knows, as transformers has it."""
    try:
        return greater_is_better(metric)
    except ConfigurationError:
        return not metric.lower().endswith(SMALLER_IS_BETTER)


def _plain(name: str) -> str:
    return name.removeprefix("eval_")
