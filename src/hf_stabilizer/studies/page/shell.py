"""How does a page begin and end, whatever it shows? One file that loads nothing.

The style sheet and the script are those of the report of a study. The script is allowed by its
hash, everything from elsewhere is forbidden.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.data_links import data_link
from hf_stabilizer.studies.page.facts import Fact
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.svg import element

_HERE = Path(__file__).parent
_WHOLE = Markup(
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; img-src data:\">"
    '<link rel="icon" href="data:,"><title>{title}</title><style>{style}</style></head>'
    "<body>{main}{footer}<script>{script}</script></body></html>\n"
)


def whole_page(
    title: str, parts: Iterable[Markup], *, stem: str, style: str = "", version: str = ""
) -> str:
    """Returns a page as text.

    Args:
        title: Its title, as plain text.
        parts: What stands on it, from the header on.
        stem: First part of the names of downloads.
        style: More rules for the style sheet.
        version: Version of the package that made the numbers; "" leaves it out.
    """
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    made = f"Made by hf_stabilizer{f' {version}' if version else ''}."
    return str(
        _WHOLE.format(
            allowed=hash_of(script),
            title=title,
            style=Markup((_HERE / "report.css").read_text(encoding="utf-8") + style),
            main=element("main", *parts, data_stem=stem),
            footer=element("footer", f"{made} This page is one file and loads nothing."),
            script=Markup(script),
        )
    )


def hash_of(script: str) -> str:
    """Returns what a content security policy calls a script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def header(eyebrow: str, headline: str, more: str) -> Markup:
    """Returns the head of a page: what it is, what was found, and what to know about that."""
    found = element("h1", formats.typographic(headline), element("span", more))
    return element("header", element("p", eyebrow, cls="eyebrow"), found)


def facts_list(facts: Iterable[Fact]) -> Markup:
    """Returns the few numbers that stand large under the headline."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", fact.question),
                element("dd", formats.typographic(fact.answer)),
                element("dd", formats.typographic(fact.note), cls="note"),
            )
            for fact in facts
        ),
        cls="facts",
    )


def section_part(section: Section, *, stem: str) -> Markup:
    """Returns a part of the page, with the numbers behind it for a download."""
    lead = [element("p", formats.typographic(section.lead))] if section.lead else []
    link = data_link(section.records, f"{stem}-{section.anchor}")
    take = [element("p", link, cls="take")] if link else []
    return element(
        "section", element("h2", section.title), *lead, section.body, *take, id=section.anchor
    )
