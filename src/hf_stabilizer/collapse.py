"""Has a classifier collapsed? In one evaluation, from its counts; in a run, from its history.

Imports no torch: the counts are made by the tensors' own methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Any, here: what a model gives and takes.

LOOKS_COLLAPSED = "stability/looks_collapsed"
"""What marks an evaluation in `log_history`; its prefix, such as eval, comes after a slash."""


def describe_collapse(
    predicted: Sequence[int], labelled: Sequence[int] | None, right: int = 0
) -> str:
    """Tells in a sentence how a classifier has collapsed, or returns "" if it has not.

    It has if it predicts the same for all rows, or is right no more often than the majority label
    would be. A single row, or rows that all have one label, cannot tell.

    Args:
        predicted: How often each class was predicted. Shape (classes,).
        labelled: How often each class is the label. Shape (classes,). None: not known; then the
            same prediction for all rows is the only sign.
        right: How many rows are right.

    Example:
        >>> describe_collapse([0, 3], [1, 2], right=2)
        'the same class 1 is predicted for all 3 rows'
        >>> describe_collapse([1, 2], [1, 2], right=1)
        'accuracy 0.3333 is no better than 0.6667, that of the majority label'
        >>> describe_collapse([1, 2], [1, 2], right=3)
        ''
    """
    rows = sum(predicted)
    if rows < 2 or (labelled is not None and sum(count > 0 for count in labelled) < 2):
        return ""
    if max(predicted) == rows:
        return f"the same class {predicted.index(rows)} is predicted for all {rows} rows"
    if labelled is None or right > max(labelled):
        return ""
    return (
        f"accuracy {right / rows:.4f} is no better than {max(labelled) / rows:.4f}, that of the "
        "majority label"
    )


class Tally:
    """How often each class was predicted, was the label, and was right, over one evaluation.

    Kept on the device of the logits; nothing is read back before `describe`.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # (3, classes): predicted, labelled, right
        self._has_labels = True

    def add(self, logits: Tensor, labels: Tensor | None) -> None:
        """Counts a batch.

        Args:
            logits: Shape (rows, classes).
            labels: Shape (rows,); one below 0 (-100: not to be classified) takes its row out.
                None: not known.
        """
        predictions = logits.detach().argmax(-1)
        if self._counts is None:
            self._counts = predictions.new_zeros(3, logits.shape[-1])
        predictions = predictions.to(self._counts.device)  # of another GPU under DataParallel
        self._has_labels &= labels is not None
        labels = predictions if labels is None else labels.to(self._counts.device).long()
        kept = (labels >= 0).long()
        labels = labels.clamp(min=0)
        right = kept * (predictions == labels).long()
        self._counts[0].scatter_add_(0, predictions, kept)
        self._counts[1].scatter_add_(0, labels, kept)
        self._counts[2].scatter_add_(0, labels, right)

    def describe(self, *, processes: int = 1) -> str:
        """Returns the sentence of `describe_collapse`; every process must call."""
        if self._counts is None:
            return ""
        counts = self._counts
        if processes > 1:
            from torch import distributed

            distributed.all_reduce(counts)
        predicted, labelled, right = counts.tolist()
        return describe_collapse(predicted, labelled if self._has_labels else None, sum(right))


def classified(
    output: Any, inputs: Any, config: Any, *, rows: int | None = None
) -> tuple[Any, Any] | None:
    """Returns logits (rows, classes) and labels (rows,) of a classifier's batch, None of others.

    A classification is one class per row, or per token: whole labels, and logits with one
    dimension more, as long as there are classes. So several labels per row, regression, language
    models and multiple choice (whose choices are no classes) are left alone. Labels are None where
    the model was not given them, as under label smoothing, and `config.problem_type` tells that
    there is one class per row.

    Args:
        output: What the model gave.
        inputs: What it was given, by name.
        config: The model's configuration; None for a model without one.
        rows: How many of the first rows count; None: all.
    """
    logits, labels = _logits(output, inputs), inputs.get("labels")
    if logits is None or not _are_of_classes(logits, inputs, config):
        return None
    if labels is None:
        is_known = getattr(config, "problem_type", None) == "single_label_classification"
        return (logits[:rows], None) if is_known and logits.ndim == 2 else None
    if labels.is_floating_point() or labels.shape != logits.shape[:-1]:
        return None
    return logits[:rows].flatten(0, -2), labels[:rows].flatten()


def _are_of_classes(logits: Any, inputs: Any, config: Any) -> bool:
    if logits.ndim < 2 or logits.shape[-1] < 2:
        return False
    if getattr(inputs.get("input_ids"), "ndim", 0) > logits.ndim:  # (rows, choices, tokens)
        return False
    if getattr(config, "problem_type", None) in ("multi_label_classification", "regression"):
        return False
    classes = getattr(config, "num_labels", None)
    return logits.ndim == 2 if classes is None else bool(logits.shape[-1] == classes)


def _logits(output: Any, inputs: Any) -> Any:
    """The logits in what a model gave: a mapping, or a tuple that a loss may come before."""
    if isinstance(output, dict):
        return output.get("logits")
    if isinstance(output, tuple):
        place = int(inputs.get("labels") is not None)
        output = output[place] if len(output) > place else None
    return output if hasattr(output, "argmax") else None


def collapsed_at(
    history: Sequence[Mapping[str, Any]], prefix: str, *, warmup_steps: int, is_last: bool
) -> int:
    """Returns the step of the evaluation at which a run has collapsed, 0 if it has not.

    Args:
        history: The `log_history` of the run.
        prefix: Which evaluations: "eval", or "eval_NAME" of several sets.
        warmup_steps: Optimizer steps of the warm-up; evaluations up to there do not count.
        is_last: Whether the last evaluation in `history` is the last of the run.

    Example:
        >>> looks = {"stability/looks_collapsed/eval": 1.0}
        >>> history = [line for step in (4, 6) for line in
        ...     ({"eval_runtime": 1.0, "step": step}, {**looks, "step": step})]
        >>> collapsed_at(history, "eval", warmup_steps=0, is_last=False)
        6
        >>> collapsed_at(history, "eval", warmup_steps=4, is_last=False)
        0
        >>> collapsed_at(history, "eval", warmup_steps=4, is_last=True)
        6
    """
    evaluated = _steps_with(f"{prefix}_runtime", history)
    looks = set(_steps_with(f"{LOOKS_COLLAPSED}/{prefix}", history))
    if not evaluated or evaluated[-1] not in looks:
        return 0
    running = [step for step in evaluated[-2:] if step in looks and step > warmup_steps]
    return evaluated[-1] if is_last or len(running) == 2 else 0


def _steps_with(name: str, history: Sequence[Mapping[str, Any]]) -> list[int]:
    return list(dict.fromkeys(line["step"] for line in history if name in line))


def evaluation_prefix(metrics: Mapping[str, Any]) -> str:
    """Returns what the names of these metrics begin with; the Trainer adds the time to all."""
    names = [name for name in metrics if name.endswith("_runtime")]
    return names[0].removesuffix("_runtime") if names else ""


def marked_prefixes(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the prefixes of all evaluations that looked collapsed."""
    marks = (name for line in history for name in line if name.startswith(f"{LOOKS_COLLAPSED}/"))
    return list(dict.fromkeys(name.removeprefix(f"{LOOKS_COLLAPSED}/") for name in marks))
