"""May this answer become a training row? Every check has a name, and the first that fails is told.

form          one JSON object with the texts that were asked for, none of them empty
answer        the class that was asked for; exactly one of the choices, all of them different
second pass   asked again without the answer, the generator names that answer and no other
repeats       like no training, validation or test row, and no row that was kept before
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.synthesis.prompts import ANSWER

# Any in this module: JSON.
KEPT = ""
"""Stands for no reason to throw a candidate away."""


def read_object(answer: str) -> Mapping[str, Any] | None:
    """Returns the first JSON object in a text; None if there is none.

    Example:
        >>> read_object('Here it is: {"a": "b"} Enjoy!'), read_object("no")
        ({'a': 'b'}, None)
    """
    start = answer.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(answer, start)
        except (ValueError, RecursionError):  # No JSON, or nested beyond all measure.
            start = answer.find("{", start + 1)
        else:
            return found if isinstance(found, dict) else None
    return None


def check_form(
    answer: str, *, texts: Sequence[str], choices: Sequence[str], allowed: Sequence[str]
) -> tuple[dict[str, str], str]:
    """Returns the row that an answer holds, and why it cannot be used, "" if it can so far.

    Args:
        answer: What was written.
        texts: Columns that must hold text.
        choices: Columns of choices, which must hold different texts; empty for classification.
        allowed: What the right answer may be.

    Example:
        >>> check_form('{"text": "Fine.", "answer": "good"}', texts=["text"], choices=[],
        ...            allowed=["good"])
        ({'text': 'Fine.', 'answer': 'good'}, '')
        >>> check_form('{"text": "", "answer": "good"}', texts=["text"], choices=[],
        ...            allowed=["good"])[1]
        'form: no text in text'
    """
    found = read_object(answer)
    if found is None:
        return {}, "form: no JSON object"
    for column in (*texts, *choices):
        if not isinstance(found.get(column), str) or not found[column].strip():
            return {}, f"form: no text in {column}"
    row = {column: found[column].strip() for column in (*texts, *choices)}
    if any(_is_broken(text) for text in row.values()):
        return {}, "form: half a character"
    right = _word(found.get(ANSWER))
    if right not in allowed:
        return {}, f"answer: {right!r} is none of {', '.join(allowed)}"
    if len({normalized(row[column]) for column in choices}) < len(choices):
        return {}, "answer: two choices are the same"
    return {**row, ANSWER: str(right)}, KEPT


def _word(value: Any) -> Any:
    """A class that is called 1 is often written as a number."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_whole else value


def _is_broken(text: str) -> bool:
    """Whether a character is half of a pair, such as a broken emoji, which no file can hold."""
    return any("\ud800" <= one <= "\udfff" for one in text)


def check_second_pass(answer: str, right: str) -> str:
    """Returns why the second answer does not confirm the first, "" if it does.

    Example:
        >>> check_second_pass('{"right": ["A"]}', "A"), check_second_pass('{"right": []}', "A")
        ('', 'second pass: nothing is right')
    """
    found = read_object(answer) or {}
    named = found.get("right")
    if not isinstance(named, list):
        return "second pass: no answer"
    named = [_word(one) for one in named]
    if named == [right]:
        return KEPT
    told = " and ".join(map(str, named)) or "nothing"
    return f"second pass: {told} {'are' if len(named) > 1 else 'is'} right"


def find_repeats(
    candidates: Sequence[str], known: Mapping[str, Sequence[str]], *, threshold: float
) -> list[str]:
    """Returns for each candidate what it repeats, "" for nothing; earlier candidates count, too.

    Args:
        candidates: Their texts.
        known: Name of a part -> texts of its rows.
        threshold: Least similarity that counts, in (0, 1].

    Example:
        >>> find_repeats(["a good film", "A GOOD FILM!", "new"], {"train": ["NEW."]}, threshold=0.8)
        ['', 'repeats: another candidate', 'repeats: a train row']
    """
    reasons = [KEPT] * len(candidates)
    for part, texts in known.items():
        for place, _, _ in near_duplicates(candidates, texts, threshold=threshold):
            reasons[place] = reasons[place] or f"repeats: a {part} row"
    for first, second, _ in near_duplicates(candidates, threshold=threshold):
        if not reasons[first]:
            reasons[second] = reasons[second] or "repeats: another candidate"
    return reasons
