"""What is this trained model, and what was it trained for? Told by its folder alone.

    RUN/configuration.yaml, RUN/model/               a run
    RUN/checkpoint-N/                                a checkpoint of one; its run has the rest
    config.json, model.safetensors                   a model by itself

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.tasks.prepared import ProblemType

if TYPE_CHECKING:
    from hf_stabilizer.configuration import Configuration

# Any in this module: values of a JSON file.
_ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForTokenClassification": "token-classification",
    "ForConditionalGeneration": "seq2seq",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
}
# Keys that a run settles itself where the configuration leaves them open.
_SETTLED = ("text_columns", "choice_columns", "label_column", "generation_max_length")


@dataclass(frozen=True)
class Member:
    """A trained model, and what it takes to ask it about rows."""

    folder: Path
    """The folder that was named: a run, a checkpoint of one, or a model by itself."""
    model_folder: Path
    """The folder with its weights."""
    task: str
    """What it was trained for, e.g. "text-classification"."""
    label_names: tuple[str, ...] | None
    """Names of the classes in the order of their ids; None but for classification."""
    problem_type: ProblemType
    """As `PreTrainedConfig.problem_type` has it; None for multiple-choice."""
    configuration: Configuration | None = None
    """What the run did; None for a model without one."""
    settled: Mapping[str, Any] = field(default_factory=dict)
    """Columns of texts, choices and label by their keys, and how long texts may get: as the
    configuration names them, else as the run has settled them; keys that neither says are left
    out."""

    @property
    def generation(self) -> dict[str, Any]:
        """How evaluations of the run generate texts, beside what lies with the model.

        Arguments of `generate`.
        """
        values = {} if self.configuration is None else self.configuration.values
        said = {
            "max_length": self.settled.get("generation_max_length"),
            "num_beams": values.get("generation_num_beams"),
        }
        return {name: value for name, value in said.items() if value is not None}

    def reader_options(self, file: str | Path) -> dict[str, Any]:
        """How the run read files of the format of this one; {} if it read none, or another."""
        from hf_stabilizer.data.reading import format_of

        if self.configuration is None:
            return {}
        data = self.configuration.data
        read = format_of(Path(data.train_file or data.dataset_name or ""))
        alike = read == format_of(Path(str(file)))
        return dict(data.reader_options or {}) if alike else {}

    @property
    def seed(self) -> int:
        """The seed that the run's draws came from; 0 for a model without a run."""
        values = {} if self.configuration is None else self.configuration.values
        return int(values.get("seed") or 0)

    @property
    def name(self) -> str:
        """What people call it: its folder."""
        return str(self.folder)


def read_member(folder: str | Path) -> Member:
    """Reads what a trained model is: a run's folder, a checkpoint inside it, or a model's own.

    Raises:
        ConfigurationError: The folder holds no weights, or does not say what they are for.

    Example:
        >>> read_member("nowhere")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: there is no folder 'nowhere'; name a run's folder,
        a checkpoint in one, or a model that `save_pretrained` wrote
    """
    from hf_stabilizer.data import resolve_location

    folder = Path(resolve_location(str(folder)))
    model_folder = _model_folder(folder)
    said = _read_json(model_folder / "config.json")
    configuration, settled = _configuration(folder)
    task = _task(said, configuration, folder)
    problem_type = _problem_type(task, said)
    has_names = task in ("text-classification", "token-classification")
    names = _names_in(said) if has_names else None
    return Member(folder, model_folder, task, names, problem_type, configuration, settled)


def read_names(folder: str | Path) -> tuple[str, ...] | None:
    """Returns the names of a model's classes in the order of their ids, None if it was not kept."""
    for place in (Path(folder) / "model", Path(folder)):
        if (place / "config.json").is_file():
            return _names_in(_read_json(place / "config.json"))
    return None


def _model_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {str(folder)!r}; name a run's folder, a checkpoint in one, or a "
            "model that `save_pretrained` wrote"
        )
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    is_run = (folder / "run.json").is_file()
    why = ": a study keeps the best model of each recipe only" if is_run else ""
    raise ConfigurationError(
        f"{str(folder)!r} holds no model{why}; "
        + ("name the folder of a run whose model was kept" if is_run else "name a run's folder")
    )


def _configuration(folder: Path) -> tuple[Configuration | None, dict[str, Any]]:
    """The run's configuration, unchecked, and what the run has settled.

    The configuration may ask for a device that is not here.
    """
    from hf_stabilizer.configuration import IGNORED, Configuration
    from hf_stabilizer.recipes import read_yaml

    for place in (folder, folder.parent):
        path = place / "configuration.yaml"
        if path.is_file():
            said = read_yaml(path)
            values = {key: value for key, value in said.items() if key not in IGNORED}
            recipe = str(said.get("recipe", "plain"))
            return Configuration(values, recipe, frozenset(values)), _settled(said)
    return None, {}


def _settled(said: Mapping[str, Any]) -> dict[str, Any]:
    asked = {key: said[key] for key in _SETTLED if said.get(key)}
    return {**(said.get("settled") or {}), **asked}


def _task(said: Mapping[str, Any], configuration: Configuration | None, folder: Path) -> str:
    if configuration is not None and configuration.values.get("task"):
        return str(configuration.values["task"])
    for name in said.get("architectures") or ():
        for end, task in _ARCHITECTURES.items():
            if name.endswith(end):
                is_number = said.get("problem_type") == "regression"
                return "text-regression" if is_number else task
    raise ConfigurationError(
        f"{str(folder)!r} does not say what its model is for: no configuration.yaml, and "
        f"architectures {said.get('architectures')!r}; name the folder of a run"
    )


def _problem_type(task: str, said: Mapping[str, Any]) -> ProblemType:
    if task == "text-regression":
        return "regression"
    if task != "text-classification":
        return None
    several = said.get("problem_type") == "multi_label_classification"
    return "multi_label_classification" if several else "single_label_classification"


def _names_in(said: Mapping[str, Any]) -> tuple[str, ...]:
    ids = said.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # as transformers has it
    return tuple(str(ids[key]) for key in sorted(ids, key=int))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no model's configuration ({error}); save the model again"
        ) from error
    return found
