"""What does a seq2seq model make of these texts? Batches through `generate`, seeded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError, first_line
from hf_stabilizer.models import check_whole_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Any in this module: keyword arguments of `generate`.
_TEXTS = 16  # Texts in a batch.


@cache
def load_seq2seq(name: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Loads a seq2seq model and its tokenizer.

    Raises:
        ConfigurationError: There is no such model, or it is of another kind.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from hf_stabilizer.data import resolve_location

    location = resolve_location(name)
    try:
        model, loaded = AutoModelForSeq2SeqLM.from_pretrained(
            location, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{name!r} is no seq2seq model that can be loaded: {first_line(error)}; name one such "
            "as a Marian or T5 checkpoint"
        ) from error
    check_whole_model(name, loaded["missing_keys"], "write texts")
    tokenizer = load_tokenizer(location, key="model")
    known = len(model.get_input_embeddings().weight)
    if len(tokenizer) > known:
        raise ConfigurationError(
            f"the tokenizer of {name!r} has {len(tokenizer)} tokens, and its model knows {known}: "
            "they do not fit"
        )
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return tokenizer, model


def rewrite(
    texts: Sequence[str], name: str, *, prefix: str = "", seed: int, **options: Any
) -> list[str]:
    """Returns what the model generates for each text.

    Args:
        texts: Texts; what is longer than the model reads is cut.
        name: The model.
        prefix: What stands before each text, as T5 wants it.
        seed: Seed of what is sampled; the global state is left as it was.
        **options: For `generate`.
    """
    import torch

    tokenizer, model = load_seq2seq(name)
    written: list[str] = []
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for at in range(0, len(texts), _TEXTS):
            batch = [prefix + text for text in texts[at : at + _TEXTS]]
            inputs = tokenizer(
                batch,
                truncation=True,
                max_length=min(int(tokenizer.model_max_length), 512),
                padding=True,
                return_tensors="pt",
            ).to(model.device)
            inputs.pop("token_type_ids", None)  # No seq2seq model reads them.
            found = model.generate(**inputs, **options)  # type: ignore[operator]
            written += tokenizer.batch_decode(found, skip_special_tokens=True)
    return [text.strip() for text in written]
