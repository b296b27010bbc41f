"""Which causal language model on this machine writes, and does what it is asked fit into it?

    question + answer <= positions      told before anything is written, and of each question

Beyond its positions a model that learnt them fails, and any other writes nothing sensible.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import ConfigurationError, check_whole, first_line
from hf_stabilizer.locations import check_presence
from hf_stabilizer.synthesis.generators import NOT_STATED, EndpointError, RefusalError

# Any in this module: JSON, and what transformers returns.
_UNKNOWN = 10**6  # A tokenizer that does not know its model's limit says 10^30.


class LocalGenerator:
    """A causal language model on this machine.

    Args:
        model_name_or_path: A folder or Hub id.
        licence: Terms of its output; None: the licence that its model card names.
        temperature: Above 0; larger is more varied.
        max_tokens: Longest answer.
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        licence: str | None = None,
        temperature: float = 1.0,
        max_tokens: int = 512,
    ):
        from hf_stabilizer.data import resolve_location

        if not temperature > 0:
            raise ConfigurationError(f"temperature must be above 0, got {temperature!r}")
        check_whole(max_tokens, "1 or more", name="max_tokens", least=1)
        self.name = model_name_or_path
        self._path = resolve_location(model_name_or_path)
        self.licence = licence or _licence_of(self._path)
        self._temperature, self._max_tokens = temperature, max_tokens
        self._parts: tuple[Any, Any] | None = None
        self._alone = threading.Lock()

    def complete(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
    ) -> str:
        """Samples an answer; the same seed gives the same one.

        Raises:
            RefusalError: Question and longest answer are longer than the model's context.
            EndpointError: The model cannot be loaded.
            ConfigurationError: There is none, or it is no model that writes, such as an encoder.
        """
        import torch

        # One at a time: the random numbers are those of the whole process.
        with self._alone, torch.random.fork_rng(), torch.no_grad():
            model, tokenizer = self._load()
            ids = _encoded(tokenizer, messages).to(model.device)
            excess = self._excess(ids["input_ids"].shape[1], "the question")
            if excess:
                raise RefusalError(excess)
            torch.manual_seed(seed)
            written = model.generate(
                **ids,
                do_sample=True,
                temperature=self._temperature,
                max_new_tokens=self._max_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = written[0, ids["input_ids"].shape[1] :]
        return str(tokenizer.decode(new, skip_special_tokens=True))

    def check_room(self, questions: Iterable[Sequence[Mapping[str, str]]]) -> None:
        """Checks that conversations and their longest answers fit into the model.

        Args:
            questions: Conversations, as `complete` takes them.

        Raises:
            ConfigurationError: The longest does not fit, there is no such model, or it is none that
                writes.
            EndpointError: The model cannot be loaded.
        """
        with self._alone:
            _, tokenizer = self._load()
            lengths = [_encoded(tokenizer, one)["input_ids"].shape[1] for one in questions]
            excess = self._excess(max(lengths, default=0), "the longest question")
        if excess:
            raise ConfigurationError(
                f"{excess}; show fewer examples (--examples) or shorter background, allow shorter "
                "answers (max_tokens, --max-tokens), or name a model with a longer context"
            )

    def _excess(self, length: int, what: str) -> str:
        """Says by how much a question of so many tokens is too long, "" if it is not."""
        model, tokenizer = self._load()
        room = _context(model.config, tokenizer)
        if room is None or length + self._max_tokens <= room:
            return ""
        return (
            f"{what} has {length} tokens and its answer up to {self._max_tokens}, "
            f"{length + self._max_tokens} in all, and the context of {self.name!r} is {room} tokens"
        )

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM

        from hf_stabilizer.models import check_whole_model, load_tokenizer

        if self._parts is None:
            # Loaders ask the Hub again and again where there is no network.
            check_presence(self.name, key="generator")
            try:
                found: Any = AutoModelForCausalLM.from_pretrained(
                    self._path, output_loading_info=True
                )
            except (OSError, ValueError, KeyError) as error:
                raise EndpointError(
                    f"no causal language model can be loaded from {self.name!r}: "
                    f"{first_line(error)}"
                ) from error
            model, loaded = found
            check_whole_model(self.name, loaded["missing_keys"], "write texts")
            device = "cuda" if torch.cuda.is_available() else "cpu"
            model.to(device).eval()
            self._parts = model, load_tokenizer(self._path, key="generator")
        return self._parts


def _encoded(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Any:
    if tokenizer.chat_template:
        told = [dict(message) for message in messages]
        text = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
        # The template has written the mark of the beginning already.
        return tokenizer(text, add_special_tokens=False, return_tensors="pt")
    text = "\n\n".join(message["content"] for message in messages) + "\n"
    return tokenizer(text, return_tensors="pt")


def _context(config: Any, tokenizer: Any) -> int | None:
    """Returns how many tokens the model reads and writes together; None if nothing says so."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    # As its file has it: `load_tokenizer` puts a guess where it says nothing.
    said = positions or tokenizer.init_kwargs.get("model_max_length")
    return int(said) if said and said < _UNKNOWN else None


def _licence_of(path: str) -> str:
    """The licence that a model card names."""
    from huggingface_hub import ModelCard

    card = Path(path) / "README.md"
    if not card.is_file():
        return NOT_STATED
    data = ModelCard.load(str(card), ignore_metadata_errors=True).data.to_dict()
    return str(data.get("license") or NOT_STATED)
