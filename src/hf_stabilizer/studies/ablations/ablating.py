"""Which of these remedies is it that helps? The study of an ablation, from remedies to numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import ConfigurationError, check_kind
from hf_stabilizer.recipes import load_recipe
from hf_stabilizer.studies.ablations.ablation import runs_needed
from hf_stabilizer.studies.ablations.remedies import arms_of, read_remedies
from hf_stabilizer.studies.commands.command_template import is_command
from hf_stabilizer.studies.rehearsal import rehearse_study
from hf_stabilizer.studies.rehearsed import RehearsedStudy
from hf_stabilizer.studies.schedule import run_study
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.subject import Asked, open_subject

GRID = ("head_seeds", "data_seeds", "dropout_seeds")
"""Options of `run_study` that say how many runs there are."""


def ablate(
    config: Asked,
    *,
    remedies: Iterable[str] | Mapping[str, Mapping[str, Any]],
    baseline: str = "plain",
    runs: int | None = None,
    output_dir: str | Path,
    **options: Any,  # Any: those of `run_study`, one type for each
) -> Study:
    """Runs the baseline, each remedy alone, all, and all but each, with the same seeds.

    With k remedies these are 2 k + 2 arms, with two of them 4: "all but one" is then the other one
    alone. `ablation_of(study)` of `studies.ablations.ablation` holds each remedy against the
    baseline, and all remedies against all but it: 2 k + 1 comparisons, whose p-values are
    corrected for that number.

    Args:
        config: As in `run_study`; a command line has no settings to lay over, and is refused.
        remedies: Two or more: names of recipes, YAML files, or `NAME:key=value,key=value`; or a
            mapping from names to settings. No two may set one key differently.
        baseline: Recipe without the remedies; its settings are in every arm, a remedy beats them.
        runs: Runs per arm; None: the fewest with which a claim can reach p <= .05 after
            correction (8 for two remedies, 9 for three to five), or what `budget` or a grid of
            seeds asks for.
        output_dir: Folder of the study; started again it repeats nothing that was finished.
        options: `stop_at`, `keep`, `budget`, `executor`, `workers`, `first_seed`, `overrides` and
            the others of `run_study`. Runs that are stopped early have no final score, so that
            only seeds that went on in both arms are pairs.

    Returns:
        The study, `Study.ablation` filled.

    Raises:
        ConfigurationError: Remedies that cannot be joined, or as in `run_study`.
        DataError: As in `run_study`.
        StudyError: As in `run_study`; or the folder holds an ablation of other remedies.

    Example:
        >>> from hf_stabilizer import ablate
        >>> remedies = ["swa:averaging=swa", "ema:averaging=ema"]
        >>> ablate({"model_name_or_path": "x"}, remedies=remedies, output_dir="out")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: remedies 'swa' and 'ema' cannot be joined: swa
        sets averaging to 'swa' and ema to 'ema'; set it in one of them, or in the configuration

    Source: alone and left out are the first and the last step of a factor's path; the correction
    is Holm 1979.
    """
    arms = _arms(config, remedies, baseline, runs, options)
    return run_study(config, output_dir=output_dir, **arms, **options)


def rehearse_ablation(
    config: Asked,
    *,
    remedies: Iterable[str] | Mapping[str, Mapping[str, Any]],
    baseline: str = "plain",
    runs: int | None = None,
    output_dir: str | Path,
    **options: Any,  # Any: those of `rehearse_study`, one type for each
) -> RehearsedStudy:
    """Says what `ablate` with the same arguments would do and cost; writes nothing.

    Args:
        config: As in `ablate`, like all that follow.
        remedies: Two or more.
        baseline: Recipe without the remedies.
        runs: Runs per arm.
        output_dir: Folder of the study.
        options: The others of `rehearse_study`.

    Raises:
        StabilizerError: What `ablate` would raise before its first run.
    """
    arms = _arms(config, remedies, baseline, runs, options)
    return rehearse_study(config, output_dir=output_dir, **arms, **options)


def _arms(
    config: Asked,
    remedies: Iterable[str] | Mapping[str, Mapping[str, Any]],
    baseline: str,
    runs: int | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The recipes and the number of runs, as keyword arguments; says of the command what it is."""
    if is_command(config):
        raise ConfigurationError(
            "a command line cannot be ablated, as its script sets its own options; give a YAML "
            "configuration, or `study --command` with {recipe} in it"
        )
    overrides = options.get("overrides")
    check_kind(overrides, Mapping, "a mapping from keys to values", name="overrides")
    base = open_subject(config).load(overrides=overrides)
    task = base.values.get("task")  # of people's function it may be unknown
    given = read_remedies(remedies, task=task)
    ground = load_recipe(baseline)
    arms = arms_of(ground.name, ground.for_task(task), given)
    if runs is None and not any(options.get(name) for name in ("budget", *GRID)):
        runs = runs_needed(len(given))
    options.setdefault("command", _call(list(given), ground.name, runs))
    return {"recipes": arms.recipes, "runs": runs, "ablation": arms.ablation}


def _call(remedies: list[str], baseline: str, runs: int | None) -> str:
    ground = "" if baseline == "plain" else f", baseline={baseline!r}"
    return f"ablate(..., remedies={remedies}{ground}, runs={runs})"
