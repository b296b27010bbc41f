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
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data import DataArguments, Splits
from hf_stabilizer.data.columns import Columns, choose_columns, require_columns
from hf_stabilizer.errors import ConfigurationError, DataError, check_whole
from hf_stabilizer.models import auto_class, load_tokenizer
from hf_stabilizer.tasks import PreparedTask, prepare_task
from hf_stabilizer.tasks.prepared import ProblemType

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hf_stabilizer.configuration import Configuration

# Any in this module: cells of the user's table, values of a JSON file, batches.
TASKS: tuple[str, ...] = ("text-classification", "text-regression", "multiple-choice")
"""Tasks whose models put out one row of numbers for each row."""
_ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForTokenClassification": "token-classification",
    "ForConditionalGeneration": "seq2seq",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
}
_NO_LABEL = "_no_label"


@dataclass(frozen=True)
class Member:
    """A trained model, and what it takes to ask it about rows."""

    folder: Path
    """The folder that was named: a run, a checkpoint of one, or a model by itself."""
    model_folder: Path
    """The folder with its weights."""
    task: str
    """What it was trained for, e.g. "text-classification"."""
    label_names: tuple[str, ...] | None
    """Names of the classes in the order of their ids; None but for classification."""
    problem_type: ProblemType
    """As `PreTrainedConfig.problem_type` has it; None for multiple-choice."""
    configuration: Configuration | None = None
    """What the run did; None for a model without one."""

    @property
    def name(self) -> str:
        """What people call it: its folder."""
        return str(self.folder)


def read_member(folder: str | Path) -> Member:
    """Reads what a trained model is: a run's folder, a checkpoint inside it, or a model's own.

    Raises:
        ConfigurationError: The folder holds no weights, or does not say what they are for.

    Example:
        >>> read_member("nowhere")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: there is no folder 'nowhere'; name a run's folder,
        a checkpoint in one, or a model that `save_pretrained` wrote
    """
    from hf_stabilizer.data import resolve_location

    folder = Path(resolve_location(str(folder)))
    model_folder = _model_folder(folder)
    said = _read_json(model_folder / "config.json")
    configuration = _configuration(folder)
    task = _task(said, configuration, folder)
    problem_type = _problem_type(task, said)
    has_names = task in ("text-classification", "token-classification")
    names = _names_in(said) if has_names else None
    return Member(folder, model_folder, task, names, problem_type, configuration)


def read_names(folder: str | Path) -> tuple[str, ...] | None:
    """Returns the names of a model's classes in the order of their ids, None if it was not kept."""
    for place in (Path(folder) / "model", Path(folder)):
        if (place / "config.json").is_file():
            return _names_in(_read_json(place / "config.json"))
    return None


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
    texts = {name: _texts(frame, name) for name in (*columns.texts, *columns.choices)}
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

    wants_cpu = member.configuration is not None and member.configuration.values.get("use_cpu")
    accelerator = None if wants_cpu else torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def _precision(member: Member, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Half precision where the run's evaluations had it, and the device has it, too."""
    import torch

    values = member.configuration.values if member.configuration is not None else {}
    kind = torch.bfloat16 if values.get("bf16") else torch.float16 if values.get("fp16") else None
    if kind is None or (device.type == "cpu" and kind == torch.float16):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=kind)


def _model_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {str(folder)!r}; name a run's folder, a checkpoint in one, or a "
            "model that `save_pretrained` wrote"
        )
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    is_run = (folder / "run.json").is_file()
    why = ": a study keeps the best model of each recipe only" if is_run else ""
    raise ConfigurationError(
        f"{str(folder)!r} holds no model{why}; "
        + ("name the folder of a run whose model was kept" if is_run else "name a run's folder")
    )


def _tokenizer_folder(member: Member) -> Path:
    """A checkpoint may lack the tokenizer; its run has it."""
    places = (member.model_folder, member.folder.parent / "model")
    for place in places:
        if (place / "tokenizer_config.json").is_file():
            return place
    return member.model_folder


def _configuration(folder: Path) -> Configuration | None:
    """The run's configuration, unchecked: it may ask for a device that is not here."""
    from hf_stabilizer.configuration import IGNORED, Configuration
    from hf_stabilizer.recipes import read_yaml

    for place in (folder, folder.parent):
        path = place / "configuration.yaml"
        if path.is_file():
            said = read_yaml(path)
            values = {key: value for key, value in said.items() if key not in IGNORED}
            return Configuration(values, str(said.get("recipe", "plain")), frozenset(values))
    return None


def _task(said: Mapping[str, Any], configuration: Configuration | None, folder: Path) -> str:
    if configuration is not None and configuration.values.get("task"):
        return str(configuration.values["task"])
    for name in said.get("architectures") or ():
        for end, task in _ARCHITECTURES.items():
            if name.endswith(end):
                is_number = said.get("problem_type") == "regression"
                return "text-regression" if is_number else task
    raise ConfigurationError(
        f"{str(folder)!r} does not say what its model is for: no configuration.yaml, and "
        f"architectures {said.get('architectures')!r}; name the folder of a run"
    )


def _problem_type(task: str, said: Mapping[str, Any]) -> ProblemType:
    if task == "text-regression":
        return "regression"
    if task != "text-classification":
        return None
    several = said.get("problem_type") == "multi_label_classification"
    return "multi_label_classification" if several else "single_label_classification"


def _names_in(said: Mapping[str, Any]) -> tuple[str, ...]:
    ids = said.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # as transformers has it
    return tuple(str(ids[key]) for key in sorted(ids, key=int))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no model's configuration ({error}); save the model again"
        ) from error
    return found


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


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
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
