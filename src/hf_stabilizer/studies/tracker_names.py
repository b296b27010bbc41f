"""What is a run of a study called in a tracker, and in which group does it stand?

    group    the study:          name of its folder; inside a procedure that of the procedure first,
                                 e.g. labels-study, labels-teachers-round-1; of folds that alone
    name     the run in it:      RECIPE/SEEDS, e.g. stabilised/seed3

What somebody has set stands: a project or a run's name among the options comes first, and so does
every variable of the environment. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.procedure import FILE as PROCEDURE
from hf_stabilizer.procedure import read_procedure

_TENSORBOARD = "TENSORBOARD_LOGGING_DIR"
# Where one of the first is set, the second would overrule it.
_SAID_OTHERWISE = {"MLFLOW_EXPERIMENT_ID": "MLFLOW_EXPERIMENT_NAME"}


@dataclass(frozen=True)
class TrackerNames:
    """Names of one run, for all trackers."""

    group: str
    """What all runs of the study share."""
    name: str
    """What only this run is called."""
    project: str
    """trackio's word for the group, which an option may set."""
    folder: Path
    """Folder of the run."""

    @classmethod
    def of(cls, folder: Path, options: Mapping[str, Any] | None = None) -> TrackerNames:
        """Returns the names of the run in a folder.

        A `run_name` among the options is that of all runs, so it is followed by recipe and seeds;
        in a `project` that was chosen, where other studies may be, the study's name comes first.

        Args:
            folder: STUDY/runs/RECIPE/SEEDS.
            options: The run's options, of which `run_name` and `project` are looked at.

        Example:
            >>> names = TrackerNames.of(Path("results/sst2/runs/plain/seed3"))
            >>> names.group, names.name
            ('sst2', 'plain/seed3')
            >>> TrackerNames.of(names.folder, {"project": "reviews"}).name
            'sst2/plain/seed3'
            >>> TrackerNames.of(names.folder, {"run_name": "friday"}).name
            'friday/plain/seed3'
        """
        options = options or {}
        group = _group(folder.absolute().parents[2])
        first = options.get("run_name") or (group if options.get("project") else "")
        parts = [part for part in (str(first), folder.parent.name, folder.name) if part]
        return cls(
            group=group,
            # wandb allows no slash where it names a model after its run.
            name=("." if _saves_models() else "/").join(parts),
            project=str(options.get("project") or group),
            folder=folder,
        )

    def environment(self, *, key: str = "") -> dict[str, str]:
        """Returns the variables that tell it to the trackers; what is set already is left out.

        Args:
            key: Identity of this attempt at the run, 32 letters and digits, under which it can go
                on in another process; "" leaves that to the tracker.
        """
        ours = {
            "WANDB_RUN_GROUP": self.group,
            "WANDB_NAME": self.name,
            "MLFLOW_EXPERIMENT_NAME": self.group,
            "MLFLOW_RUN_NAME": self.name,
            "COMET_PROJECT_NAME": self.group,
            "CLEARML_PROJECT": self.group,
            "CLEARML_TASK": self.name,
            "SWANLAB_PROJECT": self.group,
        }
        if key:
            ours |= {
                "WANDB_RUN_ID": key,
                "WANDB_RESUME": "allow",
                "WANDB_SILENT": "true",  # in a worker, whose screen is the study's
                "COMET_EXPERIMENT_KEY": key,
                "SWANLAB_RUN_ID": key[:21],  # as long as it allows
                "SWANLAB_RESUME": "allow",
            }
        for theirs, name in _SAID_OTHERWISE.items():
            if theirs in os.environ:
                del ours[name]
        unset = {name: value for name, value in ours.items() if name not in os.environ}
        return {**unset, _TENSORBOARD: self._tensorboard()}

    def _tensorboard(self) -> str:
        """The run's folder, by whose path TensorBoard names the run; or one in what was set."""
        base = os.environ.get(_TENSORBOARD)
        if base is None:
            return str(self.folder)
        return str(Path(base, self.group, self.folder.parent.name, self.folder.name))


def _group(study: Path) -> str:
    """Name of a study; inside a procedure, which may hold several, the way to it from there.

    The folds of a cross-validation are all that it trains, so they have its own name.
    """
    above = next((path for path in study.parents[:3] if (path / PROCEDURE).is_file()), None)
    if above is None:
        return study.name or "study"
    parts = study.relative_to(above).parts
    is_all = parts == ("study",) and _kind(above) == "cross-validate"
    return above.name if is_all else "-".join([above.name, *parts])


def _kind(folder: Path) -> str:
    """What a procedure is; "" where its record is damaged, which is for others to say."""
    with contextlib.suppress(StudyError):
        record = read_procedure(folder)
        return "" if record is None else record.kind
    return ""


def _saves_models() -> bool:
    return os.environ.get("WANDB_LOG_MODEL", "false").lower() not in ("", "0", "false")
