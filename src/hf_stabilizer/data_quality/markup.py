"""Which characters of a text are HTML, and what do they leave when they go?

    text -> "<" that begins no element: plain text -> html.parser -> spans of tags, comments
    and scripts -> cut out, entities of what is left resolved once

Tags within a line (<b>, <a href="...">) go without a trace, those that part lines (<p>, <br>)
leave a space. The parser, of the standard library, tells where a tag ends, quoted values with a
">" in them among it; what is a tag at all is told here, as texts are mostly no documents: "x <3",
"a < b" and "x <y and y> z" stay as they are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import accumulate

_WITHIN_LINES = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark q s samp small "
    "span strike strong sub sup time tt u var wbr"
)
_BETWEEN_LINES = (
    "address area article aside audio base blockquote body br button canvas caption center col "
    "colgroup dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame "
    "frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input label legend li link "
    "main map menu meta nav noscript object ol optgroup option output p param picture pre progress "
    "rp rt ruby section select source summary svg table tbody td template textarea tfoot th thead "
    "title tr track ul video"
)
_UNSEEN = frozenset({"script", "style"})
# Attributes that may stand without a value: in "a <b and c> d" there is no tag.
_ALONE = (
    "allowfullscreen async autofocus autoplay checked compact controls default defer disabled "
    "download hidden inert ismap itemscope loop multiple muted nohref nomodule noshade novalidate "
    "nowrap open playsinline readonly required reversed selected alt crossorigin"
)
_INLINE = frozenset(_WITHIN_LINES.split())
_NAMES = "|".join([*_WITHIN_LINES.split(), *_BETWEEN_LINES.split(), *_UNSEEN])
_BEGINNING = re.compile(rf"<(!--|!doctype\b|/?(?:{_NAMES})(?=[\s/>]))?", re.I)
_UNSEEN_END = re.compile(r"</(script|style)(?=[\s/>])", re.I)
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
_NO_MARKUP = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"
"""Stands for a "<" that begins nothing, while the parser looks."""

Span = tuple[int, int, str]
"""Begin, end, and what takes the place of these characters."""


def without_html(text: str) -> str:
    """Removes tags of HTML elements, comments, scripts and styles, and resolves entities once.

    What only looks like a tag stays, and so does what an entity stands for: "&lt;b&gt;" is the
    text "<b>", as a browser shows it.

    Example:
        >>> without_html('<p>Salt &amp; <b title="x>y">pep</b>per<br/>1 < 2, I <3 &lt;b&gt;</p>')
        ' Salt & pepper 1 < 2, I <3 <b> '
    """
    if "<" not in text:
        return _resolved(text)
    pieces, at = [], 0
    for begin, end, instead in _Markup(text).spans():
        pieces += [_resolved(text[at:begin]), instead]
        at = end
    return "".join([*pieces, _resolved(text[at:])])


def _resolved(text: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


class _Markup(HTMLParser):
    """Finds the spans of one text that are markup."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self._text = text
        self._lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self._spans: list[Span] = []
        self._unseen: int | None = None  # Where a script began whose end is to come.

    def spans(self) -> Sequence[Span]:
        """Returns them in their order."""
        self.feed(_only_markup(self._text))
        self.close()
        return self._spans

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag that begins an element, or from where on nothing is seen."""
        if tag in _UNSEEN:
            self._unseen = self._place()
        else:
            self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag such as <br/>."""
        if all(value is not None or _may_stand_alone(name) for name, value in attrs):
            begin = self._place()
            self._note(begin, begin + len(self.get_starttag_text() or ""), tag)

    def handle_endtag(self, tag: str) -> None:
        """Notes a tag that ends an element, or a whole script."""
        begin, self._unseen = self._place() if self._unseen is None else self._unseen, None
        self._note(begin, self._after(self._place()), tag)

    def handle_comment(self, data: str) -> None:
        """Notes a comment; the parser calls other things comments, too."""
        begin = self._place()
        if self._text.startswith("<!--", begin):
            self._note(begin, self._after(begin + 4 + len(data)), "comment")

    def handle_decl(self, decl: str) -> None:
        """Notes a document type."""
        self._note(self._place(), self._after(self._place()), "doctype")

    def _after(self, place: int) -> int:
        """Returns where the tag is over."""
        return self._text.index(">", place) + 1

    def _place(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _note(self, begin: int, end: int, tag: str) -> None:
        self._spans.append((begin, end, "" if tag in _INLINE else " "))


def _may_stand_alone(attribute: str) -> bool:
    return attribute in _ALONE.split() or "-" in attribute or not attribute[:1].isalpha()


def _only_markup(text: str) -> str:
    """Returns the text, as long as before, with every "<" hidden that begins no markup.

    What is never closed begins none: all that follows would be lost.
    """
    last = {"": text.rfind(">"), "!--": text.rfind("-->")}
    last |= {end[1].lower(): end.start() for end in _UNSEEN_END.finditer(text)}

    def seen(found: re.Match[str]) -> str:
        what = found[1] and found[1].lower()
        closed = last.get(what, -1 if what in _UNSEEN else last[""])
        return found[0] if what and found.start() < closed else _NO_MARKUP + found[0][1:]

    return _BEGINNING.sub(seen, text)
