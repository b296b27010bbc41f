"""What does a command line with {seed} and {output_dir} become for one run?

    python run_glue.py --seed {seed} --data_seed {data_seed} --output_dir {output_dir}

Words are split as a POSIX shell would, but no shell is used; a placeholder fills what it stands in
without being split. `{{name}}` is the text `{name}`; other braces, as in JSON, are left alone.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from hf_stabilizer.errors import ConfigurationError, did_you_mean

SEED_NAMES = ("head_seed", "data_seed", "seed")
PLACEHOLDERS = ("seed", "data_seed", "head_seed", "output_dir", "recipe")
_BRACES = re.compile(r"\{\{(?P<text>[A-Za-z_]\w*)\}\}|\{(?P<name>[A-Za-z_]\w*)\}")
_SHELL_ONLY = ("|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1")


def is_command(config: object) -> bool:
    """Returns whether a configuration is a command template: a text with placeholders of ours.

    Example:
        >>> is_command("python train.py --seed {seed} --out {output_dir}"), is_command("a.yaml")
        (True, False)
    """
    return isinstance(config, str) and any(f"{{{name}}}" in config for name in PLACEHOLDERS)


@dataclass(frozen=True)
class CommandTemplate:
    """A command line whose placeholders stand for what differs between runs."""

    text: str
    """The line as it was given."""
    words: tuple[str, ...]
    """The line split into words, placeholders and all."""

    @classmethod
    def parse(cls, text: str) -> CommandTemplate:
        """Splits and checks a command line.

        Raises:
            ConfigurationError: A placeholder that there is none of; no {output_dir} or no seed; a
                shell's own words; a program that is not there.

        Example:
            >>> CommandTemplate.parse("python x.py --seed {sed} --output_dir {output_dir}")
            Traceback (most recent call last):
                ...
            hf_stabilizer.errors.ConfigurationError: the command has the placeholder {sed}, and
            there are only {seed}, {data_seed}, {head_seed}, {output_dir}, {recipe} (did you mean
            seed?)
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigurationError(f"the command cannot be split into words ({error})") from error
        template = cls(text, words)
        template._check_placeholders()
        template._check_program()
        return template

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The placeholders that occur."""
        found = (match["name"] for word in self.words for match in _BRACES.finditer(word))
        return tuple(dict.fromkeys(name for name in found if name))

    @property
    def seed_names(self) -> tuple[str, ...]:
        """The seeds that it sets."""
        return tuple(name for name in SEED_NAMES if name in self.placeholders)

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """Returns the words of one run.

        Example:
            >>> template = CommandTemplate.parse("python x.py --seed={seed} {output_dir} {{a}}")
            >>> template.fill({"seed": 3, "output_dir": "/my runs/1"})
            ['python', 'x.py', '--seed=3', '/my runs/1', '{a}']
        """

        def value(match: re.Match[str]) -> str:
            return str(values[match["name"]]) if match["name"] else f"{{{match['text']}}}"

        return [_BRACES.sub(value, word) for word in self.words]

    def _check_placeholders(self) -> None:
        allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        for name in self.placeholders:
            if name not in PLACEHOLDERS:
                raise ConfigurationError(
                    f"the command has the placeholder {{{name}}}, and there are only {allowed}"
                    f"{did_you_mean(name, PLACEHOLDERS)}"
                )
        if "output_dir" not in self.placeholders:
            raise ConfigurationError(
                "the command has no {output_dir}, so its runs would overwrite one another; "
                "add e.g. --output_dir {output_dir}"
            )
        if not self.seed_names:
            raise ConfigurationError(
                "the command has no {seed}, so its runs would all be the same; add e.g. "
                "--seed {seed}"
            )

    def _check_program(self) -> None:
        for word in self.words:
            if word in _SHELL_ONLY:
                raise ConfigurationError(
                    f"the command has {word!r}, which only a shell understands, and none is used; "
                    "put such a line into a script and name that"
                )
        if shutil.which(self.words[0]) is None:
            raise ConfigurationError(
                f"the command begins with {self.words[0]!r}, which is no program that is found; "
                "no shell is used, so variables and aliases do not work"
            )
