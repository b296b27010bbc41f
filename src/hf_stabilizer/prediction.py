"""What does a model that was trained here put out for these rows? Raw outputs, in their order.

    folder --read_member--> Member --predict_rows(rows)--> outputs, float32 [rows, classes]

The folder says everything else: task and columns are in the run's configuration, the classes in
the model's. Rows need no label. They are batched as the Trainer batches those of an evaluation,
the longest first, and put back.

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data import DataArguments, Splits
from hf_stabilizer.data.columns import Columns, choose_columns, require_columns
from hf_stabilizer.errors import ConfigurationError, DataError, check_whole
from hf_stabilizer.member import Member, read_member, read_names
from hf_stabilizer.models import auto_class, load_tokenizer
from hf_stabilizer.tasks import PreparedTask, prepare_task

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel


__all__ = ["TASKS", "Member", "predict_rows", "read_member", "read_names"]

# Any in this module: cells of the user's table, values of a JSON file, batches.
TASKS: tuple[str, ...] = ("text-classification", "text-regression", "multiple-choice")
"""Tasks whose models put out one row of numbers for each row."""
_NO_LABEL = "_no_label"


def predict_rows(
    member: str | Path | Member,
    rows: Dataset | pd.DataFrame,
    *,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> npt.NDArray[np.float32]:
    """Returns what a trained model puts out for rows, in evaluation mode, on the GPU if there is.

    With the batch size of the run's evaluations these are the numbers that the Trainer predicts
    for the same rows, to the last bit; with another one they differ by rounding. Rows need no
    label. No random number is drawn.

    Args:
        member: A run's folder, a checkpoint inside it, a model's folder; or what `read_member`
            returned.
        rows: The rows; columns that are not read are let be.
        batch_size: Rows per forward pass.
        text_columns: The column of the text, or two; None: as the run's configuration says, else
            guessed from the usual names.
        choice_columns: The same for the choices of multiple-choice.

    Returns:
        Logits of shape [rows, classes] or [rows, choices]; for regression numbers [rows, 1].

    Raises:
        ConfigurationError: The folder holds no model, or one whose task has no such outputs.
        DataError: A column is missing, or a row has no text.
    """
    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    member = member if isinstance(member, Member) else read_member(member)
    with loaded(member) as model:
        prepared = tokenise(member, rows, text_columns=text_columns, choice_columns=choice_columns)
        return outputs_of(model, prepared, member, batch_size=batch_size)


def tokenise(
    member: Member,
    rows: Dataset | pd.DataFrame,
    *,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> PreparedTask:
    """Turns rows into what the model takes, as training did; they are the `validation` rows.

    Raises:
        ConfigurationError: The task has no outputs by row.
        DataError: There are no rows, a column is missing, or a row has no text.
    """
    from datasets import Dataset

    if member.task not in TASKS:
        raise ConfigurationError(
            f"{member.name!r} was trained for {member.task}, whose outputs are no row of numbers "
            f"for each row; predictions are made for {', '.join(TASKS)}"
        )
    frame = rows if isinstance(rows, pd.DataFrame) else cast(pd.DataFrame, rows.to_pandas())
    if not len(frame):
        raise DataError("there are no rows to predict; hand in one or more")
    columns = columns_of(member, frame, text_columns, choice_columns)
    texts = {name: checked_texts(frame, name) for name in (*columns.texts, *columns.choices)}
    labels = {_NO_LABEL: [_any_label(member)] * len(frame)}
    dataset = Dataset.from_dict({**texts, **labels})
    splits = Splits(
        train=dataset.select([0]),
        validation=dataset,
        test=None,
        unlabelled=None,
        text_columns=columns.texts,
        choice_columns=columns.choices,
        label_column=_NO_LABEL,
        label_names=member.label_names,
        multi_label=member.problem_type == "multi_label_classification",
        groups=None,
        notes=(),
    )
    length = None if member.configuration is None else member.configuration.model.max_length
    with _without_bars():
        tokenizer = load_tokenizer(str(_tokenizer_folder(member)))
        return prepare_task(member.task, splits, tokenizer, max_length=length)


def columns_of(
    member: Member,
    frame: pd.DataFrame,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> Columns:
    """Settles which columns the model reads: those named, those of its run, or a sure guess.

    Raises:
        DataError: A column is missing, or a guess is not sure.
    """
    run = member.configuration.values if member.configuration is not None else {}
    label = run.get("label_column") or _usual_label(frame, member.task) or _NO_LABEL
    arguments = DataArguments(
        text_columns=list(text_columns or run.get("text_columns") or ()) or None,
        choice_columns=list(choice_columns or run.get("choice_columns") or ()) or None,
        label_column=label,
    )
    columns = choose_columns(frame, arguments, task=member.task)
    for key, needed in (("text_columns", columns.texts), ("choice_columns", columns.choices)):
        require_columns(frame, needed, key=key, origin="the file of the rows")
    return columns


@contextlib.contextmanager
def loaded(member: Member) -> Iterator[PreTrainedModel]:
    """Loads the weights in evaluation mode, on the GPU if there is one, and frees them after.

    Raises:
        ConfigurationError: They cannot be loaded.
    """
    import torch

    with _quiet_loading():
        try:
            model: PreTrainedModel = auto_class(member.task).from_pretrained(
                str(member.model_folder), dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"the model in {str(member.model_folder)!r} cannot be loaded: {error}"
            ) from error
    model.to(_device(member))  # type: ignore[arg-type]  # as transformers decorates `to`
    yield model.eval()
    model.to("cpu")  # type: ignore[arg-type]


def outputs_of(
    model: PreTrainedModel, prepared: PreparedTask, member: Member, *, batch_size: int
) -> npt.NDArray[np.float32]:
    """Returns the outputs of a model for the `validation` rows of a task, in their first order.

    Args:
        model: In evaluation mode.
        prepared: What `tokenise` returned.
        member: Whose precision is used.
        batch_size: Rows per forward pass, the longest rows first.
    """
    import torch

    rows, places = prepared.validation, prepared.validation_rows
    takes = set(inspect.signature(model.forward).parameters) - {"labels"}
    parts: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode(), _precision(member, model.device):
        for start in range(0, len(rows), batch_size):
            chosen = [rows[row] for row in range(start, min(start + batch_size, len(rows)))]
            batch = prepared.data_collator(chosen)
            batch = {k: v.to(model.device) for k, v in batch.items() if k in takes}
            parts.append(model(**batch).logits.float().cpu().numpy())
    found = np.concatenate(parts)
    outputs = np.empty_like(found)
    outputs[list(places or range(len(rows)))] = found
    return outputs


def _device(member: Member) -> torch.device:
    import torch

    if member.configuration is not None and member.configuration.values.get("use_cpu"):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _precision(member: Member, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Half precision where the run's evaluations had it, and the device has it, too."""
    import torch

    values = member.configuration.values if member.configuration is not None else {}
    kind = torch.bfloat16 if values.get("bf16") else torch.float16 if values.get("fp16") else None
    if kind is None or (device.type == "cpu" and kind == torch.float16):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=kind)


