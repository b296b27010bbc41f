"""Does the whole body arrive in the task model? Carried, loaded as the task will, and compared.

    checkpoint ──────────── what a language model has no place for (BERT's pooler) ──┐
    trained model ── body, language-model head ──> OUTPUT/model <────────────────────┘
                                                       │ loaded with the task's Auto class
                                                       └── every tensor of the body equal, bit for
                                                           bit; the task's head new

Otherwise BERT's pooler, which `BertForMaskedLM` leaves out, would start at random in the task
model, with a line in the log.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import resolve_location
from hf_stabilizer.errors import ConfigurationError, DivergenceError, StabilizerError, first_line
from hf_stabilizer.locations import check_presence
from hf_stabilizer.models import auto_class, load_tokenizer
from hf_stabilizer.records import read_run
from hf_stabilizer.silent_mistakes.checkpoint_names import keep_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Any in this module: configurations, and the Auto classes, which share no typed base.
Tensors = Mapping[str, torch.Tensor]


class HandOverError(StabilizerError, RuntimeError):
    """A part of a body did not arrive in the task model as it was sent."""


@dataclass(frozen=True)
class HandOver:
    """What arrived in the task model."""

    body: tuple[str, ...]
    """Tensors of the body, each equal to the last bit."""
    carried: tuple[str, ...]
    """Those among them that the trained model has no place for: from the checkpoint before."""
    shared: tuple[str, ...]
    """Tensors outside of the body that task model and language model share (ModernBERT's head)."""
    new: tuple[str, ...]
    """Weights of the task model that start at random."""


@dataclass(frozen=True)
class TaskModel:
    """The model of the task as a checkpoint makes it."""

    body: Tensors
    """Tensors of its body, under their full names."""
    head: frozenset[str]
    """Names of all others."""
    new: frozenset[str]
    """Weights that the checkpoint did not bring."""


def load_task_model(name: str | Path, task: str) -> TaskModel:
    """Loads a checkpoint as the task will, but for the number of classes.

    Raises:
        ConfigurationError: There is no such model, or its architecture does not know the task.
    """
    try:
        model, info = auto_class(task).from_pretrained(
            str(name), dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"no model for {task} can be loaded from {str(name)!r}: {first_line(error)}"
        ) from error
    body = body_tensors(model)
    return TaskModel(
        body, frozenset(model.state_dict()) - set(body), frozenset(info["missing_keys"])
    )


def body_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Returns the tensors of the body under the names that they have in the whole model."""
    prefix = f"{model.base_model_prefix}."
    return {name: t for name, t in model.state_dict().items() if name.startswith(prefix)}


def keep_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    before: TaskModel,
    task: str,
) -> HandOver:
    """Saves a pre-trained model so that the task's model gets all of its body, and checks that.

    The folder comes to be at once, when all is well.

    Args:
        model: Body and language-model head.
        tokenizer: Saved beside it.
        folder: Where; it is replaced.
        before: The task's model of the checkpoint that training began with.
        task: Of the configuration.

    Raises:
        DivergenceError: Its weights are no numbers any more.
        HandOverError: Something did not arrive.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    carried = {n: t for n, t in before.body.items() if n not in state and n not in before.new}
    sent = {**body_tensors(model), **carried}
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(str(unfinished), state_dict={**state, **carried})
    tokenizer.save_pretrained(str(unfinished))
    arrived = compare(unfinished, sent, task=task, carried=carried)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return arrived


def compare(folder: Path, sent: Tensors, *, task: str, carried: Tensors) -> HandOver:
    """Loads the task's model from a folder and compares its body with what was sent.

    Raises:
        DivergenceError: What was sent are no numbers.
        HandOverError: A tensor that was sent is new there, or another.
    """
    broken = [name for name, tensor in sent.items() if torch.isnan(tensor).any()]
    if broken:
        raise DivergenceError(
            f"{len(broken)} of {len(sent)} tensors of the body are no numbers any more "
            f"({broken[0]}, ...): the model has diverged, and there is nothing to hand over; train "
            "it with a smaller learning_rate, in another folder"
        )
    there = load_task_model(folder, task)
    lost = [
        name
        for name, tensor in there.body.items()
        if name in sent
        and (name in there.new or not torch.equal(tensor.cpu(), sent[name].detach().cpu()))
    ]
    if lost:
        raise HandOverError(
            f"{len(lost)} of {len(there.body)} tensors of the body did not arrive in the model for "
            f"{task} ({lost[0]}, ...); this architecture cannot be handed over"
        )
    arrived = [name for name in there.body if name in sent]
    if not arrived:
        raise HandOverError(
            f"no tensor of the body has the same name in the model for {task}; this architecture "
            "cannot be handed over"
        )
    return HandOver(
        body=tuple(arrived),
        carried=tuple(sorted(carried)),
        shared=tuple(sorted(there.head - there.new)),
        new=tuple(sorted(there.new)),
    )


def hand_over_body(
    source: str | Path, config: str | Path | Mapping[str, Any], output_dir: str | Path
) -> HandOver:
    """Takes the body of a trained model for another task: intermediate-task training.

    The head of the source is left behind, also where it would fit, so that the new task's head is
    drawn as for any checkpoint; what lies between body and classifier goes with the head in the
    models that count it so (RoBERTa, DistilBERT). BERT's pooler is body and is taken. Set
    `model_name_or_path: OUTPUT_DIR/model` to go on from it.

    Args:
        source: Folder of a run (its `model` is taken), or of a model that `save_pretrained` wrote.
        config: Configuration of the new task: a YAML path or a mapping.
        output_dir: The body comes to lie in its folder `model`, which must not be there.

    Returns:
        What arrived in the task's model, compared bit by bit.

    Raises:
        ConfigurationError: The source cannot be loaded, or the folder is there already.
        DivergenceError: Its weights are no numbers.
        HandOverError: Something did not arrive.

    Source: Phang, Févry, Bowman 2018 (arXiv:1811.01088), which keeps the body and draws a new head.
    """
    configuration = load_configuration(config)
    folder = Path(output_dir) / "model"
    if folder.exists():
        raise ConfigurationError(
            f"output_dir {str(output_dir)!r} holds a model already; name another folder"
        )
    return move_body(source, folder, task=configuration.model.task)


def move_body(source: str | Path, folder: Path, *, task: str) -> HandOver:
    """Does what `hand_over_body` says, for a task by its name."""
    place = source_folder(source)
    _warn_of_failed(Path(resolve_location(str(source))))
    model = _headless(str(place))
    prefix = f"{model[0].base_model_prefix}."
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    model[0].save_pretrained(str(unfinished), state_dict=model[1])
    load_tokenizer(str(place)).save_pretrained(str(unfinished))
    sent = {f"{prefix}{name}": tensor for name, tensor in model[1].items()}
    arrived = compare(unfinished, sent, task=task, carried={})
    if arrived.shared:
        raise HandOverError(f"{arrived.shared[0]} of the head was handed over; it must be new")
    unfinished.rename(folder)
    return arrived


def source_folder(source: str | Path) -> Path:
    """Returns the folder of the model that is meant: of a run that of its model.

    Raises:
        ConfigurationError: There is no such model.
    """
    place = Path(resolve_location(str(source)))
    place = place / "model" if (place / "model").is_dir() else place
    if not place.exists():
        check_presence(str(source), key="the source")
    elif not (place / "config.json").is_file():
        raise _no_source(str(place), "there is no config.json in it")
    try:
        AutoConfig.from_pretrained(str(place))
    except (OSError, ValueError, KeyError) as error:
        raise _no_source(str(place), first_line(error)) from error
    return place


def _no_source(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"no model can be loaded from {name!r}: {reason}; name the folder of a run or of a model"
    )


def _headless(name: str) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """The body alone, without what the checkpoint did not bring, and without names of classes."""
    try:
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise _no_source(name, first_line(error)) from error
    keep_names(model)
    model.config.num_labels, model.config.problem_type = 2, None
    absent = set(info["missing_keys"])
    return model, {n: t for n, t in model.state_dict().items() if n not in absent}


def _warn_of_failed(run: Path) -> None:
    """A collapsed model made the next task collapse as well in our studies."""
    record = run / "run.json"
    if record.is_file() and (read := read_run(record)).status == "failed":
        logger.warning(
            "the run %r failed (%s): its body may be a worse start than the checkpoint that it "
            "began with; better name another run",
            str(run),
            read.reason,
        )
