"""What do this YAML file, recipe and command line mean? One checked, flat mapping.

    file  <  recipe  <  flags        later ones win

Keys are the fields of `StabilizerArguments` (all of `TrainingArguments` with them), of
`DataArguments` (which rows) and of `ModelArguments` (which task and model).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hf_stabilizer.arguments import StabilizerArguments
from hf_stabilizer.data import DataArguments
from hf_stabilizer.errors import ConfigurationError, StabilizerError, did_you_mean
from hf_stabilizer.metrics import default_metrics, greater_is_better, metric_name
from hf_stabilizer.recipes import Recipe, load_recipe, read_yaml
from hf_stabilizer.seq2seq_arguments import GENERATION_KEYS, StabilizerSeq2SeqArguments

SEEDS = ("head_seed", "data_seed", "seed")

SECRETS = ("hub_token",)

# Written by the package itself, so a configuration that was written beside a result reads back.
IGNORED = ("recipe", "versions", "settled")


@dataclass(frozen=True)
class ModelArguments:
    """The configuration keys that say which task and model."""

    task: str = "text-classification"
    """What is learnt: text-classification, text-regression, multiple-choice, token-classification,
    causal-lm, masked-lm or seq2seq."""
    model_name_or_path: str = ""
    """A Hub id, a folder, or `pkg://package/path` for files in an installed package."""
    max_length: int | None = None
    """Tokens to keep of each text; what the model can take, and at most 512, if not given."""
    max_target_length: int | None = None
    """seq2seq: tokens to keep of each target; as many as of a text if not given."""
    metrics: list[str] | None = None
    """Names of the metrics; the first decides unless `metric_for_best_model` says otherwise."""


Record = TypeVar("Record", ModelArguments, DataArguments)


@dataclass(frozen=True)
class Configuration:
    """What one run is to do, checked."""

    values: Mapping[str, Any]  # Any: whatever YAML can say
    """Every key that was given, or that a run sets by itself, with its value."""
    recipe: str
    """Name of the recipe that was laid over it; "plain" for none."""
    given: frozenset[str] = frozenset()
    """The keys that file, recipe or flags gave; all others are what a run sets by itself."""

    @property
    def model(self) -> ModelArguments:
        """The keys about task and model."""
        return self._record(ModelArguments)

    @property
    def data(self) -> DataArguments:
        """The keys about rows."""
        return self._record(DataArguments)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, the deciding one first."""
        return list(self.values["metrics"])

    @property
    def metric(self) -> str:
        """Name of the metric that decides."""
        named: str = self.values["metric_for_best_model"]
        return named

    def arguments(self, **overrides: Any) -> StabilizerArguments:
        """Returns the training arguments; `overrides` are laid over them unchecked.

        Raises:
            ConfigurationError: transformers or one of our checks refuses a value.
        """
        kind = arguments_class(self.values.get("task"))
        names = {f.name for f in fields(kind)}
        # The Trainer has a `label_names`, too: the names of columns, which need no telling here.
        names -= {f.name for f in fields(DataArguments)}
        values = {k: v for k, v in {**self.values, **overrides}.items() if k in names}
        try:
            return kind(**values)
        except StabilizerError:
            raise
        except (ValueError, TypeError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"the Trainer refuses this configuration: {reason}") from error

    @property
    def recorded(self) -> dict[str, Any]:
        """The values that may be written beside a result: no secrets."""
        return {k: v for k, v in self.values.items() if k not in SECRETS}

    def with_values(self, **values: Any) -> Configuration:
        """Returns a configuration with some values replaced, unchecked."""
        return replace(self, values={**self.values, **values})

    def _record(self, kind: type[Record]) -> Record:
        names = {f.name for f in fields(kind)}
        return kind(**{k: v for k, v in self.values.items() if k in names})


