"""How is people's function trained in a study? It is called for each run; its Trainer trains."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import TrainerCallback

from hf_stabilizer.arguments import skip_fitting
from hf_stabilizer.configuration import Configuration
from hf_stabilizer.dry_run import Cost, DryRun, measure_cost
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.records import Run
from hf_stabilizer.run import Part, carry_out
from hf_stabilizer.silent_mistakes.timetable import planned_steps, timetable
from hf_stabilizer.studies.functions.function_trial import arguments_of, build, row_count
from hf_stabilizer.studies.functions.trainer_function import TrainerSource


@dataclass(frozen=True)
class FunctionRun:
    """A run of a function from `StabilizerArguments` to a Trainer."""

    configuration: Configuration
    """What the function is handed, and which metric decides."""
    function: TrainerSource
    """People's function."""

    def with_seeds(self, seeds: dict[str, int]) -> FunctionRun:
        """Returns the same with other seeds."""
        return replace(self, configuration=self.configuration.with_values(**seeds))

    def execute(self, folder: Path, *, callbacks: Iterable[TrainerCallback], part: Part) -> Run:
        """Trains a part of the run in this process; an exception is left to the caller.

        The callbacks come after all of the Trainer's own, so that what they say of evaluations
        and of the end holds.
        """
        start = time.perf_counter() - part.seconds
        args = arguments_of(part.fitted(self.configuration), folder)
        trainer, test = build(args, self.function)
        trainer.args.resume_from_checkpoint = args.resume_from_checkpoint
        for callback in callbacks:
            trainer.add_callback(callback)
        return carry_out(trainer, self.configuration, folder, test=test, start=start, part=part)

    def probe(self) -> Cost | None:
        """Trains and evaluates a few batches of a model that is thrown away; None: it is unknown.

        Raises:
            StabilizerError: It cannot be built.
        """
        return self.rehearse().cost

    def rehearse(self) -> DryRun:
        """Does that, and tells steps, evaluations and checkpoints; findings are those of the trial.

        Raises:
            StabilizerError: It cannot be built.
        """
        with TemporaryDirectory() as folder:
            args = arguments_of(self.configuration, Path(folder))
            skip_fitting(args)
            trainer, _ = build(args, self.function)
            steps, per_epoch = planned_steps(trainer.args, row_count(trainer.train_dataset))
            if steps is None or per_epoch is None:
                return DryRun(())
            callbacks = trainer.callback_handler.callbacks
            times = [c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)]
            when = timetable(trainer.args, steps, per_epoch, times)
            cost = measure_cost(trainer, callbacks, when, steps)
            return DryRun((), (), (), steps, when.evaluations, when.saves, cost)
