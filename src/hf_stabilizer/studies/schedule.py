"""Which runs does a study have, and what if some are there already? From question to answer.

The folder is the truth: a run that is recorded there is not repeated. A second start asks the
same question or is refused; it may ask for more seeds or more recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rich.console import Console

from hf_stabilizer.errors import ConfigurationError, check_kind
from hf_stabilizer.recipes import check_listed
from hf_stabilizer.studies.commands.command_question import RECIPE
from hf_stabilizer.studies.commands.command_study import run_command_study
from hf_stabilizer.studies.commands.command_template import is_command
from hf_stabilizer.studies.early_stopping.estimate import conclude
from hf_stabilizer.studies.early_stopping.stopping import read_extent
from hf_stabilizer.studies.executors.in_process import is_here
from hf_stabilizer.studies.executors.place import Engine, open_for_command, open_place
from hf_stabilizer.studies.question import (
    check_settings,
    define_study,
    load_recipes,
    look_often,
)
from hf_stabilizer.studies.seeds.seed_grid import SeedGrid, plan_seeds
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.subject import Asked, open_subject
from hf_stabilizer.studies.working import work_through


def run_study(
    config: Asked,
    *,
    recipes: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("plain",),
    runs: int | None = None,
    stop_at: float | None = None,
    keep: int | None = None,
    budget: float | None = None,
    output_dir: str | Path,
    executor: Executor | str | None = None,
    workers: int | None = None,
    address: str | None = None,
    launcher: str | None = None,
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
    retry_failed: bool = False,
    keep_models: bool = False,
    overrides: Mapping[str, Any] | None = None,
    ablation: Mapping[str, Any] | None = None,
    command: str = "",
    console: Console | None = None,
) -> Study:
    """Runs every recipe with the same seeds and records every run, the failed ones too.

    Run k of a recipe has head, data and dropout seed `first_seed + k - 1`, or the k-th cell of a
    grid of seeds; runs of two recipes with the same seeds are a pair. Of each recipe the best model
    by validation is kept.

    With `stop_at=f` and `keep=p` the t = `runs` runs of each recipe are trained to step
    ceil(f * max_steps), with schedules that span the whole training. They are ranked by the best
    validation score so far, ties by seed, collapsed and failed ones last. The best p go on, bit for
    bit as if they had never been halted; the others are recorded as "stopped", each with the one
    checkpoint from which it could go on. That costs t f + p (1 - f) full runs per recipe. `keep`
    equal to `runs` stops none. What is left open follows from the recipe `dodge`: f = 0.25,
    p = round(t f / (1 + f)), and 10 evaluations per epoch where neither configuration nor recipe
    says when to evaluate.

    Killed and started again it repeats nothing that was finished, neither first parts nor whole
    runs; what was under way begins anew, from the halt where there was one. A run whose worker dies
    is tried three times. A larger `keep` and more `runs` join what is there.

    A function is called once for each recipe before the study, on the CPU, and then for each run.
    It ends with `return Trainer(prepare_model(model, args), args=args, ..., **stabilize(args))`;
    what it leaves out of that is told before any run. Unless told otherwise a study evaluates once
    per epoch and keeps the best weights; `metric_for_best_model` decides, else the first metric
    that is computed, else the loss. It goes to worker processes with cloudpickle; changed in its
    source, it is another study.

    Args:
        config: Path of a YAML file, a mapping with the same keys; a function from
            `StabilizerArguments` to a Trainer, or to a Trainer and test rows; or a command line of
            any Trainer script with {seed}, {data_seed}, {output_dir} in it, whose
            `trainer_state.json` is read.
        recipes: Names or YAML files, or a mapping such as `{"plain": {}, "swa": {"averaging":
            "swa"}}` from names to settings; the first is the baseline of the comparison.
        runs: Runs per recipe, 1 or more; None: six, the fewest that can show p < .05, or the whole
            grid of seeds.
        stop_at: f, fraction of each run's optimizer steps, in (0, 1), with an evaluation at or
            before it; None: all go to the end, unless `keep` or `budget` is given. Dodge et al.
            found .2 to .3 good.
        keep: p, runs of each recipe that go on, in [1, runs].
        budget: B, full runs per recipe to spend, 1 or more; sets `runs` to
            (B - p (1 - f)) / f and `keep` to p = B / 2, rounded down. With it leave these two out.
        output_dir: Folder of the study; it is made, or it holds the same study from before. On a
            cluster all machines see it. Or a URL that fsspec opens, e.g. "s3://BUCKET/NAME": the
            study works in a mirror, which `folder` of the result names, and the weights stay there.
        executor: Where runs execute: "local" (or None), one process per GPU or core; "in-process";
            "ray" or "dask", a cluster; or any `Executor`. From a script, call this under
            `if __name__ == "__main__":`, as local processes import it.
        workers: Number of processes on this machine; not with an executor of one's own.
        address: Address of a running cluster, with "ray" or "dask"; None: one on this machine.
        launcher: Command line such as "accelerate launch --num_processes 2", under which each run
            is trained by several processes, one run at a time, on this machine.
        first_seed: Seed of the first run.
        head_seeds: Seeds of the new parameters: how many, from `first_seed` on, or which. With this
            or one of the next two every combination of them is a run (`plan_seeds`), and what is
            not named stays at `first_seed`; with `runs` a balanced part of that grid. Runs that
            share a seed are no independent pairs, and the comparison knows it.
        data_seeds: Seeds of the order of the data; likewise.
        dropout_seeds: Seeds of dropout; likewise.
        retry_failed: Repeat runs that raised; those whose worker died are repeated anyhow.
        keep_models: Keep the model of every run that ends from now on, for soups and to predict
            with several of them, not only that of each recipe's best one.
        overrides: Keys that beat file and recipes; of a function fields of `StabilizerArguments`,
            and `task`; of a command line `metric_for_best_model` alone.
        ablation: Which recipes are the arms of an ablation (`Study.ablation`); `ablate` gives it.
        command: The command line that makes the study again, for the report.
        console: Where progress is shown; None: standard error.

    Returns:
        The study as its folder holds it.

    Raises:
        ConfigurationError: Something cannot be right; before any run, with nothing overwritten.
        DataError: The rows are not as the configuration says; likewise.
        MissingDependencyError: Ray, Dask or the file system of the URL is not installed.
        StudyError: The folder holds another study or a damaged record, another process works on
            it, nothing more can be written there, or workers do not see it; there is no cluster.

    Source: the early stopping is Dodge, Ilharco, Schwartz, Farhadi, Hajishirzi, Smith 2020
    (arXiv:2002.06305), section 5; continuing from checkpoints instead of keeping all runs alive is
    ours.
    """
    grid: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    check_settings(
        overrides=overrides,
        ablation=ablation,
        retry_failed=retry_failed,
        keep_models=keep_models,
        command=command,
    )
    check_kind(console, Console, "a Console of rich", name="console")
    extent = read_extent(
        runs=runs, stop_at=stop_at, keep=keep, budget=budget, first_seed=first_seed, grid=grid
    )
    stopping, runs = extent.stopping, extent.runs
    engine = Engine(executor, workers, address, launcher)
    if is_command(config):
        names = names_for_command(recipes)
        with open_for_command(output_dir, engine) as options:
            return run_command_study(
                str(config),
                recipes=names,
                runs=runs,
                output_dir=output_dir,
                metric=only_metric(overrides or {}),
                **options,
                first_seed=first_seed,
                **grid,
                retry_failed=retry_failed,
                stop_at=stopping.stop_at if stopping else None,
                made_by=command,
                console=console,
            )
    console = console or Console(stderr=True)
    with open_place(output_dir, engine) as place:
        folder = place.folder
        subject = open_subject(config)
        if not is_here(executor):
            subject.check_portable()
        configurations = load_recipes(subject.load, recipes, overrides)
        seeds = plan_seeds(runs=runs, first_seed=first_seed, **grid)
        base = subject.load(overrides=overrides)
        if stopping is not None:
            base, configurations, stopping = look_often(base, configurations, stopping)
        study = define_study(
            folder,
            base,
            configurations,
            seeds,
            command=command,
            stopping=stopping,
            ablation=ablation,
        )
        study = work_through(
            study,
            configurations,
            seeds,
            subject=subject,
            place=place,
            stopping=stopping,
            retry_failed=retry_failed,
            keep_models=keep_models,
            console=console,
        )
        if stopping is not None:
            conclude(study, console)
        return study


def names_for_command(recipes: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns what {recipe} stands for in a command line; nothing said is that of a script alone.

    Raises:
        ConfigurationError: The recipes have settings, which a command line cannot take.
    """
    check_listed(recipes)
    if isinstance(recipes, Mapping) and any(recipes.values()):
        raise ConfigurationError(
            "recipes has settings, but a command line sets the options of its script itself; "
            "give a list of names, for {recipe} in the command"
        )
    return (RECIPE,) if tuple(recipes) == ("plain",) else tuple(recipes)


def only_metric(overrides: Mapping[str, Any]) -> str | None:
    """Returns the metric that decides; a script has no other option that could be set from here.

    Raises:
        ConfigurationError: Another key is given.
    """
    others = sorted(set(overrides) - {"metric_for_best_model"})
    if others:
        raise ConfigurationError(
            f"overrides holds {others[0]!r}, but a command line sets the options of its script "
            "itself; write it there, or use a YAML configuration"
        )
    metric = overrides.get("metric_for_best_model")
    return None if metric is None else str(metric)
