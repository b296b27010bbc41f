"""Does the help of each command say what the command does?"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator

import pytest

from hf_stabilizer.cli import build_parser, main

EVERY = "Any configuration key can be given"


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All parsers below one, parts of commands among them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield inner
                yield from commands(inner)


def test_a_command_that_takes_no_keys_does_not_offer_any() -> None:
    told = {}
    for parser in commands(build_parser()):
        run = parser.get_default("run")
        # The first thing that is said: what comes later is for some of its arguments alone.
        refuses = "    no_overrides(args)\n" in inspect.getsource(run)
        told[parser.prog.removeprefix("hf-stabilizer ")] = refuses
        assert not (refuses and EVERY in parser.format_help()), parser.prog
    assert all(told[name] for name in ("compare", "report", "seeds", "env"))
    assert not told["train"]


@pytest.mark.parametrize("part", ["check", "clean"])
def test_rows_are_described_by_keys_about_rows(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["data", part, "--help"])
    shown = "".join(capsys.readouterr().out.split())  # Lines are broken at dashes, too.
    assert EVERY.replace(" ", "") not in shown
    assert "as--key" in shown
    assert "--label-column" in shown


def test_a_similarity_that_cannot_be_is_named_as_it_was_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["check", "rows.csv"], ["synthesize", "c.yaml", "--rows", "1"]):
        with pytest.raises(SystemExit) as stop:
            main(["data", *words, "--similarity", "2"])
        assert stop.value.code == 2
        assert "--similarity must be in (0, 1], got 2.0" in capsys.readouterr().err
