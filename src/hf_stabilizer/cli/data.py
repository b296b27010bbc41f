"""What does `hf-stabilizer data` do? Check, clean and enrich rows; one module for each part."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from hf_stabilizer.cli import data_augment, data_check, data_clean, data_synthesize
from hf_stabilizer.cli.parsing import EPILOG, AddCommand

PARTS = (data_check, data_clean, data_augment, data_synthesize)
"""Modules that add the parts, in the order of `--help`."""


def add(command: AddCommand) -> None:
    """Adds `data` and its parts."""
    data = command("data", _no_part, "Check, clean and enrich rows.")
    parts = data.add_subparsers(dest="part", required=True, metavar="PART")

    def part(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = parts.add_parser(
            name, help=text, description=text, epilog=EPILOG, allow_abbrev=False
        )
        # The words by which `own_options` finds this parser.
        added.set_defaults(run=run, command=f"data {name}")
        return added

    for module in PARTS:
        module.add(part)


def _no_part(args: argparse.Namespace) -> None:
    raise AssertionError("argparse asks for a part")
