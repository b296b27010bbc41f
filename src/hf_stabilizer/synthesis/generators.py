"""Who writes? An endpoint that speaks as OpenAI's does, or a causal language model here.

A generator of one's own is anything with a name, its licence and `complete`.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from hf_stabilizer.errors import (
    ConfigurationError,
    MissingDependencyError,
    StabilizerError,
    check_whole,
    first_line,
)

if TYPE_CHECKING:
    from openai import OpenAI

# Any in this module: JSON, and what transformers returns.
NOT_STATED = "not stated"


class EndpointError(StabilizerError):
    """A generator gave no answer."""


class Generator(Protocol):
    """Writes text."""

    @property
    def name(self) -> str:
        """Which model it is; part of every row's provenance."""
        ...

    @property
    def licence(self) -> str:
        """Under which terms its output may be used; part of every row's provenance."""
        ...

    def complete(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
    ) -> str:
        """Returns the answer to a conversation, a JSON object that fits the schema if it can.

        Raises:
            EndpointError: There is none.
        """
        ...


class EndpointGenerator:
    """A model behind an HTTP endpoint with OpenAI's chat completions.

    Args:
        base_url: Address, e.g. "http://localhost:8000/v1".
        model: Name of the model there.
        licence: Terms of its output.
        api_key: Key, if it wants one; it is written nowhere.
        temperature: 0 or more; larger is more varied.
        max_tokens: Longest answer.
        timeout: Seconds to wait for an answer.
        tries: Times that a question is asked before it is given up.
        structured: Whether the schema is sent along, for endpoints that keep to it.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        licence: str = NOT_STATED,
        api_key: str | None = None,
        temperature: float = 1.0,
        max_tokens: int = 512,
        timeout: float = 120.0,
        tries: int = 3,
        structured: bool = True,
    ):
        if not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"endpoint must be an address such as 'http://localhost:8000/v1', got {base_url!r}"
            )
        check_whole(tries, "1 or more", name="tries", least=1)
        check_whole(max_tokens, "1 or more", name="max_tokens", least=1)
        if not temperature >= 0:
            raise ConfigurationError(f"temperature must be 0 or more, got {temperature!r}")
        if importlib.util.find_spec("openai") is None:
            raise MissingDependencyError(
                "endpoints are asked with the package openai, which is not installed; run: pip "
                "install 'hf_stabilizer[synthesis]'"
            )
        self.name, self.licence, self._url = model, licence, base_url
        self._key, self._timeout, self._tries = api_key, timeout, tries
        self._options = {"temperature": temperature, "max_tokens": max_tokens}
        self._structured = structured
        self._client: OpenAI | None = None

    def complete(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
    ) -> str:
        """Asks, again after a pause where there is no answer, and returns the answer.

        Raises:
            EndpointError: There was none each time.
        """
        from openai import OpenAIError

        form = {"type": "json_schema", "json_schema": {"name": "row", "schema": dict(schema)}}
        try:
            answer = self._open().chat.completions.create(
                model=self.name,
                messages=cast("Any", [dict(message) for message in messages]),
                seed=seed,
                **cast("Any", {"response_format": form} if self._structured else {}),
                **cast("Any", self._options),
            )
        except (OpenAIError, ValueError) as error:  # The latter where JSON breaks off.
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise EndpointError(
                f"the endpoint {self._url!r} gave no answer in {self._tries} tries ({reason}); "
                "see that it runs and knows the model, then give the same command again"
            ) from error
        try:
            return str(answer.choices[0].message.content or "")
        except (AttributeError, IndexError, TypeError) as error:
            raise EndpointError(
                f"the endpoint {self._url!r} answered what is no chat completion ({answer!r:.80}); "
                "see that the address is that of its API, which mostly ends in /v1"
            ) from error

    def _open(self) -> OpenAI:
        from openai import OpenAI

        if self._client is None:
            # Without a key a word is sent that is none.
            self._client = OpenAI(
                base_url=self._url,
                api_key=self._key or "none",
                timeout=self._timeout,
                max_retries=self._tries - 1,
            )
        return self._client


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
            EndpointError: The model cannot be loaded.
        """
        import torch

        # One at a time: the random numbers are those of the whole process.
        with self._alone, torch.random.fork_rng(), torch.no_grad():
            model, tokenizer = self._load()
            ids = _encoded(tokenizer, messages).to(model.device)
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

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM

        from hf_stabilizer.models import load_tokenizer

        if self._parts is None:
            try:
                model = AutoModelForCausalLM.from_pretrained(self._path)
            except (OSError, ValueError, KeyError) as error:
                raise EndpointError(
                    f"no causal language model can be loaded from {self.name!r}: "
                    f"{first_line(error)}"
                ) from error
            device = "cuda" if torch.cuda.is_available() else "cpu"
            model.to(device).eval()  # type: ignore[arg-type]  # as transformers decorates `to`
            self._parts = model, load_tokenizer(self._path)
        return self._parts


def _encoded(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Any:
    if tokenizer.chat_template:
        told = [dict(message) for message in messages]
        text = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
        # The template has written the mark of the beginning already.
        return tokenizer(text, add_special_tokens=False, return_tensors="pt")
    text = "\n\n".join(message["content"] for message in messages) + "\n"
    return tokenizer(text, return_tensors="pt")


def _licence_of(path: str) -> str:
    """The licence that a model card names."""
    from huggingface_hub import ModelCard

    card = Path(path) / "README.md"
    if not card.is_file():
        return NOT_STATED
    data = ModelCard.load(str(card), ignore_metadata_errors=True).data.to_dict()
    return str(data.get("license") or NOT_STATED)
