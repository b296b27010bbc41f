"""Which named entities were found? Precision, recall and F1 over whole entities.

    B-PER I-PER O B-LOC   ->   (PER, 0, 2), (LOC, 3, 4)

An entity is right if its type and both its ends are. The counts are taken over all entities of all
rows (micro). What is read from tags that are out of order, such as I-PER after O, is what
conlleval reads: an entity begins there.

The numbers are those of seqeval, in its default mode, which the tests hold them against. It is not
a dependency: its last release is of 2020 and comes without a wheel.

Sources: Tjong Kim Sang, De Meulder 2003 (CoNLL-2003, conlleval); Nakayama 2018, seqeval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hf_stabilizer.errors import ConfigurationError

Entity = tuple[str, int, int]
Tags = Sequence[Sequence[str]]


def entity_score(
    predictions: Tags, references: Tags, which: Literal["f1", "precision", "recall"]
) -> float:
    """Returns a score over the entities of all rows, 0 where it is undefined.

    Args:
        predictions: Tag of each token of each row: O, or B-, I-, E- or S- and a type.
        references: The true ones.
        which: The score.

    Example:
        >>> true, found = [["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]]
        >>> entity_score(found, true, "f1")
        0.5
    """
    found = {(row, *e) for row, tags in enumerate(predictions) for e in entities(tags)}
    true = {(row, *e) for row, tags in enumerate(references) for e in entities(tags)}
    right = len(found & true)
    whole = {"f1": (len(found) + len(true)) / 2, "precision": len(found), "recall": len(true)}
    return right / whole[which] if right else 0.0


def entities(tags: Sequence[str]) -> list[Entity]:
    """Returns (type, first token, one past the last token) of each entity.

    Example:
        >>> entities(["I-PER", "I-LOC", "I-LOC", "B-LOC"])
        [('PER', 0, 1), ('LOC', 1, 3), ('LOC', 3, 4)]
    """
    found: list[Entity] = []
    start, before, kind_before = 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, kind = tag[:1], tag[2:]
        begins = mark in "BS" or before in "ESO" or kind != kind_before
        if before != "O" and (mark == "O" or begins):
            found.append((kind_before, start, place))
        if mark != "O" and begins:
            start = place
        before, kind_before = mark, kind
    return found


def token_accuracy(predictions: Tags, references: Tags) -> float:
    """Returns the share of tokens with the right tag."""
    pairs = [
        (one, other)
        for row, true in zip(predictions, references, strict=True)
        for one, other in zip(row, true, strict=True)
    ]
    return sum(one == other for one, other in pairs) / max(len(pairs), 1)


def check_tags(names: Sequence[str], *, metric: str) -> None:
    """Raises ConfigurationError if these are not tags that mark where an entity begins.

    Example:
        >>> check_tags(["O", "PER"], metric="seqeval_f1")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: metric 'seqeval_f1' is for tags such as O, B-PER
        and I-PER, got 'PER'; use token_accuracy, or rename the labels
    """
    for name in names:
        if name != "O" and not (name[:2] in ("B-", "I-", "E-", "S-") and name[2:]):
            raise ConfigurationError(
                f"metric {metric!r} is for tags such as O, B-PER and I-PER, got {name!r}; use "
                "token_accuracy, or rename the labels"
            )
