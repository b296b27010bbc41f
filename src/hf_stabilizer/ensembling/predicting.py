"""What do trained models say about the rows of a file? Labels and probabilities beside the rows.

    FILE --chunks--> member 1 --> member1/part00001.npy ...
                     member 2 --> member2/part00001.npy ...  --combine--> OUTPUT

One model is in memory at a time. What was asked is in `OUTPUT.parts/` until the whole is written:
killed and started again it goes on with the next chunk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_stabilizer.ensembling.candidates import Candidate, Named, find_candidates
from hf_stabilizer.ensembling.combining import COMBINATIONS, Array, checked_weights
from hf_stabilizer.ensembling.combining import combine as combined
from hf_stabilizer.ensembling.fingerprints import of_rows, of_weights
from hf_stabilizer.ensembling.gathering import Answers, kind_of, read_members, without_lost
from hf_stabilizer.ensembling.predicted import beside, prediction_columns
from hf_stabilizer.errors import ConfigurationError, DataError, check_choice, check_whole
from hf_stabilizer.procedure import open_procedure, read_procedure

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hf_stabilizer.data.columns import Columns
    from hf_stabilizer.prediction import Member

# Any in this module: values of settings.
KIND = "predict"
CHUNK = 1_024
"""Rows that are asked about before what was said is written down."""
FORMATS = (".parquet", ".csv", ".jsonl")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """Who is asked about what, checked."""

    members: tuple[Member, ...]
    """The models."""
    names: tuple[str, ...]
    """What people call them."""
    table: pd.DataFrame
    """The rows."""
    columns: tuple[Columns, ...]
    """Which of their columns each model reads; the choices are those of the first."""
    combine: str
    """How several models are combined."""
    weights: tuple[float, ...] | None
    """With "weighted"."""
    batch_size: int
    """Rows per forward pass."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Of the classes or choices; None for numbers."""
        return self.members[0].label_names or self.columns[0].choices or None

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        texts = [name for columns in self.columns for name in columns.texts]
        return tuple(dict.fromkeys([*texts, *self.columns[0].choices]))

    @property
    def chunks(self) -> list[range]:
        """The rows of each chunk."""
        rows = len(self.table)
        return [range(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what comes of it, in plain values."""
        return {
            "members": [str(member.folder.resolve()) for member in self.members],
            "member_weights": [of_weights(member.model_folder) for member in self.members],
            "rows": of_rows(self.table),
            "text_columns": [list(columns.texts) for columns in self.columns],
            "choice_columns": list(self.columns[0].choices),
            "combine": self.combine,
            "weights": None if self.weights is None else list(self.weights),
            "batch_size": self.batch_size,
            "chunk": CHUNK,
        }

    def to_records(self) -> dict[str, Any]:
        """Returns what would be done, in plain values."""
        return {
            "members": list(self.names),
            "rows": len(self.table),
            "columns": list(self.read),
            "labels": None if self.label_names is None else list(self.label_names),
            "combine": self.combine,
            "forward_passes": len(self.members)
            * sum(-(-len(chunk) // self.batch_size) for chunk in self.chunks),
        }


def predict(
    runs: Named | Iterable[Named],
    rows: str | Path | Dataset | pd.DataFrame,
    *,
    output: str | Path | None = None,
    combine: str = "mean_probability",
    weights: Sequence[float] | None = None,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> pd.DataFrame:
    """Says for every row what trained models predict, with probabilities.

    Rows need no label; all their columns are kept, and behind them stand `prediction` and
    `probability_<label>` (regression: `prediction` alone; multiple choice: `ranking` too, the
    choices best first). Several models are combined as `ensemble` combines them.

    With an `output` it is resumable: killed and started again with the same rows and models it goes
    on where it was; anything else is refused while its parts lie there.

    Args:
        runs: Folders of runs, checkpoints, models, soups, studies, or of an ensemble, whose members
            and weights are taken.
        rows: A file in any format that a configuration can name, or rows in memory.
        output: File to write: .parquet, .csv or .jsonl; None: nothing is written.
        combine: As in `ensemble`.
        weights: Likewise.
        batch_size: Rows per forward pass.
        text_columns: The column of the text, or two; None: for each model as its run's
            configuration says, else guessed from the usual names.
        choice_columns: The same for the choices of multiple choice; None: as the first run says.
        progress: From the number of rows, counted once for each model, to a context that gives a
            function to call with how many more are done; None: silent.

    Returns:
        The rows with what is predicted for each, in their own order.

    Raises:
        ConfigurationError: Members do not go together, one kept no weights, or the output exists.
        DataError: A column is missing, a row has no text, or there are no rows.
        StudyError: Parts of another prediction lie where this would write.

    Example:
        >>> predict("run", "rows.csv", output="labels.txt")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: output 'labels.txt' must end in one of .parquet,
        .csv, .jsonl
    """
    target = None if output is None else checked_output(output)
    request = prepare_request(
        runs,
        rows,
        combine=combine,
        weights=weights,
        batch_size=batch_size,
        text_columns=text_columns,
        choice_columns=choice_columns,
    )
    if target is None:
        return _finished(request, _answered(request, None, progress))
    parts = parts_of(target)
    open_procedure(parts, KIND, request.settings)
    found = _finished(request, _answered(request, parts, progress))
    _write(found, target)
    shutil.rmtree(parts)
    return found


def prepare_request(
    runs: Named | Iterable[Named],
    rows: str | Path | Dataset | pd.DataFrame,
    *,
    combine: str = "mean_probability",
    weights: Sequence[float] | None = None,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> Request:
    """Reads members and rows and sees that they go together; no model is loaded.

    Raises:
        ConfigurationError: They do not.
        DataError: A column is missing, or there are no rows.
    """
    from hf_stabilizer.ensembling.voices import Rows
    from hf_stabilizer.prediction import columns_of

    check_choice(combine, COMBINATIONS, name="combine")
    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    is_file = isinstance(rows, (str, Path))
    table = Rows(file=rows).table() if is_file else Rows(rows=rows).table()  # type: ignore[arg-type]
    if not len(table):
        raise DataError("there are no rows to predict; hand in one or more")
    runs, combine, weights = _expanded(runs, combine, weights)
    candidates = find_candidates(runs).candidates
    _check_weights(candidates)
    members = read_members(candidates)
    if weights is not None:
        checked_weights(weights, len(members))
    first = columns_of(members[0], table, text_columns, choice_columns)
    # Models that read other columns may speak together; of the choices the order is one.
    choices = first.choices or None
    others = [columns_of(member, table, text_columns, choices) for member in members[1:]]
    request = Request(
        members=tuple(members),
        names=tuple(candidate.name for candidate in candidates),
        table=table,
        columns=(first, *others),
        combine=combine,
        weights=None if weights is None else tuple(weights),
        batch_size=batch_size,
    )
    _try_out(request)
    return request


def checked_output(output: str | Path) -> Path:
    """Returns the file to write, which does not exist yet.

    Raises:
        ConfigurationError: It exists, or its ending is not known.
    """
    path = Path(output)
    if path.suffix not in FORMATS:
        raise ConfigurationError(f"output {str(output)!r} must end in one of {', '.join(FORMATS)}")
    if path.exists():
        raise ConfigurationError(
            f"output {str(output)!r} exists already; name another file, or remove it"
        )
    return path


def parts_of(output: Path) -> Path:
    """Returns the folder of what was said so far."""
    return output.with_name(f"{output.name}.parts")


def _expanded(
    runs: Named | Iterable[Named], combine: str, weights: Sequence[float] | None
) -> tuple[Any, str, Sequence[float] | None]:
    """Puts the members and weights of an ensemble in the place of its folder."""
    named = [runs] if isinstance(runs, (str, Path)) or not isinstance(runs, Iterable) else [*runs]
    one = named[0] if len(named) == 1 and isinstance(named[0], (str, Path)) else None
    record = None if one is None else read_procedure(one)
    if record is None or record.kind != "ensemble":
        return named, combine, weights
    from hf_stabilizer.ensembling.out_of_fold import is_folds

    if any(is_folds(member) for member in record.settings["members"]):
        raise ConfigurationError(
            f"{str(one)!r} is an ensemble of cross-validations, which is no set of models to ask; "
            "its test predictions are in its predictions.parquet, or name the folders of runs"
        )
    if weights is not None or combine not in ("mean_probability", record.settings["combine"]):
        raise ConfigurationError(
            f"{str(one)!r} is an ensemble and says itself how its members are combined; leave "
            "combine and weights out"
        )
    return record.settings["members"], record.settings["combine"], record.settings["weights"]


def _check_weights(candidates: Sequence[Candidate]) -> None:
    if bare := [one.name for one in candidates if not one.has_weights]:
        raise ConfigurationError(
            f"{bare[0]!r} kept no weights, so it cannot be asked: a study keeps the best model of "
            "each recipe unless it is told otherwise (--keep-models); name runs that kept theirs"
        )


def _try_out(request: Request) -> None:
    """Refuses before any work what could not be asked, combined or written after it."""
    from hf_stabilizer.prediction import checked_texts

    for column in request.read:
        checked_texts(request.table, column)
    classes = len(request.label_names or ("number",))
    outputs = np.zeros((len(request.members), 1, classes), np.float32)
    kind = kind_of(request.members[0])
    found = combined(outputs, kind, how=request.combine, weights=request.weights)
    beside(request.table.head(1), prediction_columns(found, kind, request.label_names))


def _answered(
    request: Request,
    parts: Path | None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None,
) -> Array:
    """Returns what all members say, [members, rows, classes]."""
    total = len(request.members) * len(request.table)
    shown = nullcontext(_no_progress) if progress is None else progress(total)
    with shown as advance:
        return np.stack(
            [
                np.concatenate(list(_asked(request, place, parts, advance)))
                for place in range(len(request.members))
            ]
        )


def _asked(request: Request, place: int, parts: Path | None, advance: Progress) -> Iterator[Array]:
    """Yields what one member says about each chunk; it is loaded when the first one is missing."""
    from contextlib import ExitStack

    from hf_stabilizer.prediction import loaded

    with ExitStack() as stack:
        model: PreTrainedModel | None = None
        for number, chunk in enumerate(request.chunks, start=1):
            folder = None if parts is None else parts / f"member{place + 1}"
            path = None if folder is None else folder / f"part{number:05}.npy"
            if path is not None and path.is_file():
                said: Array = np.load(path, allow_pickle=False)
            else:
                if model is None:
                    model = stack.enter_context(loaded(request.members[place]))
                said = _say(request, place, model, chunk)
                if path is not None:
                    _keep(said, path)
            advance(len(chunk))
            yield said


def _say(request: Request, place: int, model: PreTrainedModel, chunk: range) -> Array:
    from hf_stabilizer.prediction import outputs_of, tokenise

    member, columns = request.members[place], request.columns[place]
    prepared = tokenise(
        member,
        request.table.iloc[chunk.start : chunk.stop],
        text_columns=columns.texts,
        choice_columns=columns.choices or None,
    )
    return outputs_of(model, prepared, member, batch_size=request.batch_size)


def _keep(said: Array, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, said)
    temporary.replace(path)


def _finished(request: Request, outputs: Array) -> pd.DataFrame:
    kind = kind_of(request.members[0])
    answers = Answers(request.names, outputs, None, kind, request.label_names, "file")
    found = combined(
        without_lost(answers).outputs, kind, how=request.combine, weights=request.weights
    )
    return beside(request.table, prediction_columns(found, kind, request.label_names))


def _write(found: pd.DataFrame, target: Path) -> None:
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
    write: Mapping[str, Callable[[], Any]] = {
        ".parquet": lambda: found.to_parquet(temporary, index=False),
        ".csv": lambda: found.to_csv(temporary, index=False),
        ".jsonl": lambda: found.to_json(temporary, orient="records", lines=True),
    }
    write[target.suffix]()
    temporary.replace(target)


def _no_progress(rows: int) -> None:
    """Where nobody looks."""
