"""Every family's starting configuration loads, is sourced, and holds the published values."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_stabilizer import ConfigurationError, DataError, layerwise_decay
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.recipes import load_recipe, read_yaml
from hf_stabilizer.starting_points import family_names, starting_configuration

TASKS = ("text-classification", "text-regression", "multiple-choice")
TINY = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def written(tmp_path):
    """Writes a starting configuration and returns its path."""

    def write(family_or_model: str, **options: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(starting_configuration(family_or_model, **options), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", family_names())
def test_every_family_and_task_loads(written, family, task):
    path = written(family, task=task)
    configuration = load_configuration(path)
    values = read_yaml(path)
    assert configuration.model.task == values["task"] == task
    assert configuration.data.train_file == "train.csv"
    arguments = configuration.arguments(output_dir="unused")
    trained = {k: v for k, v in values.items() if hasattr(arguments, k)}
    assert {"learning_rate", "num_train_epochs", "evaluations_per_epoch"} <= trained.keys()
    assert all(getattr(arguments, k) == v for k, v in trained.items())


@pytest.mark.parametrize("family", family_names())
@pytest.mark.parametrize("recipe", ["plain", "stabilised"])
def test_the_study_that_the_header_proposes_can_be_read(written, family, recipe):
    path = written(family)
    assert "--recipes plain stabilised" in path.read_text(encoding="utf-8")
    load_configuration(path, recipe=recipe)


# Read off the papers and the authors' scripts, apart from the files.
PUBLISHED = {
    # family: (rate of the head, batch, epochs, warm-up, weight decay)
    "albert": (1e-5, 16, 10, 0.06, 0.01),
    "bert": (2e-5, 32, 3, 0.1, 0.01),
    "deberta": (3e-5, 64, 3, 1000 / 18408, 0.01),
    "deberta-v2": (1.5e-5, 64, 3, 1000 / 18408, 0.01),
    "distilbert": (1e-5, 32, 3, 600 / 6315, 0.0),
    "electra": (1e-4, 32, 3, 0.1, 0.0),
    "longformer": (3e-5, 32, 15, 0.1, 0.0),
    "modernbert": (8e-5, 64, 5, 0.1, 1e-6 / 8e-5),
    "mpnet": (2e-5, 16, 10, 0.06, 0.1),
    "roberta": (2e-5, 16, 10, 0.06, 0.1),
    "xlm-roberta": (2e-5, 32, 5, 0.0, 0.0),
    "xlnet": (2e-5, 32, 5, 500 / 4000, 0.01),
}


@pytest.mark.parametrize("family", family_names())
def test_the_values_are_the_published_ones(written, family):
    arguments = load_configuration(written(family)).arguments(output_dir="unused")
    batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    rate, rows, epochs, warmup, weight_decay = PUBLISHED[family]
    assert (arguments.head_learning_rate or arguments.learning_rate) == rate
    assert (batch, arguments.num_train_epochs) == (rows, epochs)
    assert arguments.warmup_steps == pytest.approx(warmup, abs=5e-4)
    assert arguments.weight_decay == pytest.approx(weight_decay)
    assert arguments.lr_scheduler_type == "linear"


def test_electra_has_the_rate_of_every_layer_that_its_authors_code_gives(written):
    arguments = load_configuration(written("electra")).arguments(output_dir="unused")
    curve = layerwise_decay(arguments.layer_lr_decay)
    blocks = 12
    found = [arguments.learning_rate * curve(depth, blocks) for depth in range(blocks + 1)]
    # google-research/electra, model/optimization.py: rate x decay ** (blocks + 2 - depth)
    assert found == pytest.approx([1e-4 * 0.8 ** (blocks + 2 - depth) for depth in range(13)])
    assert arguments.head_learning_rate == 1e-4


@pytest.mark.parametrize("family", family_names())
def test_every_family_is_known_to_transformers_and_names_its_source(written, family):
    assert family in CONFIG_MAPPING
    text = written(family).read_text(encoding="utf-8")
    assert "\n# Source: " in text
    assert "arXiv" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(("family", "times"), [("bert", 4), ("xlnet", 2), ("longformer", 1)])
def test_about_ten_evaluations_per_run(written, family, times):
    assert read_yaml(written(family))["evaluations_per_epoch"] == times


def save(config: transformers.PreTrainedConfig, folder: Path) -> str:
    config.save_pretrained(folder)
    return str(folder)


def test_a_folder_gets_the_values_of_its_family_and_keeps_its_own_name(written, tmp_path):
    folder = save(transformers.ElectraConfig(**TINY), tmp_path / "mine")
    values = read_yaml(written(folder))
    assert values["model_name_or_path"] == folder
    own = {"model_name_or_path": folder}
    assert values == {**read_yaml(written("electra")), **own}


def test_a_family_without_published_values_gets_the_general_ones_and_is_told(
    written, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # Named like its family, as the Hub's gpt2 is.
    path = written(save(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2), Path("gpt2")))
    assert "No published values are known to us for the family 'gpt2'" in path.read_text()
    mosbach = load_recipe("mosbach").for_task("text-classification")
    shared = mosbach.keys() - {"optim"}  # The default, which the recipe names to be safe.
    values = read_yaml(path)
    assert values["model_name_or_path"] == "gpt2"
    assert {key: values[key] for key in shared} == {key: mosbach[key] for key in shared}
    load_configuration(path)
    assert "No published" not in written("bert").read_text(encoding="utf-8")


def test_a_model_in_an_installed_package(written, tmp_path, monkeypatch):
    save(transformers.RobertaConfig(**TINY), tmp_path / "site" / "packed_model" / "weights")
    (tmp_path / "site" / "packed_model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    values = read_yaml(written("pkg://packed_model/weights"))
    assert values["model_name_or_path"] == "pkg://packed_model/weights"
    assert values["weight_decay"] == 0.1


@pytest.mark.parametrize("name", ["a: b #c", "true", "1e-5", "{x}", "it's", 'say "hi"', "größer"])
def test_names_that_yaml_could_misread_come_back_as_they_are(written, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    save(transformers.BertConfig(**TINY), Path(name))
    assert read_yaml(written(name))["model_name_or_path"] == name


def test_a_family_wins_over_a_folder_of_that_name(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(transformers.ElectraConfig(**TINY), Path("bert"))
    assert "layer_lr_decay" not in read_yaml(written("bert"))
    assert read_yaml(written("./bert"))["layer_lr_decay"] == 0.8


def test_deberta_v3_is_the_family_of_v2():
    assert starting_configuration("deberta-v3") == starting_configuration("deberta-v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robeta", "'robeta' is neither .* .did you mean roberta"),
        (
            "./missing",
            r"'\./missing' is neither .*; name one of the families instead: albert, bert",
        ),
        ("", "'' is neither .*name one of the families"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(ConfigurationError, match=message):
        starting_configuration(name)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"config\.json can be read \(.*; name one of"):
        starting_configuration(str(tmp_path))


def test_a_package_that_is_absent_is_refused():
    with pytest.raises(DataError, match="no package 'no_such_package' is installed"):
        starting_configuration("pkg://no_such_package/model")


def test_unknown_tasks_are_refused():
    with pytest.raises(ConfigurationError, match="did you mean text-classification"):
        starting_configuration("bert", task="text-clasification")


def test_families_cost_no_heavy_import_and_an_unreachable_hub_is_one_error():
    code = """if True:
        import sys
        from hf_stabilizer import ConfigurationError
        from hf_stabilizer.starting_points import family_names, starting_configuration
        for family in family_names():
            starting_configuration(family)
        assert not {"torch", "transformers", "pandas"} & sys.modules.keys()
        try:
            starting_configuration("nobody/nothing")
        except ConfigurationError as error:
            print(error)
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.startswith("'nobody/nothing' is neither a model family nor")
    assert "name one of the families instead" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_first_comparison_that_can_show_something(written):
    """For other tasks than classification `stabilised` sets nothing: it is the plain run."""
    assert "--recipes plain zhang-reinit" in written("bert", task="text-regression").read_text()
