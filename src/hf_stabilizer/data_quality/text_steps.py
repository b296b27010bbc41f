"""How is one text cleaned? Small functions from text to text, one for each option."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from hf_stabilizer.errors import ConfigurationError, MissingDependencyError, check_choice

TextStep = Callable[[str], str]

# Invisible marks; the joiners of emoji and of Persian and Indic scripts stay.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")
_WORD_AND_GAP = re.compile(rf"({_WORD.pattern})[^\S\n]*")
# What turns a sentence into its contrary is no stop word.
_KEPT = {
    *("no", "nor", "not", "never", "neither", "none", "nobody", "nothing", "nowhere"),
    *("cannot", "cant", "without"),
}


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

    So that cleaning what is clean changes nothing: a stem has a stem. Not for `without_html`, which
    is done once: what an entity stands for is text, whatever it looks like.
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
