"""What does a checkpoint bring, and does its tokenizer mean the same by its numbers?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from hf_stabilizer.errors import ConfigurationError, first_line
from hf_stabilizer.locations import resolve_location
from hf_stabilizer.random_state import remember_random_state


def load_source(location: str) -> tuple[nn.Module, frozenset[str]]:
    """Loads a checkpoint as the class that wrote it, in the dtype that it is stored in.

    The global random state is what it was, though what the checkpoint lacks is drawn.

    Args:
        location: A path, a Hub id or `pkg://package/path`; also a folder of a run of ours, whose
            model lies in `model`.

    Returns:
        The model, and the names of those of its parameters that the checkpoint does not hold.

    Raises:
        ConfigurationError: There is no such model, or it cannot be read.
    """
    path = find_model(location)
    restore = remember_random_state()
    try:
        config = AutoConfig.from_pretrained(path)
        model, told = _own_class(config).from_pretrained(
            path, config=config, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigurationError(
            f"no model can be loaded from {location!r}: {first_line(error)}; name a folder that "
            "`save_pretrained` wrote, a Hub id, or pkg://package/path"
        ) from error
    finally:
        restore()
    return model, frozenset(told["missing_keys"])


def check_tokenizer(location: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a checkpoint whose tokenizer gives tokens other numbers; one without any passes.

    Raises:
        ConfigurationError: A token has another number there, or is unknown there.
    """
    restore = remember_random_state()
    try:
        other = AutoTokenizer.from_pretrained(find_model(location))
    except (OSError, ValueError, KeyError, ImportError):  # A model saved by itself.
        return
    finally:
        restore()
    ours, theirs = tokenizer.get_vocab(), other.get_vocab()
    differing = sorted(word for word, number in ours.items() if theirs.get(word) != number)
    if differing:
        raise ConfigurationError(
            f"transfer_from={location!r} has another tokenizer: {len(differing)} of {len(ours)} "
            f"tokens have another number there, such as {differing[0]!r}, so its embeddings would "
            "mean other words; transfer between models that share one tokenizer"
        )


def find_model(location: str) -> str:
    """Returns the path of a location, of a run's folder that of its model."""
    path = resolve_location(location)
    inside = Path(path) / "model"
    is_run = not (Path(path) / "config.json").exists() and (inside / "config.json").exists()
    return str(inside) if is_run else path


def _own_class(config: Any) -> Any:  # Any: configurations and Auto classes share no typed base
    """The class that wrote the checkpoint: its names tell what is pooler and what is head."""
    named = (getattr(config, "architectures", None) or [""])[0]
    return getattr(transformers, named, None) or AutoModel
