"""What in the training rows goes wrong in silence? Labels, tokens, lengths, and too few of each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan
from hf_stabilizer.silent_mistakes.rows import LABELS, Rows

FEW_PER_CLASS = 8


def unreadable_rows(plan: Plan) -> Finding | None:
    """The Trainer would meet the same error at some step."""
    if plan.rows is None or not plan.rows.problem:
        return None
    return Finding(
        "unreadable-rows",
        "error",
        f"a training row cannot be read: {plan.rows.problem}",
        "mend the data set, so that every row can be read",
    )


def no_labels(plan: Plan) -> Finding | None:
    """Without labels a model returns no loss."""
    rows, names = plan.rows, plan.args.label_names or LABELS
    if rows is None or not rows.columns or not plan.classifies or set(names) & set(rows.columns):
        return None
    return Finding(
        "no-labels",
        "error",
        f"the training rows hold {', '.join(rows.columns)} and no labels",
        "name the column of labels 'labels'",
    )


def labels_not_finite(plan: Plan) -> Finding | None:
    """One label that is no number makes the loss, and from the next step on all weights, NaN."""
    labels = plan.rows.labels if plan.rows else None
    if labels is None or not labels.is_floating_point() or bool(labels.isfinite().all()):
        return None
    return Finding(
        "labels-not-finite",
        "error",
        f"{int((~labels.isfinite()).sum())} of the labels that were read are NaN or infinite",
        "leave these rows out, or mend the label column",
    )


def labels_out_of_range(plan: Plan) -> Finding | None:
    """The loss fails with an index error, on a GPU without saying where."""
    labels, count = _class_ids(plan), _num_labels(plan)
    if labels is None or count < 2 or not labels.numel():
        return None
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < count:
        return None
    return Finding(
        "labels-out-of-range",
        "error",
        f"labels run from {low} to {high}, and the model has num_labels={count}",
        f"number the classes from 0, and load the model with num_labels={high + 1}",
    )


def wrong_kind_of_labels(plan: Plan) -> Finding | None:
    """Class ids are whole numbers; one float for each row is a regression."""
    rows, count = plan.rows, _num_labels(plan)
    if rows is None or rows.labels is None or not plan.classifies or not rows.labels.numel():
        return None
    kind = getattr(plan.config, "problem_type", None)
    is_float = rows.labels.is_floating_point()
    if is_float and count > 1 and rows.label_width == 1 and kind != "regression":
        return Finding(
            "wrong-kind-of-labels",
            "error",
            f"the labels are numbers with a fraction, and the model has num_labels={count} classes",
            "make them whole numbers, or load the model with num_labels=1 for a regression",
        )
    if not is_float and count == 1 and kind in (None, "regression") and _are_few(rows):
        return Finding(
            "wrong-kind-of-labels",
            "warning",
            f"the labels are {len(_distinct(rows.labels))} whole numbers, and num_labels=1 makes a "
            "regression of them",
            "load the model with as many num_labels as there are classes, or make the labels "
            "floats if a regression is meant",
        )
    return None


def _are_few(rows: Rows) -> bool:
    return rows.labels is not None and len(_distinct(rows.labels)) <= 2


def constant_label(plan: Plan) -> Finding | None:
    """There is nothing to learn."""
    rows = plan.rows
    if rows is None or rows.labels is None or not plan.classifies or rows.label_width != 1:
        return None
    values = _distinct(rows.labels)
    if len(values) != 1 or rows.labels.numel() < 2:
        return None
    seen = "all" if rows.are_all_labels else f"the {rows.labels.numel()}"
    return Finding(
        "constant-label",
        "warning",
        f"{seen} training rows that were read have the label {values[0]:g}",
        "look at the label column and at the split",
    )


def missing_classes(plan: Plan) -> Finding | None:
    """A class that no row has is never learnt."""
    labels, count = _class_ids(plan), _num_labels(plan)
    rows = plan.rows
    if labels is None or count < 2 or not (rows and rows.are_all_labels) or constant_label(plan):
        return None
    absent = sorted(set(range(count)) - set(_distinct(labels)))
    if not absent or labels_out_of_range(plan):
        return None
    return Finding(
        "missing-classes",
        "warning",
        f"{len(absent)} of {count} classes have no training row: {_listed(plan, absent)}",
        "split the rows so that each class is in the training part, or drop those classes",
    )


def rare_classes(plan: Plan) -> Finding | None:
    """What a handful of rows teaches depends on which they are."""
    labels, count = _class_ids(plan), _num_labels(plan)
    if labels is None or count < 2 or not (plan.rows and plan.rows.are_all_labels):
        return None
    if labels_out_of_range(plan):
        return None
    counts = torch.bincount(labels.long(), minlength=count).tolist()
    rare = [place for place, number in enumerate(counts) if 0 < number < FEW_PER_CLASS]
    if not rare or constant_label(plan):
        return None
    return Finding(
        "rare-classes",
        "note",
        f"{len(rare)} of {count} classes have fewer than {FEW_PER_CLASS} training rows: "
        f"{_listed(plan, rare)}",
        "expect their scores to depend on the seed; more rows, or a metric that does not weigh "
        "every class alike",
    )


def unknown_tokens(plan: Plan) -> Finding | None:
    """A tokenizer of another model: the embedding has no row for the id."""
    embedding = _token_embedding(plan)
    if plan.rows is None or embedding is None or plan.rows.largest_token < embedding.num_embeddings:
        return None
    return Finding(
        "unknown-tokens",
        "error",
        f"the rows hold token {plan.rows.largest_token}, and the model's embedding has "
        f"{embedding.num_embeddings} rows",
        "use the model's own tokenizer, or call model.resize_token_embeddings(len(tokenizer))",
    )


def rows_too_long(plan: Plan) -> Finding | None:
    """Learnt positions end; rotary ones go on, beyond what they were trained for."""
    if plan.rows is None or not plan.rows.longest:
        return None
    longest, learnt = plan.rows.longest, min(_learnt_positions(plan.model), default=None)
    if learnt is not None and longest > learnt:
        return Finding(
            "rows-too-long",
            "error",
            f"a row has {longest} tokens, and the model has {learnt} positions",
            f"tokenise with truncation=True and max_length={learnt}",
        )
    trained = getattr(plan.config, "max_position_embeddings", None)
    if learnt is None and isinstance(trained, int) and longest > trained > 0:
        return Finding(
            "rows-too-long",
            "warning",
            f"a row has {longest} tokens, and the model was trained on {trained} at most",
            f"tokenise with truncation=True and max_length={trained}",
        )
    return None


def no_padding_token(plan: Plan) -> Finding | None:
    """Decoders find the last token of a row by the padding behind it."""
    args = plan.args
    if type(plan.model).__name__.endswith("ForSequenceClassification") is False:
        return None
    text_config = plan.config.get_text_config() if plan.config is not None else None
    if text_config is None or getattr(text_config, "pad_token_id", 0) is not None:
        return None
    if max(args.train_batch_size, args.eval_batch_size) == 1:
        return None
    return Finding(
        "no-padding-token",
        "error",
        "the model's configuration has pad_token_id=None, so it takes no batch of several rows",
        "set model.config.pad_token_id = tokenizer.pad_token_id",
    )


def _class_ids(plan: Plan) -> torch.Tensor | None:
    """The labels, where they are ids of classes."""
    rows = plan.rows
    if rows is None or rows.labels is None or not plan.classifies:
        return None
    is_multi = getattr(plan.config, "problem_type", None) == "multi_label_classification"
    return None if rows.labels.is_floating_point() or is_multi else rows.labels


def _distinct(labels: torch.Tensor) -> list[float]:
    return sorted(set(labels.tolist()))


def _num_labels(plan: Plan) -> int:
    return int(getattr(plan.config, "num_labels", 0) or 0)


def _listed(plan: Plan, classes: list[int]) -> str:
    names = getattr(plan.config, "id2label", None) or {}
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return ", ".join(str(names.get(place, place)) for place in classes[:5]) + more


def _token_embedding(plan: Plan) -> nn.Embedding | None:
    get = getattr(plan.model, "get_input_embeddings", None)
    try:
        found = get() if get is not None else None
    except NotImplementedError:  # a body without tokens
        return None
    return found if isinstance(found, nn.Embedding) else None


def _learnt_positions(model: nn.Module) -> Iterator[int]:
    """How many positions each table of absolute positions has room for."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if not isinstance(module, nn.Embedding) or last not in (
            "position_embeddings", "embed_positions", "wpe",
        ):  # fmt: skip
            continue
        # RoBERTa counts from the padding's place on, BART's tables have places of their own.
        lost = 0 if module.padding_idx is None else module.padding_idx + 1
        yield module.num_embeddings - max(lost, int(getattr(module, "offset", 0)))
