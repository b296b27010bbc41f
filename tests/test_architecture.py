"""Do the rooms keep their walls? The imports are read from the sources; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hf_stabilizer"

# What every technique may stand on -> what it may stand on itself.
FOUNDATIONS = {
    "call_order": set(),
    "checkpoint_notes": {"errors"},
    "checkpoints": {"errors", "checkpoint_notes"},
    "errors": set(),
    "layers": {"errors"},
    "locations": {"errors"},
    "features": {"errors"},
    "hidden_steps": {"errors"},
    "log_lines": {"call_order"},
    "norms": set(),
    "random_state": {"errors"},
    "records": {"errors"},
    "rate_override": {"errors"},
    "skipped_steps": set(),
    "sockets": set(),
    "steps": {"errors"},
}
# A technique -> the modules that it consists of. No technique knows of another.
TECHNIQUES = {
    "layer-wise rates": {
        *("learning_rates", "parameter_groups", "optimizers", "optimizer_conflicts", "schedules"),
    },
    "layers drawn anew": {"reinitialization", "initialization", "identity_pooler"},
    "fitted head": {"head", "linear_fit", "linear_problems", "supervision"},
    "layers brought in": {"transfer", "transfer_names", "transfer_source"},
    "frozen layers": {"freezing"},
    "averaged weights": {"averaging"},
    "penalised weights": {"regularization"},
    "dropout": {"dropout"},
    "frequent evaluation": {"evaluation"},
    "logged layers": {"layer_statistics"},
    "guarded runs": {"divergence", "non_finite", "collapse", "forward_hook"},
}
# What joins the techniques, and what people meet: these may import any of them.
ABOVE = {
    *(
        "arguments",
        "argument_callbacks",
        "argument_checks",
        "seq2seq_arguments",
        "argument_depths",
        "rate_table",
        "configuration",
        "recipes",
        "starting_points",
        "layer_view",
    ),
    *("data", "tasks", "models", "metrics", "scores", "outcome", "run", "studies"),
    *("data_quality", "augmentation"),
    *(
        "predictions",
        "prediction_recorder",
        "scoring_order",
        "procedure",
        "control_study",
        "synthesis",
        "folds",
    ),
    *("member", "prediction", "ensembling"),
    *("pretraining",),
    *("pseudo_labels",),
    *("rate_figure",),
    *("probing", "probe_record", "probe_view", "readouts", "dead_pooler"),
    *("silent_mistakes", "output_folder", "dry_run", "dry_run_view"),
    *("schedule_words", "cli", "__main__"),
}
LIGHT = [
    *("errors", "records", "outcome", "recipes", "learning_rates", "data", "tasks", "models"),
    *("data_quality", "augmentation"),
    *("metrics", "cli", "checkpoints", "predictions", "procedure"),
    *("member", "prediction", "ensembling.ensembles", "ensembling.soups", "ensembling.predicting"),
    *("pseudo_labels.options", "pseudo_labels.judgement", "pseudo_labels.selection"),
    *("pseudo_labels.held_out", "pseudo_labels.labelling"),
    *("pseudo_labels.groups", "pseudo_labels.usable", "data.row_marks"),
    *("studies.study", "studies.statistics", "studies.comparison", "studies.verdict"),
    *("folds.record", "folds.view", "folds.page", "data.folding"),
    *("studies.table", "studies.events", "studies.full_disk", "studies.tracker_names"),
    *("studies.findings", "studies.figures", "studies.page", "studies.cards", "studies.plans"),
    *("studies.past_runs", "studies.commands", "studies.ablations.ablation"),
    *("studies.ablations.ablation_view", "studies.early_stopping.choosing"),
    *("studies.early_stopping.stopping", "studies.seeds", "studies.runs_compared"),
    *("studies.sweeps", "studies.main_guard", "studies.rehearsed", "studies.rehearsal_view"),
]


def name_of(path: Path) -> str:
    """The module's name within the package: "averaging.swa", "averaging", "" for the package."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Full names of all that these nodes import, e.g. "torch.nn", "hf_stabilizer.errors"."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(names: Iterable[str]) -> set[str]:
    """The package's own modules among these names, the packages around them included."""
    found = set()
    for name in names:
        first, *parts = name.split(".")
        paths = {".".join(parts[:length]) for length in range(len(parts) + 1)}
        found |= paths & MODULES.keys() if first == "hf_stabilizer" else set()
    return found


def rooms_used_by(room: str) -> set[str]:
    """The rooms that a room's modules import, also within functions, its own left out."""
    files = [tree for name, tree in MODULES.items() if name.split(".")[0] == room]
    names = ours(imported(node for tree in files for node in ast.walk(tree)))
    return {name.split(".")[0] for name in names} - {room, ""}


def loaded_with(module: str) -> set[str]:
    """Names of all that a module, or every module of a package, imports, directly or not."""
    below = [name for name in MODULES if name.startswith(f"{module}.")]
    waiting = ours([f"hf_stabilizer.{name}" for name in (module, *below)])
    names, seen = set[str](), set[str]()
    while waiting:
        seen.add(current := waiting.pop())
        # The statements of the module itself, not those in functions or under TYPE_CHECKING.
        new = set(imported(MODULES[current].body))
        names |= new
        waiting |= ours(new) - seen
    return names


def test_every_module_stands_in_one_room() -> None:
    rooms = [*FOUNDATIONS, *(m for modules in TECHNIQUES.values() for m in modules), *ABOVE]
    assert sorted(rooms) == sorted({name.split(".")[0] for name in MODULES} - {""})


@pytest.mark.parametrize("room", FOUNDATIONS)
def test_foundations_stand_on_little(room: str) -> None:
    assert rooms_used_by(room) <= FOUNDATIONS[room]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_techniques_do_not_import_one_another(technique: str) -> None:
    modules = TECHNIQUES[technique]
    used = set().union(*(rooms_used_by(module) for module in modules))
    assert used <= modules | FOUNDATIONS.keys()


@pytest.mark.parametrize("module", LIGHT)
def test_these_cost_neither_torch_nor_transformers(module: str) -> None:
    packages = {name.split(".")[0] for name in loaded_with(module)}
    assert not packages & {"torch", "transformers", "accelerate", "evaluate", "datasets"}


def test_what_is_lazy_is_told_from_what_is_not() -> None:
    assert "torch.nn" in loaded_with("layers")
    assert "hf_stabilizer.run.train" not in loaded_with("cli")


def test_every_module_begins_with_its_question() -> None:
    for name, tree in MODULES.items():
        is_package = name == "" or any(other.startswith(f"{name}.") for other in MODULES)
        if not is_package and name != "__main__":
            assert "?" in (ast.get_docstring(tree) or "").split("\n")[0], name


def test_no_module_is_a_drawer_for_everything() -> None:
    last_names = {name.rpartition(".")[2] for name in MODULES}
    assert not last_names & {"utils", "util", "helpers", "common", "misc", "base"}
