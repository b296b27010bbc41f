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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_stabilizer.ensembling.candidates import Named
from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.ensembling.predicted import beside, with_lists_spelled
from hf_stabilizer.ensembling.request import Request, prepare_request
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.procedure import open_procedure

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedModel

# Any in this module: values that pandas' readers take.
KIND = "predict"
FORMATS = (".parquet", ".csv", ".jsonl")
Progress = Callable[[int], None]


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
    reader_options: Mapping[str, Any] | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> pd.DataFrame:
    """Says for every row what trained models predict, with probabilities.

    Rows need no label; all their columns are kept, and behind them stand `prediction` and
    `probability_<label>` (regression: `prediction` alone; multiple choice: `ranking` too, the
    choices best first). Several models are combined as `ensemble` combines them.

    For token-classification `prediction` is a list with a tag for each word, `probability` one with
    its probability; both hold None, with a warning that counts them, for words that the model has
    not read: those beyond `max_length`. For seq2seq `prediction` is the text that is generated,
    with the generation settings of the run. For causal-lm there are `negative_log_likelihood`, the
    mean loss of a row's tokens in nats, its exponential `perplexity`, and `tokens`, the number of
    those that were foretold. These two take one model. masked-lm has no answer to a row and is
    refused.

    With an `output` it is resumable: killed and started again with the same rows and models it goes
    on where it was; anything else is refused while its parts lie there.

    Args:
        runs: Folders of runs, checkpoints, models, soups, studies, of a cross-validation, whose
            kept models are taken, or of an ensemble, whose members and weights are.
        rows: A file in any format that a configuration can name, or rows in memory.
        output: File to write: .parquet, .csv or .jsonl; None: nothing is written.
        combine: As in `ensemble`.
        weights: Likewise.
        batch_size: Rows per forward pass.
        text_columns: The column of the text, or two; None: for each model as its run read them,
            else guessed from the usual names.
        choice_columns: The same for the choices of multiple choice; None: as the first run has
            them.
        reader_options: Keyword arguments for the pandas reader of the file; None: those of the
            first run, if its training file has the same format.
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
        reader_options=reader_options,
    )
    if target is None:
        return _finished(request, _answered(request, None, progress))
    parts = parts_of(target)
    open_procedure(parts, KIND, request.settings)
    found = _finished(request, _answered(request, parts, progress))
    _write(found, target)
    shutil.rmtree(parts)
    return found


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


def _answered(
    request: Request,
    parts: Path | None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None,
) -> Array:
    """Returns what all members say, [members, rows, classes] or as the task has it."""
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
            # Texts would take the width of the longest of all chunks.
            yield said.astype(object) if said.dtype.kind == "U" else said


def _say(request: Request, place: int, model: PreTrainedModel, chunk: range) -> Array:
    rows = request.table.iloc[chunk.start : chunk.stop]
    member, columns = request.members[place], request.columns[place]
    return request.manner.say(model, member, rows, columns, request.batch_size)


def _keep(said: Array, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, said, allow_pickle=False)
    temporary.replace(path)


def _finished(request: Request, outputs: Array) -> pd.DataFrame:
    return beside(request.table, request.manner.write(request, outputs))


def _write(found: pd.DataFrame, target: Path) -> None:
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
    write: Mapping[str, Callable[[], Any]] = {
        ".parquet": lambda: found.to_parquet(temporary, index=False),
        ".csv": lambda: with_lists_spelled(found).to_csv(temporary, index=False),
        ".jsonl": lambda: found.to_json(temporary, orient="records", lines=True),
    }
    write[target.suffix]()
    temporary.replace(target)


def _no_progress(rows: int) -> None:
    """Where nobody looks."""
