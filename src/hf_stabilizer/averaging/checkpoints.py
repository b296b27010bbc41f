"""What lies beside the model in a checkpoint, so that resuming is bit-exact?

`model.safetensors` holds the mean, the weights that were scored; `averaging.safetensors` holds

    raw.<parameter>     the weights that training goes on from
    mean.<parameter>    the mean over the grid so far, in fp32

and in its metadata the step, the number of updates, and the settings they were made with.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_stabilizer.averaging.weights import AveragedWeights, gathered
from hf_stabilizer.checkpoint_notes import Settings, differences
from hf_stabilizer.errors import ResumeError

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

AVERAGING_FILE = "averaging.safetensors"


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


def write_config(folder: Path, model: nn.Module) -> None:
    """Writes the configuration that the Trainer leaves out where a model is saved in shards."""
    config = copy.copy(getattr(model, "config", None))
    if isinstance(config, PreTrainedConfig) and not (folder / "config.json").exists():
        config.architectures = [type(model).__name__.removeprefix("FSDP")]  # FSDP2's own subclass
        config.save_pretrained(folder)


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
    return [*([Path(given)] if isinstance(given, str | Path) else []), written_folder(args, state)]


def find_average(
    folders: Iterable[Path], weights: AveragedWeights, *, step: int
) -> tuple[SavedAverage | None, list[str]]:
    """Returns the average that belongs to the loaded weights, or None, and why others do not.

    A folder of the right name may be another run's: only one whose model is the loaded one counts.
    """
    reasons = []
    for folder in dict.fromkeys(folders):
        path = folder / AVERAGING_FILE
        if not path.is_file():
            reasons.append(f"{folder} has none")
            continue
        saved = read_average(path)
        reason = _difference(saved, weights, step=step)
        if reason is None:
            return saved, []
        reasons.append(f"that of {folder} {reason}")
    return None, reasons


def check_settings(saved: SavedAverage, settings: Settings) -> None:
    """Raises if the average was made with other settings.

    Raises:
        ResumeError: It was; the message names each difference.
    """
    if changes := differences(saved.settings, settings):
        raise ResumeError(
            f"the averaging of {saved.path.parent} was set up otherwise "
            f"({changes}; steps are optimizer steps); resume with the settings "
            "that it was started with, or train from the beginning"
        )


def _difference(saved: SavedAverage, weights: AveragedWeights, *, step: int) -> str | None:
    """Says in what an average differs from the one that belongs to the model; None: in nothing."""
    if saved.step != step:
        return f"is of step {saved.step}"
    before, now = saved.raw.keys(), weights.raw.keys()
    if before != now:
        names = [*(f"-{name}" for name in sorted(before - now))]
        names += [f"+{name}" for name in sorted(now - before)]
        more = ", ..." if len(names) > 6 else ""
        return f"is over other weights (-) than this run trains (+): {', '.join(names[:6])}{more}"
    return None if _is_loaded(saved, weights) else "belongs to another model than was loaded"


def _is_loaded(saved: SavedAverage, weights: AveragedWeights) -> bool:
    shown = saved.mean or saved.raw
    if saved.shows_current and not saved.is_current:
        # On the device that trains: another one rounds its last bit otherwise.
        shown = weights.moved(weights.placed(saved.mean), weights.placed(saved.raw), saved.count)
    return weights.holds(shown)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
