"""What was the same and what differed between runs that nobody planned as a study?

Read from the arguments that their Trainers saved. Seeds, folders and what is only shown leave the
numbers alone, so they are no settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hf_stabilizer.records import Run

_NO_SETTINGS = frozenset(
    {
        *("seed", "data_seed", "head_seed", "output_dir", "run_name", "logging_dir", "folder"),
        *("project", "report_to", "disable_tqdm", "resume_from_checkpoint", "local_rank"),
        *("logging_steps", "logging_strategy", "log_level", "log_level_replica", "push_to_hub"),
        *("do_train", "do_eval", "do_predict", "include_num_input_tokens_seen"),
        *("deepspeed_plugin", "distributed_state", "trackio_space_id"),
        *("command", "exit_code", "reason"),
    }
)
# Shown also where all runs share them; of the hundred others only those that differ.
_ALWAYS_SHOWN = (
    *("learning_rate", "weight_decay", "num_train_epochs", "max_steps", "warmup_steps", "optim"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type"),
    *("fp16", "bf16", "eval_strategy", "save_strategy", "load_best_model_at_end"),
    *("metric_for_best_model", "greater_is_better", "max_grad_norm", "label_smoothing_factor"),
    *("layer_lr", "layer_lr_decay", "reinit_layers", "averaging"),
)

MIXED = "(differs between its runs)"
"""Stands for a setting that the runs of one recipe do not share."""

Settings = Mapping[str, Any]  # Any: whatever was an argument


def shared_settings(
    runs: Sequence[Run], recipes: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns what all runs share, and what those of each recipe have besides."""
    common = _agreed([_settings(run) for run in runs])
    own = {
        recipe: {
            key: value
            for key, value in _told([_settings(run) for run in runs if run.recipe == recipe])
            if key not in common
        }
        for recipe in recipes
    }
    return {key: common[key] for key in _ALWAYS_SHOWN if key in common}, own


def mixed_settings(runs: Sequence[Run]) -> list[str]:
    """Returns a sentence for each recipe whose runs differ in more than their seeds."""
    sentences = []
    for recipe in dict.fromkeys(run.recipe for run in runs):
        mine = [settings for run in runs if run.recipe == recipe and (settings := _settings(run))]
        names = sorted({key for settings in mine for key in settings} - set(_agreed(mine)))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            sentences.append(
                f"the runs of {recipe} differ in {', '.join(names[:3])}{more}, not in their seeds "
                "alone: their spread is not that of seeds; name recipes to keep them apart"
            )
    return sentences


def _told(those: Sequence[Settings]) -> list[tuple[str, Any]]:  # Any: see above
    """What the runs of one recipe share, and a word where they do not."""
    agreed = _agreed(those)
    names = dict.fromkeys(name for settings in those for name in settings)
    return [(name, agreed.get(name, MIXED)) for name in names]


def _settings(run: Run) -> dict[str, Any]:  # Any: see above
    given = run.configuration.items()
    return {k: v for k, v in given if k not in _NO_SETTINGS and not k.startswith(("_", "hub_"))}


def _agreed(those: Sequence[Settings]) -> dict[str, Any]:  # Any: see above
    """The settings that all who tell of any have, with one value."""
    told = [settings for settings in those if settings]
    if not told:
        return {}
    first, *others = told
    return {
        key: value
        for key, value in first.items()
        if all(key in other and _same(other[key], value) for other in others)
    }


def _same(a: object, b: object) -> bool:
    return json.dumps(a, default=str, sort_keys=True) == json.dumps(b, default=str, sort_keys=True)
