"""How are figures, tables and remarks of the page written? Escaped once, the same in each part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.svg import element
from hf_stabilizer.studies.statistics import Interval

Cell = str | tuple[str, float | None]
"""What stands in a table: a text, or a text with the number that it is sorted by."""


def words(text: str) -> str:
    """Returns text with true minus signs and unbroken units, as the whole page has it.

    Example:
        >>> words("-0.5") == "\N{MINUS SIGN}0.5"
        True
    """
    return formats.typographic(text.replace("<=", "\N{LESS-THAN OR EQUAL TO}"))


def figure(chart: Markup, *, title: str = "", caption: str = "") -> Markup:
    """Returns a drawing with an optional heading above it and words below."""
    parts = [element("h3", title)] if title else []
    parts.append(chart)
    if caption:
        parts.append(element("figcaption", words(caption)))
    return element("figure", *parts, cls="part")


def panels(figures: Iterable[Markup]) -> Markup:
    """Returns figures side by side as far as there is room."""
    return element("div", *figures, cls="curves")


def remark(text: str) -> Markup:
    """Returns a paragraph in small print."""
    return element("p", words(text), cls="remark")


def narrow_where_shared(shares_seeds: bool, what: str) -> Iterator[Markup]:
    """Yields a remark where runs share seeds and intervals take them for independent.

    Args:
        shares_seeds: Whether they do.
        what: The intervals, such as "the bands".
    """
    if shares_seeds:
        yield remark(
            "Runs share head seeds or data seeds here, so fewer are independent than are there, "
            f"and {what} are too narrow."
        )


def folded(summary: str, *content: Markup) -> Markup:
    """Returns content that is opened by a click, and stands open on paper."""
    return element("details", element("summary", words(summary)), *content)


def table(
    label: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    foot: Iterable[Sequence[Cell]] = (),
) -> Markup:
    """Returns a table that sorts and scrolls; the first cell of each row names it.

    Args:
        label: What the table holds, for those who do not see it.
        heads: Names of the columns.
        rows: Cells, as many as heads in each row.
        foot: Rows that stay at the end when the others are sorted.

    Example:
        >>> print(table("Scores", ["Recipe", "Mean"], [["a<b", ("0.5", 0.5)]]))
        <div role="region" aria-label="Scores" tabindex="0" class="scroll"><table
        class="sortable"><thead><tr><th scope="col">Recipe</th><th
        scope="col">Mean</th></tr></thead><tbody><tr><th scope="row">a&lt;b</th><td
        data-value="0.5">0.5</td></tr></tbody></table></div>
    """
    head = element("tr", *(element("th", words(name), scope="col") for name in heads))
    parts = [element("thead", head), element("tbody", *map(_row, rows))]
    if end := [_row(row) for row in foot]:
        parts.append(element("tfoot", *end))
    inside = element("table", *parts, cls="sortable")
    return element("div", inside, cls="scroll", role="region", aria_label=label, tabindex=0)


def number(value: float | None, decimals: int, *, signed: bool = False) -> Cell:
    """Returns a number as a cell that sorts by its exact value."""
    return formats.number(value, decimals, signed=signed), value


def percent(share: float | None) -> Cell:
    """Returns a share as a cell in percent.

    Example:
        >>> percent(0.125), percent(None)
        (('12 %', 0.125), ('-', None))
    """
    return ("-" if share is None else f"{100 * share:.0f} %"), share


def between(interval: Interval | None, decimals: int, *, signed: bool = False) -> str:
    """Returns an interval in words, a dash where there is none.

    Example:
        >>> between(Interval(-0.1, 0.2), 2, signed=True), between(None, 2)
        ('-0.10 to +0.20', '-')
    """
    if interval is None:
        return formats.NOTHING
    return " to ".join(formats.number(end, decimals, signed=signed) for end in interval)


def sorted_by_p(p: float | None) -> Cell:
    """Returns a p-value as a cell, without the letter that its column's head has."""
    return formats.p_value(p).removeprefix("p = ").removeprefix("p "), p


def direction(metric: str, greater_is_better: bool) -> str:
    """Returns the metric with an arrow to its better side, for the axis below a drawing."""
    if greater_is_better:
        return f"{metric}, higher is better \N{RIGHTWARDS ARROW}"
    return f"{metric}, \N{LEFTWARDS ARROW} lower is better"


def _row(cells: Sequence[Cell]) -> Markup:
    return element("tr", *(_cell(cell, place) for place, cell in enumerate(cells)))


def _cell(cell: Cell, place: int) -> Markup:
    written, value = cell if isinstance(cell, tuple) else (cell, None)
    text = words(written)
    exact = None if value is None else f"{value:.10g}"
    if place == 0:
        head = element("th", text, scope="row")
        return head if exact is None else element("th", text, scope="row", data_value=exact)
    return element("td", text) if exact is None else element("td", text, data_value=exact)
