"""Are there rows of each class, and alike in each split? Rare classes and label balance.

The balance of two splits is compared by a chi-squared test of independence; only a difference
that chance would bring in less than one of a thousand divisions is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hf_stabilizer.data_quality.report import DataFinding, RowExample

P_VALUE = 0.001
"""Largest p-value with which a difference of balance is told."""


def find_rare(counts: Mapping[str, Mapping[str, int]], *, least: int) -> Iterator[DataFinding]:
    """Yields the classes of each split with fewer rows than `least`.

    A class that only another split has counts with 0 rows.
    """
    names = sorted({name for classes in counts.values() for name in classes})
    for split, classes in counts.items():
        rare = {name: classes.get(name, 0) for name in names if classes.get(name, 0) < least}
        if rare and len(names) > 1:
            said = ", ".join(f"{name!r} ({rows})" for name, rows in list(rare.items())[:10])
            yield DataFinding(
                kind="rare-classes",
                split=split,
                count=len(rare),
                message=f"{len(rare)} of {len(names)} classes have fewer than {least} rows: {said}",
                remedy="find more rows of them, join classes, or leave them out with the "
                "configuration key filter",
                examples=tuple(
                    RowExample((), name, f"{rows} row{'' if rows == 1 else 's'}")
                    for name, rows in list(rare.items())[:5]
                ),
            )


def find_imbalance(counts: Mapping[str, Mapping[str, int]]) -> Iterator[DataFinding]:
    """Yields the splits whose classes have other shares than those of the training rows."""
    from scipy.stats import chi2_contingency

    train = counts.get("train")
    for split in [split for split in counts if split != "train" and train and counts[split]]:
        names = sorted({*(train or ()), *counts[split]})
        table = np.array([[part.get(name, 0) for name in names] for part in (train, counts[split])])  # type: ignore[union-attr]
        if len(names) < 2:
            continue
        p_value = float(chi2_contingency(table).pvalue)
        if p_value <= P_VALUE:
            shares = table / table.sum(axis=1, keepdims=True)  # (2, classes)
            most = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")[:5]
            said = ", ".join(
                f"{names[k]!r} {shares[0, k]:.1%} against {shares[1, k]:.1%}" for k in most[:3]
            )
            yield DataFinding(
                kind="label-balance",
                split=f"train, {split}",
                count=len(names),
                message=f"the classes have other shares in {split} than in train (chi-squared "
                f"test, p = {p_value:.2g}): {said}",
                remedy="let validation_size and test_size draw the splits, which keeps the shares; "
                "or choose a metric that does not depend on them, such as macro F1",
                examples=tuple(
                    RowExample((), names[k], f"{shares[0, k]:.1%} / {shares[1, k]:.1%}")
                    for k in most
                ),
            )
