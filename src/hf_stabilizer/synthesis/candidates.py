"""What was answered so far? One line for each candidate, so that nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically

REFUSED = "refused"
"""Kind of reason of a question that got no answer, however often it was asked."""


@dataclass(frozen=True)
class Candidate:
    """One answer, and what was thought of it."""

    number: int
    """Which question."""
    label: str | None
    """The class that was asked for."""
    sources: tuple[int, ...]
    """Training rows that were shown."""
    background: int | None
    """Background text that was shown."""
    answer: str
    """What was written, as it came."""
    second: str
    """What the second pass said, "" without one."""
    row: Mapping[str, str]
    """Texts and answer that were read from it; empty if they could not be."""
    reason: str
    """Why it was thrown away; "" if it was kept. "refused: ..." if there was no answer."""

    @property
    def is_refused(self) -> bool:
        """Whether the generator would not answer."""
        return self.reason.startswith(f"{REFUSED}: ")


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Writes all candidates, whole or not at all."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) for one in candidates]
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_candidates(path: Path) -> list[Candidate]:
    """Returns what was written before, nothing if there is no file.

    Raises:
        StudyError: A line is not that of a candidate.
    """
    if not path.is_file():
        return []
    found = []
    # Not splitlines(): what a model writes may hold U+2028, which JSON leaves as it is.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            values = json.loads(line)
            found.append(Candidate(**{**values, "sources": tuple(values["sources"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise StudyError(
                f"line {number} of {str(path)!r} is not a candidate ({error}); remove it and the "
                "lines below"
            ) from error
    return found
