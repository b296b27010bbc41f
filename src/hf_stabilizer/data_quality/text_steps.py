"""How is one text cleaned? Small functions from text to text, one for each option."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from hf_stabilizer.errors import ConfigurationError, MissingDependencyError, check_choice

TextStep = Callable[[str], str]

# Elements that stand within a line: their tags go without a trace, all others leave a space.
_INLINE = "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark q s samp small span strike strong sub sup time tt u var wbr"  # noqa: E501
_BLOCKS = (
    "address area article aside audio base blockquote body br button canvas caption center col "
    "colgroup dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame "
    "frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input label legend li link "
    "main map menu meta nav noscript object ol optgroup option output p param picture pre progress "
    "rp rt ruby section select source summary svg table tbody td template textarea tfoot th thead "
    "title tr track ul video"
)
_UNSEEN = re.compile(
    r"<!--.*?-->|<!doctype\b[^>]*>|<(script|style)\b[^>]*>.*?</\1\s*>", re.S | re.I
)
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
# Invisible marks; the joiners of emoji and of Persian and Indic scripts stay.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")
_WORD_AND_GAP = re.compile(rf"({_WORD.pattern})[^\S\n]*")
# What turns a sentence into its contrary is no stop word.
_KEPT = {
    *("no", "nor", "not", "never", "neither", "none", "nobody", "nothing", "nowhere"),
    *("cannot", "cant", "without"),
}


def without_html(text: str) -> str:
    """Removes tags of known HTML elements, comments, scripts and styles, and resolves entities.

    What only looks like a tag stays, as in "x <y and y> z".

    Example:
        >>> without_html("<p>Salt &amp; <b>pep</b>per<br/>1 < 2</p>")
        ' Salt & pepper 1 < 2 '
    """
    text = _UNSEEN.sub(" ", text)
    text = _tags(_INLINE).sub("", text)
    text = _tags(_BLOCKS).sub(" ", text)
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


@cache
def _tags(names: str) -> re.Pattern[str]:
    return re.compile(rf"</?(?:{'|'.join(names.split())})(?:[\s/][^<>]*)?>", re.I)


def with_sound_unicode(text: str) -> str:
    r"""Mends what was decoded wrongly, removes invisible and control characters, unifies (NFC).

    Raises:
        MissingDependencyError: ftfy, which does the mending, is not installed.

    Example:
        >>> with_sound_unicode("caf\u00c3\u00a9 cr\u00e8me\u200b")
        'café crème'
    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingDependencyError(
            "unicode is mended with ftfy, which is not installed; run: pip install "
            "'hf_stabilizer[data]'"
        ) from error
    mended = ftfy.fix_text(
        text,
        unescape_html=False,  # That is another option.
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        normalization="NFC",
    )
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", mended))


def with_single_spaces(text: str) -> str:
    r"""Makes each run of white space, line breaks among them, one space, and trims the ends.

    Example:
        >>> with_single_spaces(" a\n b ")
        'a b'
    """
    return " ".join(text.split())


def stop_word_step(words: bool | Sequence[str]) -> TextStep:
    """Returns the function that removes these words; True: English ones, but no negations.

    Example:
        >>> stop_word_step(True)("This is not the film"), stop_word_step(["film"])("A film!")
        ('not film', 'A !')
    """
    if words is True:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        words = sorted(ENGLISH_STOP_WORDS - _KEPT)
    chosen = {word.casefold() for word in words or ()}
    if not chosen:
        raise ConfigurationError("stop_words names no words; give some, or True for English ones")

    def keep(found: re.Match[str]) -> str:
        return "" if found[1].casefold() in chosen else found[0]

    def remove(text: str) -> str:
        kept = _WORD_AND_GAP.sub(keep, text)
        return text if kept == text else kept.strip()

    return remove


def stem_step(language: str) -> TextStep:
    """Returns the function that replaces each word by its Snowball stem, in lower case.

    Raises:
        ConfigurationError: There is no stemmer of that language.
        MissingDependencyError: nltk is not installed.

    Example:
        >>> stem_step("english")("Running dogs ran")
        'run dog ran'
    """
    try:
        from nltk.stem.snowball import SnowballStemmer
    except ImportError as error:
        raise MissingDependencyError(
            "words are stemmed with nltk, which is not installed; run: pip install "
            "'hf_stabilizer[data]'"
        ) from error
    check_choice(language, SnowballStemmer.languages, name="stem")
    stemmer: Any = SnowballStemmer(language)  # Any: nltk brings no types.
    return lambda text: _WORD.sub(lambda found: str(stemmer.stem(found[0])), text)


def until_settled(steps: Sequence[TextStep]) -> TextStep:
    """Returns the function that applies the steps in order, again until they change nothing.

    So that cleaning what is clean changes nothing: an entity may hide a tag, a stem has a stem.
    """

    def settle(text: str) -> str:
        seen = {text}
        while True:
            for step in steps:
                text = step(text)
            if text in seen:
                return text
            seen.add(text)

    return settle