def load_configuration(
    config: str | Path | Mapping[str, Any],
    *,
    recipe: str | Recipe | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Configuration:
    """Reads, overlays and checks a configuration.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        recipe: Name of a recipe that ships, a YAML file of one's own, or what was read from one.
        overrides: Values that beat both, e.g. the flags of a command line.

    Raises:
        ConfigurationError: An unknown key, a value of the wrong type or out of range, options
            that clash; said in one sentence.
    """
    if not isinstance(config, (str, Path, Mapping)):
        raise ConfigurationError(
            "config must be the path of a YAML file, or a mapping with the same keys, got "
            f"{config!r}"
        )
    values = dict(config) if isinstance(config, Mapping) else read_yaml(Path(config))
    values = {key: value for key, value in values.items() if key not in IGNORED}
    name = "plain"
    if recipe is not None:
        overlay = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        name = overlay.name
        task = (overrides or {}).get("task", values.get("task", ModelArguments.task))
        values.update(overlay.for_task(check_value("task", task)))
    values.update(overrides or {})
    checked = {key: check_value(key, value) for key, value in values.items()}
    configuration = Configuration(_with_run_defaults(checked), name, frozenset(checked))
    _check(configuration)
    return configuration


def arguments_class(task: object) -> type[StabilizerArguments]:
    """Returns the class of a task's training arguments: texts that are written need more."""
    return StabilizerSeq2SeqArguments if task == "seq2seq" else StabilizerArguments


@functools.cache  # asked for once per key, and each time 150 annotations would be evaluated
def known_keys() -> Mapping[str, Any]:
    """Returns every configuration key with its type."""
    hints: dict[str, Any] = {}
    for kind in (ModelArguments, DataArguments, StabilizerSeq2SeqArguments):
        types = get_type_hints(kind)
        hints.update({f.name: types[f.name] for f in fields(kind) if f.init})
    return MappingProxyType(hints)


def describe_keys() -> str:
    """Returns one line for each configuration key: name, what is allowed, default."""
    kinds = (ModelArguments, DataArguments, StabilizerSeq2SeqArguments)
    every = {f.name: f for kind in kinds for f in fields(kind)}
    return "\n".join(
        f"{name:<32} {_readable(wanted):<36} {_default(every[name])}"
        for name, wanted in known_keys().items()
    )


def _default(field: Field[Any]) -> str:  # Any: a field of any type
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    value = getattr(field.default, "value", field.default)  # an enum says its value
    return "" if value is MISSING or value is None else repr(value)


def check_value(key: str, value: Any) -> Any:  # Any: whatever YAML can say
    """Returns the value in the type that its key wants.

    A single value stands for a list of one; a YAML boolean for the word where words are wanted.

    Raises:
        ConfigurationError: The key is unknown, or the value is of the wrong type.
    """
    types = known_keys()
    if key not in types:
        raise ConfigurationError(
            f"unknown configuration key {key!r}{did_you_mean(str(key), types)}; "
            "`hf-stabilizer init --keys` lists all of them"
        )
    wanted = types[key]
    options = get_args(wanted) or (wanted,)
    if isinstance(value, bool) and bool not in options:
        if str not in options:
            raise ConfigurationError(f"{key} must be {_readable(wanted)}, got {value!r}")
        value = str(value).lower()
    wants_list = any(getattr(option, "__origin__", option) is list for option in options)
    if wants_list and isinstance(value, (str, int, float)) and str not in options:
        value = [value]
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        raise ConfigurationError(f"{key} must be {_readable(wanted)}, got {value!r}") from error


def _readable(wanted: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        dict: "a mapping",
        type(None): "null",
    }
    words = []
    for option in get_args(wanted) or (wanted,):
        origin = getattr(option, "__origin__", option)
        inner = get_args(option)
        if origin is list:
            of = f" of {_readable(inner[0]).removeprefix('a ')}s" if inner else ""
            words.append(f"a list{of}")
        elif origin in names:
            words.append(names[origin])
    return " or ".join(dict.fromkeys(words)) or str(wanted)


def _with_run_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Adds what a run sets unless told otherwise: validation chooses the weights that are kept."""
    task = values.get("task", ModelArguments.task)
    metrics = [metric_name(name) for name in values.get("metrics") or default_metrics(task)]
    decides = _plain_metric(values.get("metric_for_best_model") or metrics[0])
    values = {**values, "metrics": metrics, "metric_for_best_model": decides}
    defaults: dict[str, Any] = {
        "task": task,
        "greater_is_better": greater_is_better(decides),
        "per_device_eval_batch_size": 32,
    }
    return {**defaults, **training_defaults(values), **values}


def training_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run sets unless told otherwise: the best weights so far are kept."""
    defaults: dict[str, Any] = {"report_to": "none", "seed": 1}
    if values.get("eval_strategy", "no") == "no":
        defaults["evaluations_per_epoch"] = 1
    if "save_strategy" not in values:
        defaults |= {
            "save_strategy": "best",
            "load_best_model_at_end": True,
            "save_total_limit": 1,
            "save_only_model": True,
        }
    seed = values.get("seed", defaults["seed"])
    return {**defaults, "head_seed": seed, "data_seed": seed}


def _plain_metric(name: str) -> str:
    plain = name.removeprefix("eval_")
    return plain if plain == "loss" else metric_name(plain)


def _check(configuration: Configuration) -> None:
    model = configuration.model
    if not model.model_name_or_path:
        raise ConfigurationError(
            "model_name_or_path is missing; give a Hub id such as bert-base-uncased, or a folder"
        )
    if model.max_length is not None and model.max_length < 1:
        raise ConfigurationError(f"max_length must be 1 or more, got {model.max_length!r}")
    if configuration.metric != "loss" and configuration.metric not in configuration.metrics:
        raise ConfigurationError(
            f"metric_for_best_model={configuration.metric!r} is not among metrics "
            f"{configuration.metrics}; add it there"
        )
    check_numbers(configuration.values)
    _check_soft_labels(configuration)
    _check_generation(configuration)
    _check_masks(configuration)
    # Built once, so that clashes of options are told before anything is loaded.
    configuration.arguments(output_dir="unused")


def _check_soft_labels(configuration: Configuration) -> None:
    column, smoothing = configuration.data.soft_label_column, "label_smoothing_factor"
    if column is not None and configuration.values.get(smoothing):
        raise ConfigurationError(
            f"{smoothing}={configuration.values[smoothing]!r} and soft_label_column={column!r} "
            "both make probabilities of labels; leave one of them out"
        )


def _check_masks(configuration: Configuration) -> None:
    lasting = "dataloader_persistent_workers"
    # Masks are drawn where batches are made, and workers that last hear of no second epoch.
    if configuration.model.task == "masked-lm" and configuration.values.get(lasting):
        raise ConfigurationError(
            f"{lasting}=True would give every epoch the masks of the first; leave it out"
        )


def _check_generation(configuration: Configuration) -> None:
    task, values = configuration.model.task, configuration.values
    if task != "seq2seq":
        for key in sorted({*GENERATION_KEYS, "max_target_length"} & configuration.given):
            if values[key] is not None:
                raise ConfigurationError(
                    f"{key}={values[key]!r} is for seq2seq, and the task is {task!r}; leave it out"
                )
        return
    if not values.get("predict_with_generate", True):
        raise ConfigurationError(
            "predict_with_generate=False leaves the metrics of seq2seq without texts to score; "
            "leave it out"
        )


def check_numbers(values: Mapping[str, Any]) -> None:
    """Raises ConfigurationError if a count or a length of the run cannot be right."""
    for key in ("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size",
                "gradient_accumulation_steps"):  # fmt: skip
        value = values.get(key)
        if value is not None and not 0 < value < math.inf:
            raise ConfigurationError(f"{key} must be above 0, got {value!r}")
    steps = values.get("max_steps", -1)
    if steps < 1 and steps != -1:
        raise ConfigurationError(
            f"max_steps must be 1 or more, or -1 for whole epochs, got {steps!r}"
        )
