"""Who writes? An endpoint that speaks as OpenAI's does, a causal model here, or one's own.

A generator of one's own is anything with a name, its licence and `complete`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from hf_stabilizer.errors import (
    ConfigurationError,
    MissingDependencyError,
    StabilizerError,
    check_whole,
    first_line,
)

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

# Any in this module: JSON, and what transformers returns.
NOT_STATED = "not stated"


# Answers of HTTP to a question that is not liked: malformed, forbidden, too long, unprocessable,
# for legal reasons. All others say that the endpoint is at fault, or the way it is called.
_REFUSING = (400, 403, 413, 422, 451)


class EndpointError(StabilizerError):
    """A generator gave no answer; nor would it to another question."""


class RefusalError(EndpointError):
    """A generator gave no answer to this question; others it may answer."""


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
            RefusalError: There is none to this question, and there will be none.
            EndpointError: There is none to any question for now.
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
        tries: Times that a question is asked before it is given up; with a pause between, longer
            each time, where the endpoint is down or wants one (5xx, 429).
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
        """Asks, again where there is no answer, and returns the answer.

        Raises:
            RefusalError: The question is not liked (HTTP 400, 403, 413, 422, 451), or what came
                each time was empty, kept back by a filter, or no chat completion.
            EndpointError: The endpoint is down, or does not know the key or the model.
        """
        reason = ""
        for _ in range(self._tries):
            answer, reason = self._ask(messages, schema, seed)
            if not reason:
                return answer
        raise RefusalError(f"{reason}, in {self._tries} tries")

    def _ask(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], seed: int
    ) -> tuple[str, str]:
        """Returns the answer, and why it is none, "" if it is one."""
        from openai import APIStatusError, OpenAIError

        form = {"type": "json_schema", "json_schema": {"name": "row", "schema": dict(schema)}}
        try:
            answer = self._open().chat.completions.create(
                model=self.name,
                messages=cast("Any", [dict(message) for message in messages]),
                seed=seed,
                **cast("Any", {"response_format": form} if self._structured else {}),
                **cast("Any", self._options),
            )
        except ValueError as error:  # JSON that breaks off.
            return "", f"the endpoint {self._url!r} gave no answer that is JSON ({error})"
        except APIStatusError as error:
            if error.status_code in _REFUSING:
                raise RefusalError(_told(error)) from error
            raise EndpointError(self._silence(error)) from error
        except OpenAIError as error:
            raise EndpointError(self._silence(error)) from error
        return self._read(answer)

    def _read(self, answer: Any) -> tuple[str, str]:
        try:
            choice = answer.choices[0]
            text = str(choice.message.content or "")
        except (AttributeError, IndexError, TypeError):
            return "", (
                f"the endpoint {self._url!r} answered what is no chat completion ({answer!r:.80}); "
                "see that the address is that of its API, which mostly ends in /v1"
            )
        if text.strip():
            return text, ""
        if getattr(choice.message, "refusal", None):
            return "", f"refused with the words {str(choice.message.refusal)[:100]!r}"
        advice = "; raise max_tokens" if choice.finish_reason == "length" else ""
        return "", f"an empty answer (finish_reason {choice.finish_reason!r}{advice})"

    def _silence(self, error: OpenAIError) -> str:
        """What is said when the endpoint, not the question, is at fault."""
        from openai import APIStatusError

        # openai asks again by itself after these, and after lost connections.
        again = not isinstance(error, APIStatusError) or error.status_code in (408, 409, 429)
        again = again or getattr(error, "status_code", 0) >= 500
        tries = f" in {self._tries} tries" if again else ""
        return (
            f"the endpoint {self._url!r} gave no answer{tries} ({_told(error)}); see that it runs "
            f"and knows the model {self.name!r}, then give the same command again"
        )

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


def _told(error: OpenAIError) -> str:
    said, status = first_line(error), getattr(error, "status_code", None)
    if said.startswith("<") and status is not None:  # A page for browsers.
        said = f"Error code: {status}"
    return f"{type(error).__name__}: {said}"
