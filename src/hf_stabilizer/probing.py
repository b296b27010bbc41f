"""What can a linear classifier read from the frozen body, layer by layer and read-out by read-out?

    rows --body, once--> vectors (layer, read-out) --folds--> linear fit --held-out rows--> score

It shows which read-out serves best, whether the pooler is dead, from which layer up the body does
not help this task, and what fine-tuning has to beat.

Sources: Alain, Bengio 2016, "Understanding intermediate layers using linear classifier probes",
arXiv 1610.01644; the one-standard-error rule of Breiman et al. 1984 (Hastie, Tibshirani, Friedman
2009, section 7.10). It is the first half of LP-FT (Kumar et al. 2022, arXiv 2202.10054), whose
second half begins with `fit_head`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from hf_stabilizer.dead_pooler import pooler_strength
from hf_stabilizer.errors import DataError, check_whole
from hf_stabilizer.features import Rows, check_rows
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.linear_fit import FOLDS, assign_folds, cross_validate_l2
from hf_stabilizer.linear_problems import Floats, Integers, Task
from hf_stabilizer.metrics import build_compute_metrics, greater_is_better, metric_name
from hf_stabilizer.probe_record import LayerProbe, Probe
from hf_stabilizer.readouts import Readings, Vectors, read_layers
from hf_stabilizer.reinitialization import has_identity_pooler

logger = logging.getLogger(__name__)

_METRICS = {
    "single_label_classification": "accuracy",
    "multi_label_classification": "f1_macro",
    "multiple_choice": "accuracy",
    "regression": "rmse",
}
FEWEST = 2 * FOLDS
"""Fewer rows than these cannot be divided into folds that say anything."""

ScoreOf: TypeAlias = Callable[[Floats, Integers | slice], float]
"""(outputs, places of the examples) -> the score"""


def probe(
    model: nn.Module,
    dataset: Rows,
    *,
    data_collator: Callable[[list[Any]], Any],  # Any: rows and batches, as for the Trainer
    metric: str | None = None,
    groups: Sequence[Hashable] | None = None,
    max_examples: int = 2000,
    layer_map: LayerMap | None = None,
) -> Probe:
    """Fits a linear probe to every layer and read-out of a model as it is; changes nothing.

    One evaluation-mode pass over the rows gives the vectors (see `readouts`): first token (the
    last one of decoders), mean over the tokens, and what the pooler makes of the top layer; for
    token classification each labelled token. On each, the problem of the model's own head is
    fitted with L2 regularisation by five-fold cross-validation on fixed folds, and the score is
    that of all held-out predictions together, with the standard error of the folds' own scores
    (std / sqrt(folds)). The penalty is chosen by held-out loss on the same folds, so all scores
    are a little optimistic, and alike. No random number is drawn from a global state.

    Memory: 4 bytes x examples x choices x features x (2 (layers + 1) + 1), about 43 MB for 2000
    rows of MiniLM-L6 and 166 MB for 2000 rows of a model of base size; beside it some 36 bytes x
    examples x choices x features for the fit at hand.

    Args:
        model: For classification of texts, images or tokens, regression or multiple choice, with
            a linear layer that makes its logits; on any device.
        dataset: Tokenised rows with labels; the training rows, never the test rows.
        data_collator: Makes a batch with "labels" of a list of rows, one for each.
        metric: A name that `metric_name` knows. None: accuracy for one label per row and for
            choices, macro-F1 for several labels and for tokens, RMSE for numbers.
        groups: A value for each row; rows that share one (an author, a film) stay in one fold.
            The tokens of a row always do.
        max_examples: Of more rows a fixed random sample is read; tokens are examples by
            themselves, and no more texts are read than bring so many. At least 10.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Raises:
        ConfigurationError: The model has no such head (a language model, question answering), or
            shows no hidden states; the metric is unknown or does not fit.
        DataError: Fewer than ten examples, or labels that do not fit the model.

    Source:
        Alain, Bengio 2016, arXiv 1610.01644.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from transformers import default_data_collator
        >>> model = BertForSequenceClassification(BertConfig(
        ...     vocab_size=64, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        ...     intermediate_size=8))
        >>> rows = [{"input_ids": [5 + k % 2, 9, 7 + k], "label": k % 2} for k in range(40)]
        >>> found = probe(model, rows, data_collator=default_data_collator)
        >>> found.baseline, found.best.score
        (0.5, 1.0)
        >>> [(each.layer, each.readout) for each in found.probes][:3]
        [('embeddings', 'first'), ('embeddings', 'mean'), ('layer_01', 'first')]
    """
    check_rows(dataset)
    check_whole(max_examples, f"from {FEWEST} up", name="max_examples", least=FEWEST)
    metric = None if metric is None else metric_name(metric)
    if groups is not None and len(groups) != len(dataset):
        raise DataError(
            f"groups must have a value for each of the {len(dataset)} rows, got {len(groups)}"
        )
    layers = layer_map or LayerMap.from_model(model)
    order = np.random.default_rng(0).permutation(len(dataset))[:max_examples]
    read = read_layers(
        model,
        dataset,
        data_collator=data_collator,
        indices=order.tolist(),
        max_examples=max_examples,
        layer_map=layers,
    )
    folds = _folds(read, groups)
    metric = metric or ("f1_macro" if read.per_token else _METRICS[read.problem])
    score = _scorer(metric, read)
    probes = tuple(
        _fit(place, vectors, read, folds, score, layers) for place, vectors in _upwards(read)
    )
    constant = _constant_outputs(read, folds)
    found = Probe(
        problem=read.problem,
        metric=metric,
        greater_is_better=greater_is_better(metric),
        unit="tokens" if read.per_token else "rows",
        examples=len(read.targets),
        rows=len(np.unique(read.rows)),
        rows_given=len(dataset),
        probes=probes,
        baseline=score(constant, slice(None)),
        baseline_folds=_by_fold(score, constant, folds),
        blocks=layers.num_layers if _matches(layers, read) else None,
        pooler_strength=pooler_strength(model, layer_map=layers),
        identity_fits=has_identity_pooler(model, layer_map=layers),
    )
    logger.info(
        "probed %d %s of %d of %d rows", found.examples, found.unit, found.rows, found.rows_given
    )
    return found


def _folds(read: Readings, groups: Sequence[Hashable] | None) -> Integers:
    if len(read.targets) < FEWEST:
        raise DataError(
            f"probe needs {FEWEST} labelled examples at least, got {len(read.targets)}; "
            "use more rows"
        )
    together = read.rows if read.per_token else None
    if groups is not None:
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        together = np.array([numbers[groups[row]] for row in read.rows])
    folds = assign_folds(read.targets, together)
    if len(np.unique(folds)) < FOLDS:
        raise DataError(
            f"probe needs {FOLDS} groups or texts at least, one for each fold, got "
            f"{len(np.unique(folds))}; use more rows"
        )
    return folds


def _upwards(read: Readings) -> list[tuple[tuple[int, str], Vectors]]:
    """The pooler comes last, as it lies above the top layer."""
    return sorted(read.vectors.items(), key=lambda item: item[0][0])


def _matches(layers: LayerMap, read: Readings) -> bool:
    return max(depth for depth, _ in read.vectors) == layers.num_layers


def _fit(
    place: tuple[int, str],
    vectors: Vectors,
    read: Readings,
    folds: Integers,
    score: ScoreOf,
    layers: LayerMap,
) -> LayerProbe:
    depth, readout = place
    task = Task(read.outputs, read.has_bias)
    inputs = vectors.astype(np.float64)
    found = cross_validate_l2(read.problem, inputs, read.targets, task, folds)
    flat = inputs.reshape(-1, inputs.shape[-1])
    return LayerProbe(
        depth=depth,
        layer=layers.label(depth) if _matches(layers, read) else f"state_{depth:02d}",
        readout=readout,
        score=score(found.outputs, slice(None)),
        fold_scores=_by_fold(score, found.outputs, folds),
        spread=float(np.sqrt(flat.var(axis=0).mean())),
        l2=found.l2,
    )


def _by_fold(score: ScoreOf, outputs: Floats, folds: Integers) -> tuple[float, ...]:
    return tuple(score(outputs, np.flatnonzero(folds == fold)) for fold in np.unique(folds))


def _scorer(metric: str, read: Readings) -> ScoreOf:
    choices = read.problem == "multiple_choice"
    kind = None if choices else read.problem
    compute = build_compute_metrics([metric], kind, num_labels=read.outputs)

    def score(outputs: Floats, places: Integers | slice) -> float:
        predictions, labels = outputs[places], read.targets[places]
        if choices:
            predictions = predictions[..., 0]
        if read.problem == "regression":  # several numbers per row are compared one by one
            predictions, labels = predictions.reshape(-1, 1), labels.reshape(-1)
        pair: Any = SimpleNamespace(predictions=predictions, label_ids=labels)  # as the Trainer's
        return compute(pair)[metric]

    return score


def _constant_outputs(read: Readings, folds: Integers) -> Floats:
    """Outputs that do not look at the row: what the other folds hold most, or their mean."""
    shape = next(iter(read.vectors.values())).shape[:-1]
    outputs = np.zeros((*shape, read.outputs))
    for fold in np.unique(folds):
        seen, out = read.targets[folds != fold], folds == fold
        if read.problem == "regression":
            outputs[out] = seen.mean(axis=0)
        elif read.problem == "multi_label_classification":
            outputs[out] = seen.mean(axis=0) - 0.5  # above zero: more with than without
        elif read.problem == "multiple_choice":
            outputs[out] = np.bincount(seen, minlength=shape[1])[:, None]
        else:
            outputs[out] = np.bincount(seen, minlength=read.outputs)
    return outputs
