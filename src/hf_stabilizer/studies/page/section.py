"""What is one part of the report's page? A heading, a lead, what is shown, and the numbers of it.

Sections stand in the page between the runs and the settings, in the order of
`sections.SECTIONS`. Figures in a body get their "SVG" button from the page itself: any
`<figure>` around a drawing that `svg.drawing` made. Anything in a drawing that has a `<title>` of
its own is named by the page's tooltip; with `data_run=run_key(run)` (`charts`) on it, too, it
lights up together with the same run in every other chart. A `<table class="sortable">` sorts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    anchor: str
    """The part's `id`, unique in the page, e.g. "seeds"; it also names the downloads."""
    title: str
    """Heading, as plain text."""
    lead: str
    """One or two sentences under it that say what is to be seen, as plain text; may be empty."""
    body: Markup
    """What is shown: figures, tables, remarks; already escaped."""
    records: tuple[Mapping[str, Any], ...] = ()  # Any: numbers and texts
    """The numbers behind it, one mapping per line of the file "data (CSV)"; empty: no such file."""
