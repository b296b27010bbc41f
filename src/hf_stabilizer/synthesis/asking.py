"""How are candidates asked for, judged, and kept from being asked for twice?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hf_stabilizer.data import Splits
from hf_stabilizer.synthesis.candidates import Candidate, read_candidates, write_candidates
from hf_stabilizer.synthesis.checks import KEPT, check_form, check_second_pass, find_repeats
from hf_stabilizer.synthesis.generators import EndpointError, Generator
from hf_stabilizer.synthesis.prompts import ANSWER, Ask, Questioner
from hf_stabilizer.synthesis.rows import text_of

if TYPE_CHECKING:
    from rich.console import Console

BATCH = 16
"""Candidates at most that are asked for before they are checked for repeats and written down."""
TRIES = 4
"""Candidates at most for each row that is wanted."""


class Writer:
    """Asks for candidates and checks them, batch after batch."""

    def __init__(
        self,
        questioner: Questioner,
        generator: Generator,
        splits: Splits,
        *,
        second_pass: bool,
        threshold: float,
    ):
        self._questioner, self._generator, self._splits = questioner, generator, splits
        self._second_pass, self._threshold = second_pass, threshold
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        self._known = {
            name: [text_of(row, questioner.columns) for row in its_rows]
            for name, its_rows in parts.items()
            if its_rows is not None
        }

    def write(
        self, folder: Path, rows: int, *, parallel: int, console: Console | None
    ) -> list[Candidate]:
        """Returns the candidates, those of an earlier start among them."""
        path = folder / "candidates.jsonl"
        found = read_candidates(path)
        while sum(one.reason == KEPT for one in found) < rows and len(found) < rows * TRIES:
            lacking = rows - sum(one.reason == KEPT for one in found)
            count = min(BATCH, max(lacking, parallel), rows * TRIES - len(found))
            asks = [self._questioner.ask(len(found) + place) for place in range(count)]
            batch, failure = self._answers(asks, parallel)
            found += self._checked(batch, found)
            write_candidates(path, found)
            kept = sum(one.reason == KEPT for one in found)
            if isinstance(failure, EndpointError):
                raise EndpointError(
                    f"{failure}; {len(found)} candidates, {kept} of them good, are kept in "
                    f"{str(path)!r}"
                ) from failure
            if failure is not None:
                raise failure
            if console is not None:
                said = f"{min(kept, rows)} of {rows} rows, {len(found)} asked for"
                console.print(said, markup=False, highlight=False)
        return found

    def _answers(
        self, asks: Sequence[Ask], parallel: int
    ) -> tuple[list[tuple[Ask, str, str]], BaseException | None]:
        """Returns question, answer and second answer each, up to the first that had none."""
        done: list[tuple[Ask, str, str]] = []
        with ThreadPoolExecutor(parallel) as pool:
            futures = [pool.submit(self._answer, ask) for ask in asks]
            for future in futures:
                try:
                    done.append(future.result())
                # Whatever a generator of one's own raises, and Ctrl-C: answers cost money.
                except BaseException as error:
                    for waiting in futures:
                        waiting.cancel()
                    return done, error
        return done, None

    def _answer(self, ask: Ask) -> tuple[Ask, str, str]:
        answer = _writable(self._generator.complete(ask.messages, ask.schema, seed=ask.number))
        row, reason = self._form(ask, answer)
        if reason or not self._second_pass:
            return ask, answer, ""
        messages, schema = self._questioner.second_pass(row)
        second = self._generator.complete(messages, schema, seed=ask.number)
        return ask, answer, _writable(second)

    def _form(self, ask: Ask, answer: str) -> tuple[dict[str, str], str]:
        return check_form(
            answer,
            texts=self._splits.text_columns,
            choices=self._splits.choice_columns,
            allowed=ask.schema["properties"][ANSWER]["enum"],
        )

    def _checked(
        self, batch: Sequence[tuple[Ask, str, str]], before: Sequence[Candidate]
    ) -> list[Candidate]:
        judged = []
        for ask, answer, second in batch:
            row, reason = self._form(ask, answer)
            if not reason and self._second_pass:
                reason = check_second_pass(second, row[ANSWER])
            judged.append((ask, answer, second, row, reason))
        columns = self._questioner.columns
        good = [place for place, (*_, reason) in enumerate(judged) if not reason]
        known = {
            **self._known,
            "kept": [text_of(one.row, columns) for one in before if one.reason == KEPT],
        }
        texts = [text_of(judged[place][3], columns) for place in good]
        repeats = dict(
            zip(good, find_repeats(texts, known, threshold=self._threshold), strict=True)
        )
        return [
            Candidate(ask.number, ask.label, ask.sources, ask.background, answer, second, row,
                      reason or repeats[place])
            for place, (ask, answer, second, row, reason) in enumerate(judged)
        ]  # fmt: skip


def _writable(text: str) -> str:
    """Returns the text with halves of characters, which no file can hold, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
