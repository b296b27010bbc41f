"""Which model and which tokenizer does a task take, and with which head?

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from hf_stabilizer.tasks import PreparedTask

# Any in this module: keyword arguments of transformers, and the Auto classes.
LONGEST = 512
"""Tokens of a row, where neither the user nor the model says less."""
_UNKNOWN = 10**6  # A tokenizer that does not know its model's limit says 10^30.
_ARCHITECTURES = {
    "text-classification": "SequenceClassification",
    "text-regression": "SequenceClassification",
    "multiple-choice": "MultipleChoice",
    "token-classification": "TokenClassification",
    "causal-lm": "CausalLM",
    "masked-lm": "MaskedLM",
    "seq2seq": "Seq2SeqLM",
}
# Tasks whose head has an output per class.
_HEADS = ("text-classification", "text-regression", "token-classification")
_HEAD_KEYS = {"num_labels", "problem_type", "id2label", "label2id"}


def load_tokenizer(
    model_name_or_path: str, *, task: str | None = None, key: str = "model_name_or_path"
) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model; one without a padding token pads with its end-of-text token.

    Args:
        model_name_or_path: A Hub id or a folder (see `hf_stabilizer.data.resolve_location`).
        task: What it is for: words that come one by one need a space before the first, too.
        key: What the user gave the model as, for messages.

    Raises:
        ConfigurationError: There is no such model, it brings no tokenizer, or nothing to pad with.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_name_or_path)
        is_spaced = getattr(tokenizer, "add_prefix_space", None)
        if task == "token-classification" and is_spaced is False:
            tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, add_prefix_space=True)
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load("tokenizer", model_name_or_path, error, key=key) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigurationError(
                f"the tokenizer of {key}={model_name_or_path!r} has neither a padding "
                "nor an end-of-text token; choose a model whose tokenizer has one"
            )
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.model_max_length > _UNKNOWN:
        tokenizer.model_max_length = _positions(model_name_or_path)
    return tokenizer


def load_model(
    prepared: PreparedTask,
    model_name_or_path: str,
    **kwargs: Any,
) -> PreTrainedModel:
    """Loads the model for a task, in float32, with its classes named.

    A head that the checkpoint brings for another number of classes is left out, with a warning.

    Args:
        prepared: What `prepare_task` returned.
        model_name_or_path: A Hub id or a folder (see `hf_stabilizer.data.resolve_location`).
        **kwargs: For `from_pretrained`; they win over what is set here.

    Raises:
        ConfigurationError: There is no such model, or its architecture does not know the task.
    """
    import torch
    from transformers import AutoConfig

    # Stored as bfloat16, weights would not move at the small rates of fine-tuning.
    options: dict[str, Any] = {"dtype": torch.float32}
    try:
        config = AutoConfig.from_pretrained(model_name_or_path)
        _check_kind(prepared.task, config, model_name_or_path)
        if prepared.task in _HEADS:
            options |= _head_options(prepared, config, model_name_or_path)
        options |= kwargs
        # All at once: a file's problem type and our number of labels may clash halfway.
        for name in _HEAD_KEYS & set(options):
            setattr(config, name, options.pop(name))
        auto = auto_class(prepared.task)
        model: PreTrainedModel = auto.from_pretrained(
            model_name_or_path, **{"config": config, **options}
        )
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(f"model for {prepared.task}", model_name_or_path, error) from error
    text_config = model.config.get_text_config()
    if text_config.pad_token_id is None:  # Decoders find the last token by it.
        text_config.pad_token_id = prepared.tokenizer.pad_token_id
    return model


def auto_class(task: str) -> Any:  # Any: the Auto classes share no typed base
    """Returns the Auto class that makes the models of a task."""
    import transformers

    return getattr(transformers, f"AutoModelFor{_ARCHITECTURES[task]}")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model_name_or_path: str) -> None:
    """Checks that the model knows every token that its tokenizer may make.

    Raises:
        ConfigurationError: The tokenizer has an id beyond the model's embedding.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_name_or_path)
    except (OSError, ValueError, KeyError):  # Told, with the task, when the model is loaded.
        return
    size = getattr(config.get_text_config(), "vocab_size", None)
    last = max(tokenizer.get_vocab().values(), default=-1)
    if isinstance(size, int) and last >= size:
        raise ConfigurationError(
            f"the tokenizer of model_name_or_path={model_name_or_path!r} goes up to token {last}, "
            f"and the model's embedding has {size} rows: they do not belong together; use the "
            "model's own tokenizer, or call model.resize_token_embeddings(len(tokenizer)) and save "
            "the model again"
        )


