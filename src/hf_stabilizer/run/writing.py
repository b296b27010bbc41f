"""What does a run leave beside its weights? Its configuration, its record, its traceback.

Records are written at once or not at all, so that a run that is killed leaves none that lies.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML
from transformers import TrainerState

from hf_stabilizer.configuration import SEEDS, Configuration
from hf_stabilizer.outcome import Outcome
from hf_stabilizer.records import Run, read_run, versions, write_atomically, write_run


def write_configuration(
    configuration: Configuration, folder: Path, *, settled: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Writes the resolved configuration so that `train` can read it again.

    Args:
        configuration: What was asked for.
        folder: Folder of the run.
        settled: What was left open and the rows have settled; it stands under a key that is no
            option, so that a run that guesses and one that is told go on alike.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    text = io.StringIO()
    ours = {"recipe": configuration.recipe, "versions": versions()}
    if settled:
        ours["settled"] = dict(settled)
    yaml.dump({**configuration.recorded, **ours}, text)
    write_atomically(folder / "configuration.yaml", text.getvalue())


def record_failure(
    configuration: Configuration,
    folder: Path,
    error: BaseException,
    state: TrainerState | None = None,
) -> Run:
    """Writes and returns the record of a run that raised, with what it had reached by then.

    What `execute` has recorded of the same error stays: it knows the Trainer's state.
    """
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    path = folder / "run.json"
    if state is None and path.exists() and (there := read_run(path)).reason == reason:
        return there
    run = replace(record_of(configuration, state), status="failed", reason=reason)
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "traceback.txt", text)
    write_run(run, path)
    return run


def record_of(configuration: Configuration, state: TrainerState | None) -> Run:
    """The record of a run, as far as the Trainer's state tells it."""
    greater_is_better = configuration.values["greater_is_better"]
    history = state.log_history if state else []
    outcome = Outcome.of(
        history,
        metric=configuration.metric,
        greater_is_better=greater_is_better,
    )
    reason = outcome.reason
    return Run(
        recipe=configuration.recipe,
        seeds={name: configuration.values[name] for name in SEEDS},
        status="failed" if reason else "finished",
        reason=reason,
        evaluations=outcome.evaluations,
        metric=configuration.metric,
        greater_is_better=greater_is_better,
        best_score=outcome.best_score,
        last_score=outcome.last_score,
        steps=state.global_step if state else 0,
        versions=versions(),
        configuration=configuration.recorded,
    )
