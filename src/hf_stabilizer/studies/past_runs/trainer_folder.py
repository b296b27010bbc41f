"""What did a Trainer leave in a folder? Its history, its results, its arguments and its seeds.

    trainer_state.json            `trainer.save_state()`; else that of the newest checkpoint
    all_results.json              or eval_, test_, predict_ and train_results.json: `save_metrics`
    training_args.bin             seeds, metric and settings; looked through, never executed
    README.md                     the model card, for seeds where there are no arguments

No file is demanded. One that cannot be read is a note that names it, and the others are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hf_stabilizer.errors import StudyError
from hf_stabilizer.studies.past_runs.folder_names import seeds_in_name
from hf_stabilizer.studies.past_runs.saved_arguments import read_saved_arguments

T = TypeVar("T")

STATE = "trainer_state.json"
ARGUMENTS = "training_args.bin"
# What a script saves by hand last is read last, and so counts.
RESULTS = tuple(f"{split}_results.json" for split in ("train", "eval", "test", "predict", "all"))
SEEDS = ("head_seed", "data_seed", "seed")
_DEFAULT_SEED = 42


@dataclass(frozen=True)
class TrainerFolder:
    """The files of one run, read."""

    folder: Path
    """The run's folder."""
    state: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """`trainer_state.json`; empty where there is none."""
    results: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """All results files together."""
    arguments: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever was an argument
    """The plain values in `training_args.bin`."""
    card: str = ""
    """The model card's text."""
    transformers: str = ""
    """Version of transformers that wrote the model; empty where nothing tells it."""
    has_model: bool = False
    """Whether a model lies in the folder itself, as `trainer.save_model()` leaves it."""
    notes: tuple[str, ...] = ()
    """A sentence for each file that could not be read."""

    @property
    def history(self) -> list[Mapping[str, Any]]:  # Any: whatever was logged
        """The `log_history`."""
        return list(self.state.get("log_history") or ())

    @property
    def steps(self) -> int:
        """Optimizer steps that the state tells of."""
        return int(self.state.get("global_step") or 0)

    def seeds(self) -> dict[str, int]:
        """Returns the seeds that are known, by option name; what is unknown is absent.

        The arguments say it, then the model card. A name that states another seed than the
        Trainer's default 42 is believed: scripts that seed by themselves leave the default there.
        """
        said = {k: v for k in SEEDS if type(v := self.arguments.get(k)) is int}
        if not said and (match := re.search(r"^- seed: (\d+)$", self.card, re.M)):
            said = {"seed": int(match[1])}
        named = seeds_in_name(self.folder.name) or seeds_in_name(self.folder.parent.name)
        if said.get("seed") == _DEFAULT_SEED and "seed" in named:
            del said["seed"]
        return {k: (named | said)[k] for k in SEEDS if k in named or k in said}

    def best_checkpoint(self) -> str | None:
        """Returns the folder of the best checkpoint if it is still there, also after a move."""
        stored = str(self.state.get("best_model_checkpoint") or "")
        name = re.split(r"[\\/]", stored)[-1]
        return str(self.folder / name) if name and (self.folder / name).is_dir() else None


def is_run(folder: Path) -> bool:
    """Returns whether a Trainer left anything in a folder that tells of a run."""
    names = (STATE, ARGUMENTS, *RESULTS)
    return any((folder / name).is_file() for name in names) or any(checkpoints(folder))


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, the newest first."""
    found = [p for p in folder.glob("checkpoint-*") if is_checkpoint(p)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def is_checkpoint(folder: Path) -> bool:
    """Returns whether the folder is called like a checkpoint."""
    return bool(re.fullmatch(r"checkpoint-\d+", folder.name)) and folder.is_dir()


def read_trainer_folder(folder: Path) -> TrainerFolder:
    """Reads what a Trainer left in the folder of a run."""
    notes: list[str] = []
    places = [folder, *checkpoints(folder)]
    results: dict[str, Any] = {}
    for name in RESULTS:
        results |= _read(folder / name, _mapping, notes) or {}
    state = _newest([_read(place / STATE, _state, notes) for place in places])
    arguments = _first(_read(place / ARGUMENTS, read_saved_arguments, notes) for place in places)
    config = _first(_read(place / "config.json", _mapping, notes) for place in places)
    weights = ("model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json")
    return TrainerFolder(
        folder=folder,
        state=state,
        results=results,
        arguments=arguments or {},
        card=_read(folder / "README.md", _text, notes) or "",
        transformers=str((config or {}).get("transformers_version") or ""),
        has_model=any((folder / name).is_file() for name in weights),
        notes=tuple(notes),
    )


def _first(found: Iterator[T | None]) -> T | None:
    return next((one for one in found if one), None)


def _newest(states: list[dict[str, Any] | None]) -> dict[str, Any]:  # Any: JSON
    """The state of the most steps; the folder's own where a checkpoint has as many."""
    return max(filter(None, states), key=lambda state: state["global_step"], default={})


def _read(path: Path, reader: Callable[[Path], T], notes: list[str]) -> T | None:
    """Reads a file that may be absent; what is wrong with it is noted."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    except StudyError as error:
        notes.append(str(error))
    except OSError as error:
        notes.append(f"{path} cannot be read ({error.strerror})")
    return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _mapping(path: Path) -> dict[str, Any]:  # Any: JSON
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path} cannot be read: it is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} cannot be read: it holds no mapping")
    return content


def _state(path: Path) -> dict[str, Any]:  # Any: JSON
    state = _mapping(path)
    history = state.get("log_history")
    lines = history if isinstance(history, list) else [None]
    if type(state.get("global_step")) is not int or not all(_is_line(line) for line in lines):
        raise StudyError(f"{path} cannot be read: it is not the state of a Trainer")
    return state


def _is_line(line: object) -> bool:
    return isinstance(line, dict) and type(line.get("step")) is int
