"""How are words on the command line read? Options of our own, and keys of the configuration."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from hf_stabilizer.errors import ConfigurationError, did_you_mean

EPILOG = """\
Any configuration key can be given as --key value behind the command's own options; flags beat
the recipe, the recipe beats the file. `hf-stabilizer init --keys` lists them.
"""


class AddCommand(Protocol):
    """Adds a command; its `run` gets the parsed arguments, with `argv` and `overrides` in them."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        """Returns the command's own parser, for its options."""
        ...


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and takes every option with dashes or underscores."""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for any namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Reads `--stop_at` as `--stop-at`, as configuration keys are written in either way."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelt(word) for word in words], namespace)

    def _spelt(self, word: str) -> str:
        name, equals, value = word.partition("=")
        dashed = name.replace("_", "-")
        known = self._option_string_actions
        is_ours = word.startswith("--") and name not in known and dashed in known
        return f"{dashed}{equals}{value}" if is_ours else word

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # Any: as argparse has it
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            what = action.metavar if not action.option_strings else action.option_strings[0]
            raise ConfigurationError(
                f"{what} must be one of {', '.join(words)}, got {value!r}"
                f"{did_you_mean(str(value), words)}; see `{self.prog} --help`"
            )

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing usage and exiting."""
        raise ConfigurationError(f"{message}{self._instead(message)}; see `{self.prog} --help`")

    def _instead(self, message: str) -> str:
        """Names the options that can stand in place of an argument that is missing."""
        missing = message.partition("arguments are required: ")[2].split(", ")
        given = [a for a in self._actions if isinstance(a, InPlaceOf) and a.other.dest in missing]
        if not given:
            return ""
        names = " or ".join(action.option_strings[0] for action in given)
        return f" (in place of {given[0].other.dest}: {names})"


class InPlaceOf(argparse.Action):
    """An option that makes a positional argument needless; `nargs="?"` would take it by chance."""

    def __init__(self, *args: Any, other: argparse.Action, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.other = other

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:  # Any: as argparse has it
        """Takes the value, and the other is needed no more."""
        setattr(namespace, self.dest, values)
        self.other.required = False
        # Or it would take the value of the next option that argparse does not know.
        self.other.nargs = argparse.SUPPRESS


def read_overrides(tokens: Sequence[str], own: Sequence[str] = ()) -> dict[str, Any]:
    """Reads `--key value` pairs that no command claims as its own.

    Values are read as YAML; several values make a list; a key without a value is true.

    Raises:
        ConfigurationError: A value without a key, or an option of another command.

    Example:
        >>> read_overrides(["--learning-rate", "1e-4", "--metrics", "mae", "rmse", "--bf16"])
        {'learning_rate': 0.0001, 'metrics': ['mae', 'rmse'], 'bf16': True}
    """
    given: dict[str, list[str]] = {}
    key = None
    for token in tokens:
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            key = name.replace("-", "_")
            close = did_you_mean(token.partition("=")[0], own)
            if close and not _is_key(key):
                # A slip in a command's own option must not become a configuration key.
                raise ConfigurationError(f"unknown option {token!r}{close}")
            given[key] = [value] if equals else []
        elif re.match("-[A-Za-z]", token):
            raise ConfigurationError(f"unknown option {token!r}; options begin with --")
        elif key is None:
            raise ConfigurationError(f"{token!r} belongs to no option; write --key value")
        else:
            given[key].append(token)
    return {key: _read_values(values) for key, values in given.items()}


def _is_key(name: str) -> bool:
    """Whether a configuration may hold this key, however close it is to an option of ours."""
    from hf_stabilizer.configuration import known_keys  # imports transformers: only when in doubt

    return name in known_keys()


def _read_values(values: list[str]) -> Any:  # Any: whatever YAML can say
    from hf_stabilizer.recipes import read_value as read

    if not values:
        return True
    return read(values[0]) if len(values) == 1 else [read(value) for value in values]


def own_options(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Returns the long options that a command, or a part of one ("data check"), has itself."""
    for word in command.split():
        parser = next(
            action.choices[word]
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        )
    return [name for a in parser._actions for name in a.option_strings if len(name) > 2]


def no_overrides(args: argparse.Namespace) -> None:
    """Refuses configuration keys for a command that reads no configuration."""
    if args.overrides:
        key = next(iter(args.overrides))
        raise ConfigurationError(
            f"`hf-stabilizer {args.command}` takes no --{key}; "
            f"see `hf-stabilizer {args.command} --help`"
        )
