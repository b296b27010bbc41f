"""How are candidates asked for, judged, and kept from being asked for twice?

A question that gets no answer is noted as refused, and the next one is asked. Nothing is written
down before the first answer: what never answered may be a slip in the generator's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_stabilizer.data import Splits
from hf_stabilizer.errors import first_line
from hf_stabilizer.synthesis.candidates import (
    REFUSED,
    Candidate,
    read_candidates,
    write_candidates,
)
from hf_stabilizer.synthesis.checks import KEPT, check_form, check_second_pass, find_repeats
from hf_stabilizer.synthesis.generators import EndpointError, Generator, RefusalError
from hf_stabilizer.synthesis.local import LocalGenerator
from hf_stabilizer.synthesis.prompts import ANSWER, Ask, Questioner
from hf_stabilizer.synthesis.rows import text_of

if TYPE_CHECKING:
    from rich.console import Console

BATCH = 16
"""Candidates at most that are asked for before they are checked for repeats and written down."""
TRIES = 4
"""Candidates at most for each row that is wanted."""
_SHOWN = 300  # Characters that are kept of the reason of a refusal.


@dataclass(frozen=True)
class _Answered:
    """What came of a question."""

    ask: Ask
    answer: str = ""
    second: str = ""
    refusal: str = ""  # Why there is no answer, "" if there is one.


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
        self,
        folder: Path,
        rows: int,
        *,
        parallel: int,
        console: Console | None,
        retry_refused: bool = False,
        begin: Callable[[], object] = lambda: None,
    ) -> list[Candidate]:
        """Returns the candidates, those of an earlier start among them.

        Args:
            folder: Where they are kept.
            rows: Rows that are wanted.
            parallel: Questions at the same time.
            console: Where progress is shown; None: nowhere.
            retry_refused: Whether questions that were refused in an earlier start come first.
            begin: Called once there is something to keep, before it is written.

        Raises:
            ConfigurationError: A model here has too short a context for the questions.
            EndpointError: The generator is silent, or has refused all that this start has asked.
        """
        path = folder / "candidates.jsonl"
        found = {one.number: one for one in read_candidates(path)}
        again = [number for number, one in found.items() if retry_refused and one.is_refused]
        numbers = again + [number for number in range(rows * TRIES) if number not in found]
        # Those that are asked in any case.
        check_room(self._generator, self._questioner, numbers[: max(0, rows - _kept(found))])
        asked = answered = 0
        while asked < len(numbers) and _kept(found) < rows:
            count = min(BATCH, max(rows - _kept(found), parallel))
            asks = [self._questioner.ask(one) for one in numbers[asked : asked + count]]
            batch, failure = self._answers(asks, parallel)
            asked += len(batch)
            found |= {one.number: one for one in self._checked(batch, [*found.values()])}
            answered += sum(not one.refusal for one in batch)
            if any(not one.is_refused for one in found.values()):
                begin()
                write_candidates(path, _in_order(found))
            if failure is not None:
                raise _with_what_is_kept(failure, found, path)
            if not answered and (asked >= BATCH or (asked == len(numbers) and not path.exists())):
                raise _all_refused(found[numbers[asked - 1]].reason, asked, path)
            if console is not None:
                console.print(_progress(found, rows), markup=False, highlight=False)
        return _in_order(found)

    def _answers(
        self, asks: Sequence[Ask], parallel: int
    ) -> tuple[list[_Answered], BaseException | None]:
        """Returns what came of each question, up to the first at which the generator failed."""
        done: list[_Answered] = []
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

    def _answer(self, ask: Ask) -> _Answered:
        answer = ""
        try:
            answer = _writable(self._generator.complete(ask.messages, ask.schema, seed=ask.number))
            row, reason = self._form(ask, answer)
            if reason or not self._second_pass:
                return _Answered(ask, answer)
            messages, schema = self._questioner.second_pass(row)
            second = self._generator.complete(messages, schema, seed=ask.number)
        except RefusalError as error:
            told = f"{'second pass: ' if answer else ''}{first_line(error)}"[:_SHOWN]
            return _Answered(ask, answer, refusal=_writable(told))
        return _Answered(ask, answer, _writable(second))

    def _form(self, ask: Ask, answer: str) -> tuple[dict[str, str], str]:
        return check_form(
            answer,
            texts=self._splits.text_columns,
            choices=self._splits.choice_columns,
            allowed=ask.schema["properties"][ANSWER]["enum"],
        )

    def _checked(self, batch: Sequence[_Answered], before: Sequence[Candidate]) -> list[Candidate]:
        judged = [self._judged(one) for one in batch]
        columns = self._questioner.columns
        good = [place for place, (_, reason) in enumerate(judged) if not reason]
        known = {
            **self._known,
            "kept": [text_of(one.row, columns) for one in before if one.reason == KEPT],
        }
        texts = [text_of(judged[place][0], columns) for place in good]
        repeats = dict(
            zip(good, find_repeats(texts, known, threshold=self._threshold), strict=True)
        )
        return [
            Candidate(one.ask.number, one.ask.label, one.ask.sources, one.ask.background,
                      one.answer, one.second, row, reason or repeats[place])
            for place, (one, (row, reason)) in enumerate(zip(batch, judged, strict=True))
        ]  # fmt: skip

    def _judged(self, one: _Answered) -> tuple[dict[str, str], str]:
        """Returns the row and why it cannot be used, whatever it repeats."""
        if one.refusal:
            return {}, f"{REFUSED}: {one.refusal}"
        row, reason = self._form(one.ask, one.answer)
        if not reason and self._second_pass:
            reason = check_second_pass(one.second, row[ANSWER])
        return row, reason


def check_room(generator: Generator | None, questioner: Questioner, numbers: Sequence[int]) -> None:
    """Checks that questions fit into the context of a model here; of others it is not known.

    Args:
        generator: Who would be asked; None: nobody yet.
        questioner: Makes the questions.
        numbers: Of the candidates.

    Raises:
        ConfigurationError: The longest does not fit, or there is no such model.
        EndpointError: The model cannot be loaded.
    """
    if isinstance(generator, LocalGenerator) and numbers:
        generator.check_room(questioner.ask(one).messages for one in numbers)


def _kept(found: Mapping[int, Candidate]) -> int:
    return sum(one.reason == KEPT for one in found.values())


def _in_order(found: Mapping[int, Candidate]) -> list[Candidate]:
    return [found[number] for number in sorted(found)]


def _progress(found: Mapping[int, Candidate], rows: int) -> str:
    refused = sum(one.is_refused for one in found.values())
    said = f"{min(_kept(found), rows)} of {rows} rows, {len(found)} asked for"
    return f"{said}, {refused} refused" if refused else said


def _with_what_is_kept(
    failure: BaseException, found: Mapping[int, Candidate], path: Path
) -> BaseException:
    """Returns what is raised, with what there is so far if it is the generator that is silent."""
    if not isinstance(failure, EndpointError):
        return failure
    kept = "nothing was answered, and nothing is written"
    if path.exists():
        kept = f"{len(found)} candidates, {_kept(found)} of them good, are kept in {str(path)!r}"
    error = EndpointError(f"{failure}; {kept}")
    error.__cause__ = failure
    return error


def _all_refused(reason: str, asked: int, path: Path) -> EndpointError:
    last = reason.removeprefix(f"{REFUSED}: ")
    if path.exists():
        more = "start again to go on, with retry_refused (--retry-refused) to ask these once more"
    else:
        more = "nothing is written; mend that and start again"
    return EndpointError(f"all {asked} questions were refused, the last with: {last}; {more}")


def _writable(text: str) -> str:
    """Returns the text with halves of characters, which no file can hold, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
