"""Which rows were handed in? A Dataset or a DataFrame, as a table; anything else is refused.

Imports neither torch nor transformers.
"""

from __future__ import annotations

import pandas as pd

from hf_stabilizer.errors import DataError


def frame_of(rows: object, *, name: str = "rows", or_file: bool = True) -> pd.DataFrame:
    """Returns rows in memory as a table.

    Args:
        rows: A `Dataset` or a `DataFrame`, which is returned itself.
        name: What the argument is called, for the message.
        or_file: Whether the caller takes the location of a file, too, for the message.

    Raises:
        DataError: It is neither.

    Example:
        >>> frame_of(["a good film"])
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DataError: rows must be a Dataset, a DataFrame or the path of a file,
        got a list; texts by themselves make one: pd.DataFrame({'text': texts})
    """
    if isinstance(rows, pd.DataFrame):
        return rows
    # By what it can do: importing datasets takes seconds, and whoever has a Dataset has done so.
    if hasattr(rows, "column_names") and hasattr(rows, "to_pandas"):
        found = rows.to_pandas()
        if isinstance(found, pd.DataFrame):
            return found
    allowed = (
        "a Dataset, a DataFrame or the path of a file" if or_file else ("a Dataset or a DataFrame")
    )
    raise DataError(
        f"{name} must be {allowed}, got a {type(rows).__name__}; texts by themselves make one: "
        "pd.DataFrame({'text': texts})"
    )