def check_whole_model(name: str, missing: Collection[str], purpose: str) -> None:
    """Raises ConfigurationError if weights of a model are not in its checkpoint, but random.

    Example:
        >>> check_whole_model("my-encoder", {"lm_head.weight"}, "write texts")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: 'my-encoder' cannot write texts: its checkpoint
        lacks 1 of the weights, lm_head.weight for instance; name a model that was trained to write
        texts
    """
    if missing:
        raise ConfigurationError(
            f"{name!r} cannot {purpose}: its checkpoint lacks {len(missing)} of the weights, "
            f"{sorted(missing)[0]} for instance; name a model that was trained to {purpose}"
        )


def _check_kind(task: str, config: PreTrainedConfig, model_name_or_path: str) -> None:
    """Refuses a model that cannot learn the task, or, worse, seems to."""
    known = type(config) in auto_class(task)._model_mapping
    kind = f"model_name_or_path={model_name_or_path!r} is a {config.model_type}"
    if not known:
        raise ConfigurationError(
            f"no model for {task} can be loaded: {kind}, which transformers has no "
            f"{auto_class(task).__name__} for; name another model, or set another task"
        )
    # An encoder sees the token that it is to foretell: its loss falls to nothing.
    sees_all = type(config) in auto_class("masked-lm")._model_mapping
    sees_all = sees_all and getattr(config, "is_decoder", None) is False
    if task == "causal-lm" and sees_all and not config.is_encoder_decoder:
        raise ConfigurationError(
            f"{kind}, an encoder, whose every token sees the next ones, so that there is nothing "
            "to foretell; set task: masked-lm, or name a decoder"
        )


def _positions(model_name_or_path: str) -> int:
    """Returns how many positions the model has, as far as its configuration says so."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_name_or_path)
    except (OSError, ValueError, KeyError):  # A tokenizer by itself, without a model.
        return LONGEST
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST)


def _cannot_load(
    what: str, name: str, error: Exception, *, key: str = "model_name_or_path"
) -> ConfigurationError:
    is_path = name.startswith((".", "/", "~"))
    reason = "there is no such folder" if is_path and not Path(name).exists() else first_line(error)
    return ConfigurationError(
        f"no {what} can be loaded from {key}={name!r}: {reason}; name a "
        "folder that `save_pretrained` wrote, a Hub id, or pkg://package/path"
    )


def _head_options(
    prepared: PreparedTask, config: PreTrainedConfig, model_name_or_path: str
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_labels": prepared.num_labels,
        "problem_type": prepared.problem_type,
    }
    if prepared.label_names is not None:
        options["id2label"] = dict(enumerate(prepared.label_names))
        options["label2id"] = {name: place for place, name in enumerate(prepared.label_names)}
    head = _ARCHITECTURES[prepared.task]
    brings_head = any(head in name for name in config.architectures or ())
    if brings_head and config.num_labels != prepared.num_labels:
        warnings.warn(
            f"{model_name_or_path!r} brings a head for {config.num_labels} classes, which is left "
            f"out: the task has {prepared.num_labels}, and its head starts at random",
            stacklevel=3,
        )
        options["ignore_mismatched_sizes"] = True
    return options
