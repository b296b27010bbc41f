"""Every block of the README and of docs/ runs, and what they list is all that there is."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hf_stabilizer.cli import build_parser
from hf_stabilizer.cli.parsing import own_options, read_overrides
from hf_stabilizer.configuration import check_value, load_configuration
from hf_stabilizer.recipes import recipe_names

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
README = PAGES["README.md"]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def script(
    config: dict[str, Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, Any]]:
    """Gives what a script has before it meets us: a fresh model, arguments, rows, a collator."""
    from transformers import AutoModelForSequenceClassification, TrainingArguments

    from hf_stabilizer.run import prepare_data

    monkeypatch.chdir(tmp_path)
    del config["output_dir"]
    YAML(typ="safe", pure=True).dump({**config, "max_steps": 2}, tmp_path / "config.yaml")
    prepared = prepare_data(load_configuration(config))

    def fresh() -> dict[str, Any]:
        return {
            "model": AutoModelForSequenceClassification.from_pretrained(model_folder),
            "args": TrainingArguments("script", max_steps=4, report_to="none"),
            "rows": prepared.train,
            "validation_rows": prepared.validation,
            "collator": prepared.data_collator,
        }

    return fresh


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")
# The guard is right: four steps teach the model nothing.
@pytest.mark.filterwarnings("ignore:the run has collapsed:UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", PAGES[page])])
def test_python_blocks_run_and_what_they_build_trains(
    page: str, script: Callable[[], dict[str, Any]], model_folder: Path
) -> None:
    from transformers import Trainer

    found = blocks("python", PAGES[page])
    names: dict[str, Any] = {"__name__": "readme", "Trainer": Trainer}
    for block in found:
        names |= script()  # Each block stands alone, but for what was imported before it.
        for built in ("trainer", "callbacks"):
            names.pop(built, None)
        # The steps of `mosbach` are kept to two, as `max_steps` in the file beats its epochs.
        exec(block.replace("bert-base-uncased", str(model_folder)), names)
        if "callbacks" in names:
            own = {name: names[name] for name in ("model", "args", "callbacks")}
            data = {"train_dataset": names["rows"], "eval_dataset": names["validation_rows"]}
            names["trainer"] = Trainer(**own, **data, data_collator=names["collator"])
        if "trainer" in names and "trainer.train(" not in block:
            names["args"].max_steps = 4
            names["trainer"].train()
        assert "trainer" not in names or names["trainer"].state.global_step > 0
    assert page != "README.md" or Path("results/mine/report.html").exists()


def test_commands_are_understood() -> None:
    lines = [
        line for text in PAGES.values() for b in blocks("bash", text) for line in b.split("\n")
    ]
    commands = [shlex.split(line, comments=True) for line in lines if "hf-stabilizer" in line]
    assert len(commands) >= 12
    for _, *words in commands:
        parser = build_parser()  # anew, for an option may change what the others need
        args, rest = parser.parse_known_args(words)
        for key, value in read_overrides(rest, own_options(parser, args.command)).items():
            check_value(key, value)


def test_every_command_is_shown() -> None:
    (chosen,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    shown = set(re.findall(r"^hf-stabilizer ([a-z-]+)", "".join(blocks("bash")), flags=re.M))
    assert shown == set(chosen.choices)


def test_every_recipe_is_listed() -> None:
    section = README[README.index("| recipe |") :]
    rows = section[: section.index("\n\n")].splitlines()[2:]
    listed = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert listed == set(recipe_names())


def test_every_argument_is_listed_with_its_default() -> None:
    from transformers import TrainingArguments

    from hf_stabilizer.arguments import StabilizerArguments

    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    ours = [f for f in dataclasses.fields(StabilizerArguments) if f.name not in theirs]
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+)", PAGES["docs/arguments.md"], flags=re.M))
    read = YAML(typ="safe", pure=True).load
    assert {name: None if text == "None" else read(text) for name, text in listed.items()} == {
        field.name: field.default for field in ours
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = PAGES[page]
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link


def test_the_map_of_the_sources_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sources = ROOT / "src" / "hf_stabilizer"
    files = {path.name for path in sources.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in sources.glob("*/__init__.py")}
    assert sorted(room for room in files | folders if f"`{room}`" not in text) == []


def test_the_configuration_is_valid() -> None:
    (text,) = blocks("yaml")
    load_configuration(YAML(typ="safe", pure=True).load(text))
