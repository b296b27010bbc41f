"""How does a table fit on a narrow terminal? Names fold, spare columns go, numbers are never cut.

too wide --> headers in several lines --> spare columns left out, and named --> names folded
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

LEAST = 12
"""Least width of a column of names that is folded."""
NARROWEST = 4
"""The same, where nothing else is left to give."""
EDGE = 3
"""What each column takes beside its cells: a rule, and a space on both sides."""


def fitted_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    names: Collection[str],
    spare: Sequence[str] = (),
    sections: Collection[int] = (),
) -> Table:
    """Returns a table that is no wider than the terminal, as far as its numbers allow.

    Args:
        title: Stands above it.
        columns: Names of the columns, each once.
        rows: Their cells, as plain text.
        width: Characters in a line of the terminal.
        names: Columns of words, at the left; they fold where they must. All others hold numbers.
        spare: Columns that may be left out, the first one first; a line below names them.
        sections: Rows behind which a rule is drawn.

    Example:
        >>> from rich.console import Console
        >>> rows = [["learning_rate=1e-05", "0.912", "0.020"]]
        >>> Console(width=32).print(fitted_table("", ["recipe", "mean", "std"], rows, width=32,
        ...     names=["recipe"], spare=["std"]))
        ┏━━━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━┓
        ┃ recipe       ┃  mean ┃   std ┃
        ┡━━━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━┩
        │ learning_rat │ 0.912 │ 0.020 │
        │ e=1e-05      │       │       │
        └──────────────┴───────┴───────┘
    """
    cells = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    widths, left_out = _fit(cells, width, names, spare)
    caption = f"no room for: {', '.join(left_out)}" if left_out else None
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="",
        caption=caption,
        caption_justify="left",
        caption_style="",
    )
    for name, own in widths.items():
        justify = "left" if name in names else "right"
        table.add_column(escape(name), justify=justify, width=own, overflow="fold")  # type: ignore[arg-type]
    for place in range(len(rows)):
        table.add_row(*(escape(cells[name][place]) for name in widths))
        if place in sections:
            table.add_section()
    return table


def _fit(
    cells: Mapping[str, Sequence[str]], width: int, names: Collection[str], spare: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Returns the width of each column that stays, and the columns that go."""
    natural = {name: max(map(cell_len, (name, *own))) for name, own in cells.items()}
    least = {
        name: min(natural[name], LEAST)
        if name in names
        else max(map(cell_len, (*name.split(), *own)), default=0)
        for name, own in cells.items()
    }
    left_out: list[str] = []
    waiting = [name for name in spare if name in cells]
    while _whole(least) > width and waiting:
        left_out.append(waiting.pop(0))
        del least[left_out[-1]], natural[left_out[-1]]
    if _whole(least) > width:
        least = {n: min(own, NARROWEST) if n in names else own for n, own in least.items()}
    free = width - _whole(least)
    for name in [*(n for n in least if n not in names), *(n for n in least if n in names)]:
        more = min(max(free, 0), natural[name] - least[name])
        least[name] += more
        free -= more
    return least, left_out


def _whole(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + EDGE * len(widths) + 1
