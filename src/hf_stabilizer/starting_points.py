"""Which hyper-parameters were published for this model family?

A family is what transformers calls `model_type`. Each has one YAML file in `configs/families`:

    # What it is, and for which task it was published.
    # Source: ...; the values for other sizes and tasks.
    model_name_or_path: the usual checkpoint of base size
    learning_rate: 2e-5
    ...

A family without a file gets `general.yaml`, which is of no family, and is told so. The files lie
once, in `configs/families`; the wheel carries them inside the package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hf_stabilizer.errors import ConfigurationError, did_you_mean, first_line
from hf_stabilizer.metrics import default_metrics
from hf_stabilizer.recipes import read_yaml, shipped_folder

_GENERAL = "general"
# DeBERTa's third version is new weights for the second version's architecture.
_ALSO_CALLED = {"deberta-v3": "deberta-v2"}

_HEADER = """\
# A starting configuration: {task} with {model}.
# Say where your rows are, then (with the name of this file for FILE)
#   hf-stabilizer train FILE
#   hf-stabilizer study FILE --recipes plain {recipe} --runs 6
# `hf-stabilizer init --keys` lists every key."""

# Worth a first comparison; elsewhere `stabilised` sets nothing.
_RECIPES = {"text-classification": "stabilised"}

_ROWS = """\
# The rows: CSV, TSV, JSON lines or Parquet; or dataset_name: a Hub id or a folder.
train_file: train.csv
# validation_file: validation.csv  # without it a fifth of the training rows, at most 1000
# test_file: test.csv              # scored once, with the weights that validation chose"""

_COLUMNS: Mapping[str, str] = {
    "text-classification": """\
text_columns: [text]               # or two that are read as a pair: [premise, hypothesis]
label_column: label                # numbers or names; a list of them for several labels per row""",
    "text-regression": """\
text_columns: [text]               # or two that are read as a pair: [sentence1, sentence2]
label_column: score                # a number""",
    "multiple-choice": """\
text_columns: [question]           # or two: [context, question]
choice_columns: [A, B, C, D]       # one column for each answer
label_column: answer               # the right one: its column, letter, index from 0, or text""",
    "token-classification": """\
text_columns: [tokens]             # a list of tokens in each row
label_column: tags                 # a list of as many tags, e.g. O, B-PER, I-PER""",
    "causal-lm": """\
text_columns: [text]               # learnt from alone: there are no labels""",
    "masked-lm": """\
text_columns: [text]               # learnt from alone: there are no labels""",
    "seq2seq": """\
text_columns: [text]               # what is read
label_column: target               # what is to be written""",
}

_GROUP = "# group_column: author             # rows that share its value are never split apart"
_LENGTH = "# max_length: 128                  # tokens of each row; at most 512 if not given"
_METRICS = "metrics: [{metrics}]  # the first decides which weights are kept"
_EVALUATIONS = "evaluations_per_epoch: {times}  # about ten looks per run"
_UNPUBLISHED = """\
# No published values are known to us for the family {family!r}, so these are general ones:"""


def family_names() -> list[str]:
    """Returns the families with published hyper-parameters, sorted.

    Example:
        >>> [name for name in family_names() if name.startswith("deberta")]
        ['deberta', 'deberta-v2']
    """
    return sorted({path.stem for path in shipped_folder("families").glob("*.yaml")} - {_GENERAL})


def starting_configuration(family_or_model: str, *, task: str = "text-classification") -> str:
    """Returns the text of a configuration file for a model, with published hyper-parameters.

    The values are those for base size; their comment names the source, what was searched over and
    the values for other sizes. They were published for tasks of classification, and are the same
    here for every task.

    Args:
        family_or_model: A family (see `family_names`), whose usual base checkpoint is then used; a
            Hub id; a folder with a `config.json`; or `pkg://package/path` of one. A family's name
            wins over a folder of that name; `./bert` is the folder.
        task: One of `hf_stabilizer.tasks.TASKS`.

    Returns:
        YAML 1.2 with comments, as `load_configuration` takes it.

    Raises:
        ConfigurationError: The task is unknown, or there is no such family or model.
        DataError: The package of a `pkg://` location is not installed, or has no such folder.

    Example:
        >>> print(starting_configuration("electra"))
        # A starting configuration: text-classification with google/electra-base-discriminator.
        ...
        model_name_or_path: google/electra-base-discriminator
        ...
        layer_lr_decay: 0.8
        ...
    """
    metrics = default_metrics(task)  # Knows the tasks, and refuses any other.
    named = _ALSO_CALLED.get(family_or_model, family_or_model)
    families = family_names()
    family = named if named in families else _model_type(named)
    path = shipped_folder("families") / f"{family if family in families else _GENERAL}.yaml"
    settings = read_yaml(path)
    model = settings["model_name_or_path"] if named in families else named
    parts = [
        _HEADER.format(task=task, model=model, recipe=_RECIPES.get(task, "zhang-reinit")),
        _line("task", task) + "\n" + _line("model_name_or_path", model),
        "\n".join(_rows(task, settings)),
        _METRICS.format(metrics=", ".join(metrics)),
        _published(path, family),
        _EVALUATIONS.format(times=math.ceil(10 / settings["num_train_epochs"])),
    ]
    return "\n\n".join(parts) + "\n"


def _model_type(model: str) -> str:
    """Returns what the model's own configuration says that it is."""
    from hf_stabilizer.data import resolve_location

    location = resolve_location(model)
    if not Path(location).exists():
        close = did_you_mean(model, [*family_names(), *_ALSO_CALLED])
        # Not worth asking the Hub about, which takes half a minute where there is no network.
        if close or model.startswith((".", "/", "~")):
            raise _no_such_model(model, close)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _no_such_model(model, f" ({first_line(error)})") from error
    model_type: str = config.model_type
    return model_type


def _no_such_model(model: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        f"{model!r} is neither a model family nor a folder or Hub id whose config.json can be read"
        f"{hint}; name one of the families instead: {', '.join(family_names())}"
    )


def _rows(task: str, settings: Mapping[str, Any]) -> list[str]:  # Any: whatever YAML can say
    return [_ROWS, _COLUMNS[task], _GROUP, *([] if "max_length" in settings else [_LENGTH])]


def _published(path: Path, family: str) -> str:
    """Returns a family's file as it is, comments and all, but for its checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("model_name_or_path:")]
    if path.stem == _GENERAL:
        kept.insert(0, _UNPUBLISHED.format(family=family))
    return "\n".join(kept)


def _line(key: str, value: str) -> str:
    """Returns a line of YAML that reads back as it is, in quotes only if it must be."""
    plain = f"{key}: {value}"
    try:
        if YAML(typ="safe", pure=True).load(plain) == {key: value}:
            return plain
    except YAMLError:
        pass
    return f"{key}: {json.dumps(value, ensure_ascii=False)}"