def _tokenizer_folder(member: Member) -> Path:
    """A checkpoint may lack the tokenizer; its run has it."""
    places = (member.model_folder, member.folder.parent / "model")
    for place in places:
        if (place / "tokenizer_config.json").is_file():
            return place
    return member.model_folder


def _usual_label(frame: pd.DataFrame, task: str) -> str | None:
    """The column that would be the label, so that it is not taken for the text."""
    try:
        names = [str(name) for name in frame.columns]
        texts = DataArguments(text_columns=names[:1])
        return choose_columns(frame, texts, task=task).label if len(names) > 1 else None
    except DataError:
        return None


def _any_label(member: Member) -> Any:
    """A label of the right kind; nothing reads it."""
    if member.problem_type == "multi_label_classification":
        return []
    if member.label_names is not None:
        return member.label_names[0]
    return 0.0 if member.problem_type == "regression" else 0


def checked_texts(frame: pd.DataFrame, column: str) -> list[str]:
    """Returns the texts of a column.

    Raises:
        DataError: A row has none.
    """
    cells = frame[column]
    texts = cells.astype(str)
    empty = (cells.isna() | (texts.str.strip() == "")).to_numpy()
    if empty.any():
        raise DataError(
            f"{empty.sum()} of {len(frame)} rows have no text in column {column!r} (the first is "
            f"row {int(empty.argmax()) + 1}); remove them"
        )
    return [str(text) for text in texts]


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Rows are tokenised by the chunk: a bar for each would bury the one that counts."""
    from datasets.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
