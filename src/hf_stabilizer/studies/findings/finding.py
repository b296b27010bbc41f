"""What does every finding give? Its numbers as flat rows, ready for a table or a file."""

from __future__ import annotations

from typing import Any, Protocol

from hf_stabilizer.studies.statistics import Interval

Record = dict[str, Any]  # Any: names, numbers and None


class Finding(Protocol):
    """The answer to one question about a study."""

    def records(self) -> list[Record]:
        """Returns flat mappings with the same keys in each, as `pandas.DataFrame` takes them."""
        ...


def ends(interval: Interval | None) -> tuple[float | None, float | None]:
    """Returns the two ends of an interval, or two times None.

    Example:
        >>> ends(Interval(0.1, 0.2)), ends(None)
        ((0.1, 0.2), (None, None))
    """
    return (None, None) if interval is None else (interval.low, interval.high)
