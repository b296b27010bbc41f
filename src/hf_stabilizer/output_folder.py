"""Where does a run write, and does it go on there? A folder holds one run, from start to end.

A run that was cut off goes on from its newest whole checkpoint when it is started again with the
same configuration. What another configuration has trained is neither continued nor overwritten.
"""

from __future__ import annotations

import logging
from pathlib import Path

from hf_stabilizer.checkpoints import last_complete_checkpoint
from hf_stabilizer.configuration import IGNORED, Configuration
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.recipes import read_yaml
from hf_stabilizer.records import check_folder

logger = logging.getLogger(__name__)


def free_folder(configuration: Configuration) -> Path:
    """Returns the output folder, which holds no finished run.

    Raises:
        ConfigurationError: There is no such key, it cannot be a folder, or it holds a run.
    """
    if not configuration.values.get("output_dir"):
        raise ConfigurationError("output_dir is missing; name the folder for model and record")
    folder = Path(configuration.values["output_dir"])
    check_folder(folder, key="output_dir")
    checkpoint = configuration.values.get("resume_from_checkpoint")
    if checkpoint and not Path(checkpoint).is_dir():
        raise ConfigurationError(
            f"resume_from_checkpoint {checkpoint!r} is no folder; name a checkpoint, for instance "
            f"{str(folder / 'checkpoint-100')!r}"
        )
    for name, what in (("run.json", "a run"), ("study.json", "a study")):
        if (folder / name).exists():
            raise ConfigurationError(
                f"output_dir {str(folder)!r} holds {what} already; "
                "name another folder, or remove it"
            )
    return folder


def resumed(configuration: Configuration, folder: Path) -> Configuration:
    """Goes on from the newest whole checkpoint of a run that was cut off, if there is one.

    Where none can be resumed from, as with `save_only_model`, the run begins anew.

    Raises:
        ConfigurationError: The checkpoints are those of another configuration.
    """
    if configuration.values.get("resume_from_checkpoint") or not any(folder.glob("checkpoint-*")):
        return configuration
    _check_same_run(configuration, folder)
    checkpoint = last_complete_checkpoint(folder)
    if checkpoint is None:
        logger.info("no checkpoint in %s can be resumed from: the run begins anew", folder)
        return configuration
    logger.info("goes on from %s", checkpoint)
    return configuration.with_values(resume_from_checkpoint=checkpoint)


def _check_same_run(configuration: Configuration, folder: Path) -> None:
    """Refuses to go on with, or to overwrite, what another configuration has trained."""
    way_out = "set resume_from_checkpoint to one of them, name another folder, or remove it"
    what = f"output_dir {str(folder)!r} holds checkpoints of a run that was cut off"
    path = folder / "configuration.yaml"
    if not path.is_file():
        raise ConfigurationError(f"{what}, and does not say of which; {way_out}")
    ours, theirs = configuration.recorded, read_yaml(path)
    names = sorted({*ours, *theirs} - {*IGNORED, "output_dir", "resume_from_checkpoint"})
    # To name what that run has settled itself, such as a column that it guessed, changes nothing.
    settled = {
        **(theirs.get("settled") or {}),
        **{k: v for k, v in theirs.items() if v is not None},
    }
    differences = [
        f"{name} {theirs.get(name)!r} -> {ours.get(name)!r}"
        for name in names
        if ours.get(name) not in (theirs.get(name), settled.get(name))
    ]
    if differences:
        raise ConfigurationError(
            f"{what}, with another configuration ({', '.join(differences)}); {way_out}"
        )
