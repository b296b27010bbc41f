"""What would be taken over from another task's run, and what would its control runs cost?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.control_study import check_runs
from hf_stabilizer.pretraining.hand_over import move_body, source_folder
from hf_stabilizer.pretraining.plan import rehearse_control
from hf_stabilizer.pretraining.running import RUNS, fine_tuning

# Any in this module: whatever YAML can say.


@dataclass(frozen=True)
class HandOverPlan:
    """What a hand-over from a trained model would do."""

    source: str
    """Folder of the model whose body is taken."""
    body: tuple[str, ...]
    """Tensors that would arrive in the task's model, each equal to the last bit."""
    new: tuple[str, ...]
    """Weights of the task's model that would start at random."""
    size: int
    """Bytes of the model that would be written."""
    runs: int
    """Pairs of control runs."""
    steps: int
    """Optimizer steps of each of them; 0 without them."""
    seconds_plain: float
    """Of one control run from the configuration's checkpoint, measured; 0 without them."""
    seconds_handed: float
    """Of one from the body that is taken over, likewise."""
    notes: tuple[str, ...]
    """What the rehearsed runs would be warned of."""


def plan_hand_over(
    config: str | Path | Mapping[str, Any],
    source: str | Path,
    *,
    runs: int = RUNS,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> HandOverPlan:
    """Says what `further_pretrain(..., from_run=source)` would do and cost; keeps nothing.

    The body is handed over into a temporary folder and compared there as the procedure does it; a
    few batches of a control run are measured from either checkpoint.

    Args:
        config: Path of a YAML file, or a mapping with the same keys: the new task.
        source: Folder of a run, or of a model that `save_pretrained` wrote.
        runs: Pairs of control runs, 2 or more; 0: none.
        recipe: Name of a recipe, or a YAML file, laid over the configuration.
        overrides: Single keys of the configuration that beat both.

    Raises:
        ConfigurationError: The source cannot be loaded, or a control run would fail.
        DataError: The rows are not as the configuration says.
        HandOverError: Something would not arrive.
    """
    check_runs(runs)
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    keys = fine_tuning(configuration)
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        arrived = move_body(source, model, task=configuration.model.task)
        size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        plain = rehearse_control(keys) if runs else None
        handed = rehearse_control({**keys, "model_name_or_path": str(model)}) if runs else None
    found = [*(plain.findings if plain else ()), *(handed.findings if handed else ())]
    return HandOverPlan(
        source=str(source_folder(source)),
        body=arrived.body,
        new=arrived.new,
        size=size,
        runs=runs,
        steps=plain.steps if plain else 0,
        seconds_plain=plain.cost.seconds if plain and plain.cost else 0.0,
        seconds_handed=handed.cost.seconds if handed and handed.cost else 0.0,
        notes=tuple(dict.fromkeys(map(str, found))),
    )
