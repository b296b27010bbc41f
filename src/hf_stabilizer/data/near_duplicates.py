"""Which texts say almost the same? Exact Jaccard similarity of their shingles, for all pairs.

    text --normalized--> "so good it hurts" --> {"so go", "o goo", " good", ...} = S
    similarity(i, j) = |S_i & S_j| / |S_i | S_j|

Only pairs that share one of their rarest shingles can reach the threshold t: a pair with
similarity t shares ceil(t |S|) of the shingles of either, hence one at least of any
|S| - ceil(t |S|) + 1 of them. So the pairs to look at come from a product of sparse matrices of
rare shingles, and no pair is missed.

Source: Broder, "On the resemblance and containment of documents", 1997 (shingles); Bayardo, Ma
and Srikant, "Scaling up all pairs similarity search", 2007 (the rarest ones first). Imports
neither torch nor transformers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError

Matrix = Any  # scipy's sparse matrices bring no types.
Places = npt.NDArray[np.int64]
SHINGLE = 5
"""Characters in a shingle."""
_BLOCK = (1000, 4000)  # Texts, and others, whose products are made at once.
_PAIRS = 20_000  # Pairs whose shingles are compared at once.
_CROWDED = 0.01  # From this share of pairs to look at, one product of all is the quicker way.


def normalized(text: str) -> str:
    """Returns the text as comparisons see it: without differences of case, width and punctuation.

    Compatibility forms are unified (NFKC), letters case-folded, each run of white space and
    punctuation becomes one space. A text of punctuation alone keeps it.

    Example:
        >>> normalized("  It's GOOD -- ﬁne!"), normalized(":-)")
        ('it s good fine', ':-)')
    """
    # Twice, as the Unicode standard asks for (D146): folding may bring forms to unify.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    words = "".join(" " if unicodedata.category(one)[0] == "P" else one for one in text).split()
    return " ".join(words or text.split())


def check_threshold(threshold: float, *, name: str = "threshold") -> None:
    """Raises ConfigurationError unless it is a similarity that texts can have, above 0."""
    if not 0 < threshold <= 1:
        raise ConfigurationError(f"{name} must be in (0, 1], got {threshold!r}")


def near_duplicates(
    texts: Sequence[str], others: Sequence[str] | None = None, *, threshold: float = 0.8
) -> list[tuple[int, int, float]]:
    """Finds all pairs of texts whose similarity is `threshold` or more.

    The similarity is the share of common shingles, runs of five characters of the normalised
    texts, among all shingles of both; a text shorter than that is one shingle. Two texts that
    are equal once normalised have similarity 1, two empty ones as well. Nothing is approximated,
    and the order of the pairs does not depend on anything but the texts.

    Args:
        texts: Texts; the first member of each pair is a place in them.
        others: Texts of the second members; None: the same texts, each pair once, i < j.
        threshold: Least similarity, in (0, 1]; below 0.3 nearly every pair has to be looked at.

    Returns:
        Triples (i, j, similarity), sorted.

    Raises:
        ConfigurationError: `threshold` is out of range.

    Example:
        >>> near_duplicates(["A good film.", "a  good film", "A bad film."])
        [(0, 1, 1.0)]
        >>> near_duplicates(["abcdef"], ["abcdefg", "abc"], threshold=0.5)
        [(0, 0, 0.6666666666666666)]
    """
    check_threshold(threshold)
    if not len(texts) or (others is not None and not len(others)):
        return []
    every = [normalized(text) for text in (*texts, *(others or ()))]
    table = _shingles(every)  # (texts and others, shingles)
    rare = _rarest(table, threshold)
    first = 0 if others is None else len(texts)  # The row of the first second member.
    pairs: list[tuple[int, int, float]] = []
    for rows, columns in _blocks(len(texts), len(every), first):
        for i, j, common in _common(table, rare, rows, columns):
            pairs += _similar(table, i, j, common, first, threshold)
    return sorted(pairs)


def _shingles(texts: Sequence[str]) -> Matrix:
    """Returns a row of zeros and ones per text, a column per shingle, rare shingles first."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer=_shingles_of, binary=True, dtype=np.int32)
    table = vectorizer.fit_transform(texts)  # Columns in the order of their shingles.
    counts = np.bincount(table.indices, minlength=table.shape[1])
    table = table[:, np.argsort(counts, kind="stable")]
    table.sort_indices()
    return table


def _shingles_of(text: str) -> set[str]:
    return {text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1))}


def _rarest(table: Matrix, threshold: float) -> Matrix:
    """Keeps of each row the rarest shingles, one of which a similar text has to share."""
    from scipy.sparse import csr_matrix

    sizes = np.diff(table.indptr)
    # A hair less than t |S|, so that rounding never leaves a shingle out.
    kept = sizes - np.ceil(threshold * sizes - 1e-6).astype(np.int64) + 1
    place = np.arange(table.nnz) - np.repeat(table.indptr[:-1], sizes)
    chosen = place < np.repeat(kept, sizes)
    ends = np.concatenate([[0], np.cumsum(np.minimum(kept, sizes))])
    return csr_matrix((table.data[chosen], table.indices[chosen], ends), shape=table.shape)


def _blocks(texts: int, every: int, first: int) -> Iterator[tuple[slice, slice]]:
    high, wide = _BLOCK
    for top in range(0, texts, high):
        for left in range(first or top, every, wide):  # Within one list, j > i is enough.
            yield slice(top, min(top + high, texts)), slice(left, min(left + wide, every))


def _common(
    table: Matrix, rare: Matrix, rows: slice, columns: slice
) -> Iterator[tuple[Places, Places, Places]]:
    """Yields pairs of rows i < j that share a rare shingle, and how many shingles they share."""
    product = (rare[rows] @ rare[columns].T).tocoo()
    crowded = product.nnz > _CROWDED * product.shape[0] * product.shape[1]
    if crowded:
        product = (table[rows] @ table[columns].T).tocoo()
    i, j = product.row.astype(np.int64) + rows.start, product.col.astype(np.int64) + columns.start
    wanted = i < j
    i, j, common = i[wanted], j[wanted], product.data[wanted].astype(np.int64)
    if crowded:
        yield i, j, common
        return
    for at in range(0, len(i), _PAIRS):
        some = slice(at, at + _PAIRS)
        shared = table[i[some]].multiply(table[j[some]]).sum(axis=1)
        yield i[some], j[some], np.asarray(shared).ravel().astype(np.int64)


def _similar(
    table: Matrix, i: Places, j: Places, common: Places, first: int, threshold: float
) -> list[tuple[int, int, float]]:
    sizes = np.diff(table.indptr).astype(np.int64)
    similarity = common / (sizes[i] + sizes[j] - common)
    found = similarity >= threshold
    return [
        (int(one), int(other) - first, float(value))
        for one, other, value in zip(i[found], j[found], similarity[found], strict=True)
    ]
