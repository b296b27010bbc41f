"""The command line: quick help, every command on real files, one sentence for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from ruamel.yaml import YAML

from hf_stabilizer import Run, Study
from hf_stabilizer.cli import build_parser, main
from hf_stabilizer.cli.parsing import own_options, read_overrides
from hf_stabilizer.cli.speaking import without_secrets
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.records import write_run
from hf_stabilizer.studies.study import write_definition


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Runs a command in this process; returns exit code, output and errors."""
    code = 0
    try:
        main(list(words))
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def config_file(config: dict[str, Any], tmp_path: Path) -> Path:
    del config["output_dir"]
    path = tmp_path / "tiny.yaml"
    YAML(typ="safe", pure=True).dump({**config, "max_steps": 3}, path)
    return path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from hf_stabilizer.cli import main\n"
        "try: main(['study', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'pandas', 'scipy', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_file_that_is_not_there_is_told_before_anything_heavy_is_imported(
    tmp_path: Path,
) -> None:
    code = (
        "import sys\n"
        "from hf_stabilizer.cli import main\n"
        "more = {'ablate': ['--remedies', 'a', 'b']}\n"
        "for name in 'train study ablate cross-validate pretrain pseudo-label probe'.split():\n"
        "    try: main([name, 'no.yaml', *more.get(name, [])])\n"
        "    except SystemExit as stop: assert stop.code == 2\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 7
    assert all("error: cannot read 'no.yaml'" in line for line in lines)


def test_work_is_announced_before_what_takes_seconds(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run("cross-validate", str(config_file), "--folds", "1", capsys=capsys)
    assert code == 2
    assert err.splitlines()[0] == "Checking the configuration, the rows and the model ..."


def test_train_then_study_then_report(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(
        "train", str(config_file), "--recipe", "stabilised", "--output_dir",
        str(tmp_path / "one"), "--learning-rate", "1e-4", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    assert out.startswith("stabilised head1-data1-dropout1: accuracy")  # progress goes elsewhere
    assert (tmp_path / "one" / "model" / "model.safetensors").exists()
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["configuration"]["learning_rate"] == 1e-4

    folder = tmp_path / "study"
    code, out, err = run(
        "study", str(config_file), "--recipes", "plain", "stabilised", "--runs", "1",
        "--workers", "1", "--output-dir", str(folder), capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "[2/2]" in err
    for word in ("recipe", "mean", "std", "worst", "failed", "plain", "stabilised"):
        assert word in out
    assert str(folder / "report.html") in out.replace("\n", "")
    assert "hf-stabilizer study" in (folder / "report.html").read_text()

    (folder / "report.html").unlink()
    code, out, _ = run("report", str(folder), capsys=capsys)
    assert code == 0
    assert (folder / "report.html").exists()


def test_the_command_in_a_report_hides_tokens() -> None:
    words = ["study", "c.yaml", "--hub_token", "hf_abc", "--hub-token=hf_def", "--runs", "2"]
    shown = ["study", "c.yaml", "--hub_token", "...", "--hub-token=...", "--runs", "2"]
    assert without_secrets(words) == shown


def test_a_study_lies_where_its_file_says(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "where.yaml"
    YAML(typ="safe", pure=True).dump({**config, "max_steps": 1}, path)
    code, _, err = run(
        "study", str(path), "--recipes", "plain", "--runs", "1", "--workers", "1", capsys=capsys
    )
    assert code == 0, err
    assert (Path(config["output_dir"]) / "report.html").exists()


def test_layers_shows_each_depth(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        "layers", str(config_file), "--layer_lr", "llrd", "--layer_lr_decay", "0.5",
        "--reinit_layers", "1", "--freeze_embeddings", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    for word in ("embeddings", "layer_01", "layer_02", "head", "re-initialised", "frozen"):
        assert word in out
    code, out, _ = run("layers", str(config_file), "--json", capsys=capsys)
    rows = json.loads(out)
    assert [row["depth"] for row in rows] == [0, 1, 2, 3]
    assert rows[3]["names"][-1] == "classifier.bias"


def test_layers_takes_a_model_folder(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run("layers", str(model_folder), "--parameters", capsys=capsys)
    assert code == 0
    assert "bert.encoder.layer.0.attention.self.query.weight" in out


def test_layers_shows_weight_decay_where_it_is_not_the_same_for_all(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ("layers", str(config_file), "--weight_decay", "0.1")
    code, out, _ = run(*same, capsys=capsys)
    assert code == 0
    assert "weight decay" not in out

    own = (*same, "--layer_weight_decay_multipliers", "[0.5, 2]", "--head_weight_decay", "0")
    _, out, _ = run(*own, capsys=capsys)
    lines = {line.split()[1]: line.split() for line in out.splitlines() if len(line.split()) > 4}
    assert "weight decay" in out
    assert [lines[name][5] for name in ("embeddings", "layer_01", "layer_02", "head")] == [
        "0.05", "0.05", "0.2", "0",
    ]  # fmt: skip
    _, out, _ = run(*own, "--freeze_layers", "1", "--json", capsys=capsys)
    assert [row["weight_decay"] for row in json.loads(out)] == [0.05, None, 0.2, 0.0]


def test_layers_shows_what_the_checkpoint_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 32, "num_hidden_layers": 3}
    vision = {**sizes, "image_size": 8, "patch_size": 4, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    main(["layers", str(tmp_path / "clip"), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in rows][-2:] == ["layer_03", "head"]
    assert rows[1]["blocks"] == ["text_model.encoder.layers.0"]
    assert set(rows[3]["blocks"]) == {
        "text_model.encoder.layers.2",
        "vision_model.encoder.layers.1",
    }
    with pytest.raises(SystemExit):
        main(["layers", str(tmp_path / "clip"), "--task", "text-classification"])
    assert "no text-classification model of type 'clip'" in capsys.readouterr().err


def test_plot_lr_writes_a_picture_and_a_table(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "rates" / "lr.png"
    code, out, _ = run(
        "plot-lr", str(config_file), "--layer_lr", "llrd", "--output", str(picture), capsys=capsys
    )
    assert code == 0
    assert out.split() == [str(picture), str(picture.with_suffix(".csv"))]
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = picture.with_suffix(".csv").read_text().splitlines()
    assert lines[0] == "step,layer,rate"
    assert len(lines) == 1 + 3 * 4  # three steps; embeddings, two blocks, head


def test_recipes_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("recipes", capsys=capsys)
    assert "mosbach" in out
    _, out, _ = run("recipes", "mosbach", capsys=capsys)
    assert "arXiv 2006.04884" in out


def test_init_writes_what_train_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_stabilizer.configuration import load_configuration

    path = tmp_path / "start.yaml"
    code, out, _ = run("init", "roberta", "--output", str(path), capsys=capsys)
    assert code == 0
    assert f"hf-stabilizer train {path}" in out
    assert load_configuration(path).values["learning_rate"] > 0
    code, _, err = run("init", "roberta", "--output", str(path), capsys=capsys)
    assert (code, "is there already" in err) == (2, True)


def test_init_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("init", "--keys", capsys=capsys)
    assert "layer_lr_decay" in out
    assert "learning_rate" in out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    shell = f"{sys.executable} -m hf_stabilizer init --keys | head -n 1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("task")
    assert done.stderr == ""


def test_env_names_the_versions(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("env", capsys=capsys)
    assert "transformers" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "nowhere.yaml"), "cannot read 'nowhere.yaml'"),
        (("train", "CONFIG", "--learning_rat", "1"), "did you mean learning_rate"),
        (("train", "CONFIG", "--recipe", "stabilized"), "did you mean stabilised"),
        (("train", "CONFIG", "stray"), "belongs to no option"),
        (("study", "CONFIG", "--recipe", "plain"), "did you mean --recipes"),
        (("study", "CONFIG", "--runs", "0"), "runs must be a whole number"),
        (("report", "nowhere"), "holds no study"),
        (("report", "nowhere", "--title", "x"), "takes no --title"),
        (("layers", "./nothing"), "nothing"),
        (("plot-lr", "CONFIG", "--steps", "0"), "steps must be 1 or more"),
        (("plot-lr", "CONFIG", "--output", "rates.csv"), "must end in .png, .pdf or .svg"),
        (("train", "CONFIG", "-x", "3"), "unknown option '-x'"),
        (("study", "CONFIG", "--runs", "x"), "--runs: invalid int value: 'x'"),
        (
            ("study", "CONFIG", "--workers", "0"),
            "workers must be a whole number of processes from 1 up, got 0",
        ),
        (("study", "CONFIG", "--first-seed", "-1"), "first_seed must be a whole number"),
        (("study", "CONFIG", "--metrics", "rmse"), "does not fit"),
        (("study", "CONFIG", "--output-dir", "tiny.yaml/x"), "is a file"),
        (("layers", "CONFIG", "--freeze_layers", "9"), "freeze_layers must be"),
        (("init", "bert", "--output", "tiny.yaml/x"), "is a file"),
        (("init",), "name a model family"),
        (("recipes", "mosbch"), "did you mean mosbach"),
        (("report", "STUDY", "--markdown", "tiny.yaml/x.md"), "is a file; name another"),
        (("report", "STUDY", "--model_card", "tiny.yaml/x.md"), "is a file; name another"),
        (("report", "STUDY", "--markdown", "STUDY"), "is a folder; name the file to write"),
        (("report", "STUDY", "--figures", "tiny.yaml"), "is a file; name another"),
        (("report", "STUDY", "--model-card", "latin.md"), "is not text in UTF-8"),
        # What no check foresees and the system refuses.
        (("report", "STUDY", "--output", f"{'x' * 300}.html"), "File name too long; name another"),
        (("report", "STUDY", "--format", "png"), "--format does nothing without --figures"),
        (("report", "STUDY", "--model-card-recipe", "plain"), "does nothing without --model-card"),
        (("seeds", "STUDY", "--output", "folder.json"), "is a folder; name the file to write"),
        (("plan-study", "STUDY", "--budget", "3", "--output", "STUDY"), "is a folder; name the"),
        (("plan-study", "STUDY", "--budget", "1e9"), "budget must be at most 10000 full runs"),
        (("plan-study", "STUDY", "--budget", "3", "--perfect", "nan"), "must be a finite score"),
        (("plan-study", "STUDY", "--budget", "3", "--on-test"), "with a test score"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: tuple[str, ...],
    message: str,
    config_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    finished_study(tmp_path / "finished")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "latin.md").write_bytes("Müller".encode("latin-1"))
    there = sorted(tmp_path.rglob("*"))
    names = {"CONFIG": str(config_file), "STUDY": "finished"}
    code, out, err = run(*(names.get(word, word) for word in words), capsys=capsys)
    assert code == 2
    assert message in err
    assert err.splitlines()[-1].startswith("hf-stabilizer: error: ")
    assert "Traceback" not in err
    assert "usage:" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no such file system here")
@pytest.mark.parametrize(
    "words",
    [
        ("study", "CONFIG", "--output-dir", "/proc/nope"),
        ("train", "CONFIG", "--output-dir", "/proc/nope"),
        ("cross-validate", "CONFIG", "--output-dir", "/proc/nope"),
        ("report", "STUDY", "--output", "/proc/nope/x.html"),
        ("report", "STUDY", "--figures", "/proc/nope"),
        ("plan-study", "STUDY", "--budget", "3", "--output", "/proc/nope/x.html"),
        ("init", "bert", "--output", "/proc/nope/x.yaml"),
    ],
    ids=" ".join,
)
def test_where_nothing_can_be_written_is_one_sentence(
    words: tuple[str, ...],
    config_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    finished_study(tmp_path / "finished")
    names = {"CONFIG": str(config_file), "STUDY": "finished"}
    code, out, err = run(*(names.get(word, word) for word in words), capsys=capsys)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("hf-stabilizer: error: ")
    assert "'/proc' takes no files" in last


def finished_study(folder: Path) -> None:
    """Writes the records of four runs with three evaluations each."""
    for seed in range(1, 5):
        scores = [0.5 + k / 10 + seed / 50 for k in range(3)]
        curve = tuple((4 * k, {"f1": score}) for k, score in enumerate(scores, 1))
        run = Run("plain", {"seed": seed}, "finished", "", curve, "f1", best_score=scores[-1])
        write_run(replace(run, steps=12), folder / "runs" / "plain" / run.name / "run.json")
    study = Study("finished", ("plain",), (), "f1", True, seeds=({"seed": 1},))
    write_definition(study, folder)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("study c.yaml --first_seed 5 --stop_at=.5", {"first_seed": 5, "stop_at": 0.5}),
        ("ablate c.yaml --remedies a b --retry_failed", {"retry_failed": True}),
        ("report r --no-greater_is_better", {"greater_is_better": False}),
        ("probe c.yaml --max_examples 9", {"max_examples": 9}),
    ],
)
def test_options_are_taken_with_dashes_and_with_underscores(
    words: str, found: dict[str, Any]
) -> None:
    args, rest = build_parser().parse_known_args(words.split())
    assert not rest
    assert {name: getattr(args, name) for name in found} == found
    dashed, _ = build_parser().parse_known_args(words.replace("_", "-").split())
    assert vars(dashed) == vars(args)


def test_no_option_is_listed_in_two_spellings() -> None:
    parser = build_parser()
    for command in ("study", "ablate", "plan-study", "seeds", "report", "train", "probe"):
        assert not [name for name in own_options(parser, command) if "_" in name]


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run("trian", capsys=capsys)
    assert (code, "trian" in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("tokens", "values"),
    [
        (["--a=1"], {"a": 1}),
        (["--text-columns", "a", "b"], {"text_columns": ["a", "b"]}),
        (["--x", "-1"], {"x": -1}),
        (["--x", "no"], {"x": "no"}),
        (["--flag"], {"flag": True}),
        (["--kwargs", '{"a": 1}'], {"kwargs": {"a": 1}}),
    ],
)
def test_flags_are_read_as_yaml(tokens: list[str], values: dict[str, Any]) -> None:
    assert read_overrides(tokens) == values


def test_a_value_without_a_key() -> None:
    with pytest.raises(ConfigurationError, match="belongs to no option"):
        read_overrides(["1"])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "study", "ablate", "layers", "plot-lr", "probe"])
def test_no_configuration_key_is_taken_for_a_slip(command: str) -> None:
    from hf_stabilizer.configuration import known_keys

    own = own_options(build_parser(), command)
    for key in set(known_keys()) - {name[2:].replace("-", "_") for name in own}:
        for word in (f"--{key}=1", f"--{key.replace('_', '-')}=1"):
            assert read_overrides([word], own) == {key: 1}
    with pytest.raises(ConfigurationError, match="did you mean"):
        read_overrides(["--recipess=1"], ["--recipe", "--recipes"])


def test_train_in_two_processes_writes_one_record(config_file: Path, tmp_path: Path) -> None:
    """As `accelerate launch` and `torchrun` start it; gloo on a CPU."""
    folder = tmp_path / "two"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [
            sys.executable, *launch, "-m", "hf_stabilizer", "train", str(config_file),
            "--recipe", "stabilised", "--output_dir", str(folder), "--max_steps", "-1",
        ],
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "run.json").read_text())
    assert record["steps"] == 2 * 64 // (8 * 2)  # epochs x rows / (rows per step of both)
    assert record["status"] == "finished"
    assert done.stdout.count("record: ") == 1
    assert (folder / "model" / "model.safetensors").exists()
