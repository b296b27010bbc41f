"""Which language model is pre-trained further? The one that the checkpoint was, if it is known."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from hf_stabilizer.errors import ConfigurationError, first_line
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.models import check_vocabulary
from hf_stabilizer.pretraining.options import MASKED, Objective
from hf_stabilizer.random_state import seeded
from hf_stabilizer.silent_mistakes.checkpoint_names import keep_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_MASKED_MODELS = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
_CAUSAL_MODELS = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
_NAMES = {"mlm": "masked language modelling", "clm": "causal language modelling"}


@dataclass(frozen=True)
class LanguageModel:
    """A model with its language-model head."""

    model: PreTrainedModel
    """In single precision."""
    new: tuple[str, ...]
    """Weights of the head, by name, that the checkpoint did not bring."""

    @property
    def note(self) -> str:
        """What to know about the head, in one sentence; empty where all of it was brought."""
        if not self.new:
            return ""
        return (
            f"{len(self.new)} weights of the language-model head ({self.new[0]}, ...) are not in "
            "the checkpoint and start at random: perplexity before is that of an untrained head"
        )


def read_model_config(name: str) -> PreTrainedConfig:
    """Reads what the checkpoint says about itself.

    Raises:
        ConfigurationError: There is no such model.
    """
    try:
        return cast("PreTrainedConfig", AutoConfig.from_pretrained(name))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"no model can be loaded from model_name_or_path={name!r}: {first_line(error)}"
        ) from error


def choose_objective(config: PreTrainedConfig, asked: Objective | None) -> Objective:
    """Returns the objective: as the model was pre-trained, or the asked one if it has it.

    Raises:
        ConfigurationError: The model has no such head, or none at all.
    """
    if config.is_encoder_decoder:
        raise ConfigurationError(
            f"{config.model_type} is an encoder-decoder, whose own pre-training is none of mlm, "
            "clm and mlm+nsp; choose an encoder or a decoder"
        )
    natural = _natural_objective(config)
    if asked == "mlm+nsp":
        _check_sentence_head(config)
        return asked
    if natural is None:
        raise ConfigurationError(
            f"{config.model_type} has neither a masked nor a causal language-model head; choose "
            "another model"
        )
    if asked is not None and asked != natural:
        raise ConfigurationError(
            f"objective={asked!r} is {_NAMES[asked]}, and {config.model_type} as it stands in the "
            f"checkpoint is a model for {_NAMES[natural]}; leave objective out, or set it to "
            f"{natural!r}"
        )
    return natural


def _natural_objective(config: PreTrainedConfig) -> Objective | None:
    kind = config.model_type
    is_causal = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in _told(config))
    if kind in _MASKED_MODELS and not (kind in _CAUSAL_MODELS and is_causal):
        return "mlm"
    return "clm" if kind in _CAUSAL_MODELS else None


def _told(config: PreTrainedConfig) -> list[str]:
    return list(config.architectures or ()) + (
        ["ForCausalLM"] if getattr(config, "is_decoder", False) else []
    )


def _check_sentence_head(config: PreTrainedConfig) -> None:
    name = modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.get(config.model_type)
    model = getattr(transformers, name, None) if isinstance(name, str) else None
    takes = () if model is None else inspect.signature(model.forward).parameters
    if "next_sentence_label" not in takes:
        raise ConfigurationError(
            f"objective='mlm+nsp' needs a model with a next-sentence head, such as bert, and "
            f"{config.model_type} has none; set objective: mlm"
        )


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, name: str, objective: Objective, *, whole_words: bool
) -> None:
    """Raises ConfigurationError where tokenizer, model and objective do not fit."""
    check_vocabulary(tokenizer, name)
    if objective in MASKED and tokenizer.mask_token is None:
        raise ConfigurationError(
            f"objective={objective!r} needs a mask token, and the tokenizer has none; give it the "
            "one that the model was trained with"
        )
    if whole_words and not tokenizer.is_fast:
        raise ConfigurationError(
            "whole_word_masking=True needs a fast tokenizer, which knows words, and this model's "
            "is a slow one; remove it"
        )


def load_language_model(name: str, objective: Objective, *, seed: int) -> LanguageModel:
    """Loads the model with the head of its objective; what is new in it is drawn from the seed.

    Raises:
        ConfigurationError: It cannot be loaded, or the checkpoint lacks a part of the body.
    """
    auto: Any = {  # Any: the Auto classes share no typed base
        "mlm": transformers.AutoModelForMaskedLM,
        "clm": transformers.AutoModelForCausalLM,
        "mlm+nsp": transformers.AutoModelForPreTraining,
    }[objective]
    try:
        with seeded(seed):
            model, info = auto.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"no model for {objective} can be loaded from model_name_or_path={name!r}: "
            f"{first_line(error)}"
        ) from error
    keep_names(model)
    new = sorted(info["missing_keys"])
    _check_body(model, new, name)
    return LanguageModel(model, tuple(new))


def _check_body(model: PreTrainedModel, new: list[str], name: str) -> None:
    """Blocks or embeddings that start at random mean a checkpoint of another kind."""
    if not new:
        return
    layers = LayerMap.from_model(model)
    named = {parameter for parameter, _ in model.named_parameters()}
    absent = [key for key in new if key in named and layers.depth_of(key) <= layers.num_layers]
    if absent:
        raise ConfigurationError(
            f"the checkpoint {name!r} does not bring {len(absent)} weights of the model's body "
            f"({absent[0]}, ...); there is nothing to pre-train *further*"
        )
