"""What is a language model asked, to write one more row? A few rows, a label, a form to fill.

Number k of a synthesis always asks the same: label, examples and background are drawn from the
seed and k. Labels come round as the training rows have them: one pass over n numbers asks for the
labels of all n rows once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_stabilizer.data import Splits
from hf_stabilizer.errors import ConfigurationError

# Any in this module: JSON.
Messages = list[dict[str, str]]
ANSWER = "answer"
"""Key of the right answer, or of the class, in what is written."""
_SYSTEM = (
    "You write examples for a data set. You answer with one JSON object and nothing else. "
    "Invent; do not copy or merely reword what you are shown."
)


@dataclass(frozen=True)
class Ask:
    """What is asked for one candidate."""

    number: int
    """Which candidate."""
    label: str | None
    """The class that was asked for; None where the generator chooses the right answer."""
    sources: tuple[int, ...]
    """Training rows that are shown, by their place."""
    background: int | None
    """Row of the background text that is shown, by its place."""
    messages: Messages
    """The conversation so far."""
    schema: Mapping[str, Any]
    """JSON schema of the answer."""


class Questioner:
    """Makes the questions for the rows of one task.

    Args:
        splits: The rows; only those for training are shown.
        task: "text-classification" with one label a row, or "multiple-choice".
        examples: Rows to show each time, 1 or more.
        background: Texts, one of which is shown each time; empty: none.
        instruction: What the rows are, in words of the user's own.
        seed: Draws what is shown.

    Raises:
        ConfigurationError: The task is another, or a column has the name of the answer.
    """

    def __init__(
        self,
        splits: Splits,
        *,
        task: str,
        examples: int = 4,
        background: Sequence[str] = (),
        instruction: str = "",
        seed: int = 0,
    ):
        if task not in ("text-classification", "multiple-choice") or splits.multi_label:
            kind = "several labels per row" if splits.multi_label else f"task {task!r}"
            raise ConfigurationError(
                f"rows for {kind} cannot be synthesised, as nothing would check them; "
                "text-classification with one label and multiple-choice can"
            )
        if ANSWER in (*splits.text_columns, *splits.choice_columns):
            raise ConfigurationError(
                f"a column of texts is called {ANSWER!r}, as the label is in what is written; "
                "rename that column"
            )
        self._splits, self._examples, self._seed = splits, examples, seed
        self._background, self._instruction = background, instruction
        self._labels: list[str] = [str(label) for label in splits.train[splits.label_column]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written: texts, then choices."""
        return (*self._splits.text_columns, *self._splits.choice_columns)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the right answer may be: names of classes, or of the columns of choices."""
        return self._splits.choice_columns or self._splits.label_names or ()

    def ask(self, number: int) -> Ask:
        """Returns what is asked for one candidate."""
        rng = np.random.RandomState([self._seed, number])
        label = None if self._splits.choice_columns else self._asked_label(number)
        fitting = [row for row, its in enumerate(self._labels) if label is None or its == label]
        count = min(self._examples, len(fitting))
        shown = tuple(int(row) for row in rng.choice(fitting, size=count, replace=False))
        behind = int(rng.randint(len(self._background))) if len(self._background) else None
        schema = self._schema(label)
        messages = self._messages(label, shown, behind, schema)
        return Ask(number, label, shown, behind, messages, schema)

    def second_pass(self, row: Mapping[str, str]) -> tuple[Messages, Mapping[str, Any]]:
        """Returns the question by which a row is judged, its answer not told, and its schema."""
        told = {column: row[column] for column in self.columns}
        what = "labels" if self._splits.label_names else "choices"
        question = (
            f"{self._about()}Which of the {what} {', '.join(self.answers)} are right for this row? "
            f"Name all that are right, and only these.\n{json.dumps(told, ensure_ascii=False)}"
        )
        schema = _object({"right": {"type": "array", "items": {"enum": list(self.answers)}}})
        form = f'Answer in the form {{"right": ["{self.answers[0]}"]}}.'
        return [{"role": "user", "content": f"{question}\n{form}"}], schema

    def _asked_label(self, number: int) -> str:
        order = np.random.RandomState([self._seed]).permutation(len(self._labels))
        return self._labels[int(order[number % len(order)])]

    def _schema(self, label: str | None) -> Mapping[str, Any]:
        texts: dict[str, Any] = {column: {"type": "string"} for column in self.columns}
        allowed = list(self.answers) if label is None else [label]
        return _object({**texts, ANSWER: {"enum": allowed}})

    def _messages(
        self,
        label: str | None,
        shown: Sequence[int],
        behind: int | None,
        schema: Mapping[str, Any],
    ) -> Messages:
        rows = "\n".join(json.dumps(self._row(row), ensure_ascii=False) for row in shown)
        parts = [f"{self._about()}Here are examples, one JSON object a line:\n{rows}"]
        if behind is not None:
            parts.append(f"Write about this text:\n{self._background[behind]}")
        if label is None:
            wanted = "one new example, with exactly one right choice"
        else:
            wanted = f"one new example whose {ANSWER} is {label!r}"
        keys = ", ".join(f'"{key}"' for key in schema["properties"])
        parts.append(f"Write {wanted}, as a JSON object with the keys {keys}.")
        return [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": "\n\n".join(parts)},
        ]

    def _row(self, place: int) -> dict[str, str]:
        row, splits = self._splits.train[place], self._splits
        answer = row[splits.label_column]
        if splits.choice_columns:
            answer = splits.choice_columns[answer]
        return {**{column: row[column] for column in self.columns}, ANSWER: str(answer)}

    def _about(self) -> str:
        return f"{self._instruction.strip()}\n\n" if self._instruction.strip() else ""


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
