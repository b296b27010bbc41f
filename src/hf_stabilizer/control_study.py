"""Did other training rows help? A control and a treated recipe over the same seeds.

Both choose and judge by the same rows. Unless told otherwise they take as many optimizer steps,
for a gain of longer training is none of better rows.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from hf_stabilizer.arguments import StabilizerArguments
    from hf_stabilizer.configuration import Configuration
    from hf_stabilizer.studies.study import Study

logger = logging.getLogger(__name__)
# Any in this module: values of configuration keys, and options of `run_study`.
CONTROL = "control"
EQUAL = ("steps", "epochs")
"""What the runs with and without have in common."""


def check_runs(runs: int | None, *, may_be_none: bool = True) -> None:
    """Checks how many pairs of runs are asked for, with and without; of one pair it warns.

    Args:
        runs: Of each recipe; None: as many as the procedure has by default, which is enough.
        may_be_none: Whether 0 stands for no comparison at all.

    Raises:
        ConfigurationError: It is no whole number, or 0 where there is always a control.

    Example:
        >>> check_runs(-1)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: runs must be a whole number of pairs from 1 up, or
        0 for none, got -1
    """
    if runs is None:
        return
    none = ", or 0 for none" if may_be_none else ""
    least = 0 if may_be_none else 1
    check_whole(runs, f"of pairs from 1 up{none}", name="runs", least=least)
    if runs == 1:
        logger.warning("runs=1 is one pair, which says nothing of chance; 6 or more can")


def check_countable(configuration: Configuration, launcher: str | None) -> None:
    """Checks that the steps of the runs can be told beforehand, so that they can be made equal.

    Args:
        configuration: That of the control.
        launcher: Command line that trains each run in several processes; None: in one.

    Raises:
        ConfigurationError: They depend on how many devices a run is given.

    Example:
        >>> from hf_stabilizer.configuration import load_configuration
        >>> keys = {"model_name_or_path": "m", "max_steps": 9}
        >>> check_countable(load_configuration(keys), "torchrun")
    """
    args = configuration.arguments(output_dir="unused")
    if args.max_steps > 0 or (launcher is None and args.n_gpu <= 1):
        return
    devices = "launcher starts" if launcher else f"runs are given of {args.n_gpu} GPUs"
    raise ConfigurationError(
        "control and treated runs are to be equally long, and how many steps an epoch has depends "
        f"on how many processes or devices {devices}; set max_steps, which all of them take"
    )


def check_control(
    config: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> None:
    """Checks that a control could run, before the rows that are to be held against it are made.

    Those may cost hours, or money; and a record that was begun with keys that the study refuses
    cannot be gone on with when they are mended.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        overrides: Keys that beat the file.

    Raises:
        ConfigurationError: The study would refuse it: seeds are set, or options, metrics, model and
            tokenizer do not go together.
        DataError: The rows are not as the configuration says.
    """
    from hf_stabilizer.run import check, prepare_data
    from hf_stabilizer.studies.question import load_recipes

    (control,) = load_recipes(_values(config, overrides), {CONTROL: {}}, None).values()
    check(control, prepare_data(control))


def _values(
    config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Laid over the recipes, overrides would beat the very keys that tell recipes apart."""
    from hf_stabilizer.recipes import read_yaml

    values = dict(config) if isinstance(config, Mapping) else read_yaml(Path(config))
    return {**values, **(overrides or {})}


def equal_steps(configuration: Configuration, before: int, after: int) -> dict[str, Any]:
    """Returns the keys with which more rows take as many steps, and are looked at as often.

    Args:
        configuration: That of the control.
        before: Training rows of the control.
        after: Training rows of the treated runs.

    Example:
        >>> from hf_stabilizer.configuration import load_configuration
        >>> keys = {"model_name_or_path": "m", "num_train_epochs": 4}
        >>> keys |= {"per_device_train_batch_size": 10}
        >>> equal_steps(load_configuration(keys), before=100, after=200)["max_steps"]
        40
    """
    from hf_stabilizer.silent_mistakes.timetable import planned_steps

    args = configuration.arguments(output_dir="unused")
    if args.max_steps > 0 or after == before:
        return {}
    steps, per_epoch = planned_steps(args, before)
    own = planned_steps(args, after)[1]
    return {"max_steps": steps, **as_often(args, steps, per_epoch, own)}


def as_often(
    args: StabilizerArguments, steps: int | None, per_epoch: int | None, own: int | None
) -> dict[str, Any]:
    """Returns the keys that let a run look at the steps where one with other epochs does.

    Where weights are chosen, more looks are more chances. Looks that are not evenly spaced are met
    as nearly as whole looks per epoch allow, and never more often.

    Args:
        args: When the other looks.
        steps: Optimizer steps of both.
        per_epoch: Those of an epoch of the other.
        own: Those of an epoch of the run that the keys are for.
    """
    from transformers.trainer_utils import SaveStrategy

    assert steps  # rows have a number
    assert per_epoch
    assert own
    looks = min(args.evaluations_per_epoch, per_epoch)
    if own == per_epoch:
        return {}
    if not looks:
        return _each_epoch(args, steps, per_epoch)
    between = per_epoch // looks
    is_even = per_epoch % looks == 0 and steps % between == 0
    # Saving at other steps than those with a look would be refused.
    saves = SaveStrategy(args.save_strategy) in (SaveStrategy.BEST, SaveStrategy.NO)
    if is_even and saves and args.eval_strategy == "no":
        return {
            "evaluations_per_epoch": 0,
            "isolate_evaluations": True,
            "eval_strategy": "steps",
            "eval_steps": between,
        }
    return {"evaluations_per_epoch": max(1, looks * own // per_epoch)}


def _each_epoch(args: StabilizerArguments, steps: int, per_epoch: int) -> dict[str, Any]:
    """Returns the keys for looks that the Trainer itself takes at the end of each other epoch."""
    if args.eval_strategy != "epoch" or steps % per_epoch:
        return {}
    keys = {"eval_strategy": "steps", "eval_steps": per_epoch}
    if args.save_strategy == "epoch":
        keys |= {"save_strategy": "steps", "save_steps": per_epoch}
    return keys


def write_recipe(path: Path, keys: Mapping[str, Any], *, comment: str, source: str) -> None:
    """Writes keys as a recipe that `--recipe` and `study` read."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(dict(keys), text)
    write_atomically(path, f"# {comment}\n# Source: {source}\n{text.getvalue()}")


def compare_with_control(
    config: str | Path | Mapping[str, Any],
    *,
    control: Mapping[str, Any],
    treated: Mapping[str, Mapping[str, Any]],
    folder: Path,
    overrides: Mapping[str, Any] | None = None,
    **study: Any,
) -> Study:
    """Runs the control and what is held against it over the same seeds, and writes the report.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        control: Keys of the control.
        treated: Name -> keys of each recipe that is compared with it.
        folder: Folder of the study; the page is `report.html` in it.
        overrides: Keys that beat the file, and are beaten by these recipes.
        **study: Options of `run_study`.
    """
    from hf_stabilizer.studies.page.report import write_report
    from hf_stabilizer.studies.schedule import run_study

    found = run_study(
        _values(config, overrides),
        recipes={CONTROL: control, **treated},
        output_dir=folder,
        **study,
    )
    write_report(found, folder / "report.html")
    return found
