"""Which changed rows may stay? None nearly like a held-out row, none written anew in vain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_stabilizer.augmentation.technique import Technique
from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_stabilizer.data.splits import Splits


class UnchangedError(DataError):
    """Of all rows that a technique was to write anew not one came back changed."""


@dataclass(frozen=True)
class Found:
    """What became of the rows of a copy."""

    kept: list[int]
    """Places of those that may stay."""
    near: int
    """How many came out nearly like a validation or test row."""
    unchanged: int
    """How many came out as they were."""


def writes_anew(technique: Technique) -> bool:
    """Whether a model writes whole texts, so that one that comes back as it was says nothing."""
    return bool(getattr(technique, "rewrites", False))  # A technique of one's own need not say so.


def held_out_texts(splits: Splits) -> list[str]:
    """Texts of the rows that choose and judge: none of them may come in by the way of a change."""
    test = [] if splits.test is None else _row_texts(splits, splits.test)
    return _row_texts(splits, splits.validation) + test


def judge(
    splits: Splits,
    changed: Dataset,
    held_out: list[str],
    technique: Technique,
    *,
    threshold: float,
) -> Found:
    """Tells which rows of a copy may stay.

    Args:
        splits: The rows as they were.
        changed: The training rows as the technique has changed them, in their order.
        held_out: What `held_out_texts` returned.
        technique: Of one that writes texts anew, rows that are as they were but for case, white
            space and punctuation are left out; of any other they stay.
        threshold: Similarity to a held-out text from which a changed row is left out.
    """
    texts, sources = _row_texts(splits, changed), _row_texts(splits, splits.train)
    near = {i for i, _, _ in near_duplicates(texts, held_out, threshold=threshold)}
    alike = normalized if writes_anew(technique) else str
    pairs = zip(texts, sources, strict=True)
    same = {at for at, (text, source) in enumerate(pairs) if alike(text) == alike(source)}
    near -= same
    gone = near | same if writes_anew(technique) else near
    return Found([at for at in range(len(texts)) if at not in gone], len(near), len(same))


def _row_texts(splits: Splits, rows: Dataset) -> list[str]:
    columns = [list(rows[name]) for name in (*splits.text_columns, *splits.choice_columns)]
    return ["\n".join(map(str, row)) for row in zip(*columns, strict=True)]


def note_of(technique: Technique, copy: int, found: Found) -> str:
    """Says what became of the rows of a copy."""
    said = f"{technique.name}, copy {copy}: {len(found.kept)} rows"
    if found.near:
        which = "1 that came out nearly like a validation or test row is"
        if found.near > 1:
            which = f"{found.near} that came out nearly like validation or test rows are"
        said += f"; {which} left out"
    if found.unchanged and writes_anew(technique):
        came, are = ("they were", "are") if found.unchanged > 1 else ("it was", "is")
        said += f"; {found.unchanged} that came back as {came} {are} not added"
    elif found.unchanged:
        said += f"; {found.unchanged} came out as they were"
    return said


def nothing_changed(technique: Technique, rows: int) -> UnchangedError:
    """Returns what is raised where a technique has written no text anew."""
    if technique.settings.get("rate") == 0:
        return UnchangedError(
            f"{technique.name} with rate=0 changes none of {rows} rows, and rows as they were are "
            "not added; set a rate above 0"
        )
    models = [technique.settings.get(key) for key in ("model", "back_model")]
    named = " and ".join(dict.fromkeys(repr(model) for model in models if model)) or "its model"
    return UnchangedError(
        f"{technique.name} has changed none of {rows} rows: {named} gave each back as it was, or "
        "empty, which adds nothing; name another model and another output folder, or leave this "
        "method out"
    )
