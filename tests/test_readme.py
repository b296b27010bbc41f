"""Every block of the README runs: Python as it stands, commands parsed, YAML checked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hf_stabilizer.cli import _own_options, build_parser, read_overrides
from hf_stabilizer.configuration import check_value, load_configuration

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")
def test_python_blocks_run_one_after_the_other(
    config: dict[str, Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_stabilizer.run import prepare_data

    monkeypatch.chdir(tmp_path)
    del config["output_dir"]
    YAML(typ="safe", pure=True).dump({**config, "max_steps": 2}, tmp_path / "config.yaml")
    prepared = prepare_data(load_configuration(config))
    names = {
        "__name__": "readme",
        "rows": prepared.train,
        "validation_rows": prepared.validation,
        "collator": prepared.data_collator,
    }
    found = blocks("python")
    assert len(found) >= 5
    for block in found:
        # The steps of `mosbach` are kept to two, as `max_steps` in the file beats its epochs.
        exec(block.replace("bert-base-uncased", str(model_folder)), names)
    assert (tmp_path / "results" / "mine" / "report.html").exists()


def test_commands_are_understood() -> None:
    parser = build_parser()
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if "hf-stabilizer" in line]
    assert len(commands) >= 9
    for _, *words in commands:
        args, rest = parser.parse_known_args(words)
        for key, value in read_overrides(rest, _own_options(parser, args.command)).items():
            check_value(key, value)


def test_the_configuration_is_valid() -> None:
    (text,) = blocks("yaml")
    load_configuration(YAML(typ="safe", pure=True).load(text))
