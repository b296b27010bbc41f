"""What lies beside the model in a checkpoint, so that resuming is bit-exact?

`model.safetensors` holds the mean, the weights that were scored; `averaging.safetensors` holds

    raw.<parameter>     the weights that training goes on from
    mean.<parameter>    the mean over the grid so far, in fp32

and in its metadata the step, the number of updates, and the settings they were made with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_stabilizer.averaging.weights import AveragedWeights, gathered
from hf_stabilizer.errors import ResumeError

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

AVERAGING_FILE = "averaging.safetensors"

Settings = Mapping[str, Any]  # Any: str, int, float or bool


@dataclass(frozen=True)
class SavedAverage:
    """What a checkpoint's `averaging.safetensors` says."""

    path: Path
    """The file."""
    step: int
    """The optimizer step after which it was written."""
    count: int
    """How many times the mean was updated."""
    is_current: bool
    """Whether the raw weights are in the mean."""
    shows_current: bool
    """Whether the model beside it holds the mean with the raw weights in it."""
    settings: Settings
    """The options of the callback, `start` in steps."""
    raw: Mapping[str, Tensor]
    """The raw weights by name."""
    mean: Mapping[str, Tensor]
    """The mean by name; empty before the first update."""


def write_average(
    path: Path,
    weights: AveragedWeights,
    *,
    step: int,
    shows_current: bool,
    settings: Settings,
    is_writer: bool,
) -> None:
    """Writes the file so that a reader sees the whole of it or nothing.

    Every process must call where weights are sharded; only the writers write.
    """
    tensors: dict[str, Tensor] = {}
    for kind, named in (("raw", weights.raw), ("mean", weights.mean)):
        for name, tensor in named.items():
            whole = gathered(tensor)
            if is_writer:
                tensors[f"{kind}.{name}"] = whole.cpu().contiguous()
    if not is_writer:
        return
    facts = {
        "step": step,
        "count": weights.count,
        "is_current": weights.is_current,
        "shows_current": shows_current,
        "settings": dict(settings),
    }
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in facts.items()}}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(path)


def read_average(path: Path) -> SavedAverage:
    """Reads a file that `write_average` wrote.

    Raises:
        ResumeError: It is not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        facts = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
        raw, mean = _under("raw.", tensors), _under("mean.", tensors)
        return SavedAverage(path=path, raw=raw, mean=mean, **facts)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ResumeError(
            f"{path} cannot be read as the averages of a checkpoint ({error}); resume from an "
            "earlier checkpoint"
        ) from error


def written_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Returns the checkpoint folder of this step.

    A hyperparameter search writes into a folder per trial whose name it keeps for itself: there
    it is the newest that is called so, once it has been written.
    """
    name = f"checkpoint-{state.global_step}"
    output_dir = Path(args.output_dir or ".")
    trials = output_dir.glob(f"*/{name}") if state.is_hyper_param_search else ()
    return max(trials, key=lambda folder: folder.stat().st_mtime, default=output_dir / name)


def loadable_folders(args: TrainingArguments, state: TrainerState) -> list[Path]:
    """Returns where the checkpoint that was resumed from may lie, the likeliest first.

    No event tells: `Trainer.train(resume_from_checkpoint=PATH)` leaves `args` as they are.
    """
    given = args.resume_from_checkpoint
    return [*([Path(given)] if isinstance(given, str) else []), written_folder(args, state)]


def find_average(
    folders: Iterable[Path], weights: AveragedWeights, *, step: int
) -> SavedAverage | None:
    """Returns the average that belongs to the weights that were loaded, None if there is none.

    A folder of the right name may be another run's: only one whose model is the loaded one counts.
    """
    for folder in folders:
        path = folder / AVERAGING_FILE
        if path.is_file():
            saved = read_average(path)
            if saved.step == step and _is_loaded(saved, weights):
                return saved
    return None


def check_settings(saved: SavedAverage, settings: Settings) -> None:
    """Raises if the average was made with other settings.

    Raises:
        ResumeError: It was; the message names each difference.
    """
    names = sorted({*saved.settings, *settings})
    differences = [
        f"{name} {saved.settings.get(name)!r} -> {settings.get(name)!r}"
        for name in names
        if saved.settings.get(name) != settings.get(name)
    ]
    if differences:
        raise ResumeError(
            f"the averaging of {saved.path.parent} was set up otherwise "
            f"({', '.join(differences)}; steps are optimizer steps); resume with the settings "
            "that it was started with, or train from the beginning"
        )


def _is_loaded(saved: SavedAverage, weights: AveragedWeights) -> bool:
    shown = saved.mean or saved.raw
    if saved.shows_current and not saved.is_current:
        shown = weights.moved(saved.mean, saved.raw, saved.count)
    return weights.holds(shown)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
