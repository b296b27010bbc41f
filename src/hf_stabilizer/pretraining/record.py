"""What came of further pre-training? The record that its folder keeps.

OUTPUT/procedure.json      settings, versions and, in the end, the outcome
OUTPUT/pretraining.json    this record
OUTPUT/model/              body, language-model head and tokenizer
OUTPUT/study/              its own control: the same fine-tuning with and without
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

FILE = "pretraining.json"


@dataclass(frozen=True)
class Pretraining:
    """One further pre-training, over."""

    model: str
    """Folder of the model, for `model_name_or_path`."""
    objective: str
    """"mlm", "clm" or "mlm+nsp"; "hand-over" where a body was taken over from another task."""
    perplexity_before: float | None = None
    """On the held-out text, before the first step; None after a hand-over."""
    perplexity_after: float | None = None
    """On the same text, with the same masks, of the weights that were kept."""
    next_sentence_accuracy: tuple[float, float] | None = None
    """Before and after, on held-out pairs; None without next-sentence prediction."""
    evaluations: tuple[tuple[int, float], ...] = ()
    """(optimizer step, held-out perplexity), in their order."""
    steps: int = 0
    """Optimizer steps that were taken."""
    best_step: int = 0
    """The step whose weights were kept."""
    texts: Mapping[str, int] = field(default_factory=dict)
    """Texts of each kind, and how many were left out for which reason."""
    rows: int = 0
    """Rows of the language model that were learnt from."""
    held_out_rows: int = 0
    """Rows on which perplexity was measured."""
    tokens: int = 0
    """Tokens in the rows that were learnt from, special ones included."""
    body: int = 0
    """Tensors of the body that arrived in the task's model, bit for bit."""
    carried: tuple[str, ...] = ()
    """Those that were carried over from the checkpoint before."""
    shared: tuple[str, ...] = ()
    """Tensors outside of the body that arrive, too."""
    new: tuple[str, ...] = ()
    """Weights of the task's model that start at random."""
    notes: tuple[str, ...] = ()
    """What is worth knowing, a sentence each."""
    seconds: float = 0.0
    """Wall-clock time of the pre-training, parts before a resume not counted."""
    study: Study | None = field(default=None, compare=False)
    """The control study; None where none was asked for."""

    def write(self, folder: Path) -> None:
        """Writes the record into the folder of the procedure; the study has its own."""
        values = {k: v for k, v in asdict(self).items() if k != "study"}
        write_atomically(folder / FILE, json.dumps({**values, "model": "model"}, indent=2) + "\n")


def read_pretraining(folder: Path) -> Pretraining | None:
    """Returns the record in a folder, None where there is none.

    Raises:
        StudyError: There is one, and it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Pretraining)} - {"study"}
        values = {k: _tuples(v) for k, v in values.items() if k in known}
        return Pretraining(**{**values, "model": str(folder / values["model"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the record of a pre-training ({error}); remove its folder"
        ) from error


def _tuples(value: object) -> object:
    """JSON has lists where the record has tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
