"""A study over a command line: any Trainer script, run once for each seed, read from its files."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_stabilizer import run_study
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import read_run
from hf_stabilizer.studies.commands import leash
from hf_stabilizer.studies.commands.command_run import run_command
from hf_stabilizer.studies.commands.command_study import run_command_study
from hf_stabilizer.studies.commands.command_template import CommandTemplate
from hf_stabilizer.studies.study import Study
from tests import classify_text
from tests.conftest import write_rows
from tests.waiting import is_alive, until

# A program that leaves what a Trainer leaves, in no time; what else it does is filled in.
PROGRAM = """
import json, os, pathlib, sys, time
seed, output = int(sys.argv[1]), pathlib.Path(sys.argv[2])
rest = sys.argv[3:]
{body}
output.mkdir(parents=True)
log = [{{"step": 4, "eval_f1": seed / 10, "eval_loss": 1 - seed / 10}}]
state = {{"global_step": 4, "max_steps": 4, "log_history": log}}
(output / "trainer_state.json").write_text(json.dumps(state))
print("done", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Writes a program and returns the template that runs it."""

    def write(body: str = "", more: str = "") -> str:
        path = tmp_path / "a program.py"
        path.write_text(PROGRAM.format(body=textwrap.dedent(body)))
        return f"'{sys.executable}' '{path}' {{seed}} {{output_dir}} {more}"

    return write


def study(template: str, folder: Path, **more: Any) -> Study:
    return run_command_study(template, output_dir=folder, **{"runs": 2, "metric": "f1", **more})


def scores(found: Study) -> list[float | None]:
    return [run.score for run in found.runs]


# --- the stock Trainer in a script


def test_options_of_a_script_stand_in_its_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="overrides holds 'learning_rate', but a command"):
        run_study(
            "python train.py --seed {seed} --output_dir {output_dir}",
            runs=2,
            output_dir=tmp_path,
            overrides={"learning_rate": 1e-4},
        )


def test_a_script_with_the_stock_trainer(model_folder: Path, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.csv", 48, seed=1)
    others = write_rows(tmp_path / "others.csv", 16, seed=2)
    template = (
        f"{sys.executable} {classify_text.__file__} --model_name_or_path {model_folder} "
        f"--train_file {train} --validation_file {others} --test_file {others} --do_train "
        "--do_eval --do_predict --seed {seed} --data_seed {data_seed} --output_dir {output_dir} "
        "--metric_for_best_model accuracy --eval_strategy epoch --save_strategy no "
        "--num_train_epochs 2 --learning_rate 1e-3 --use_cpu true --report_to none"
    )
    folder = tmp_path / "study"
    found = run_study(template, runs=2, output_dir=folder)
    assert found.metric == "accuracy"
    assert [dict(run.seeds) for run in found.runs] == [{"data_seed": s, "seed": s} for s in (1, 2)]
    assert found == Study.from_folder(folder)
    assert found.configuration["learning_rate"] == 1e-3
    for seed, run in enumerate(found.runs, 1):
        place = folder / "runs" / "script" / f"data{seed}-dropout{seed}"
        results = json.loads((place / "output" / "all_results.json").read_text())
        assert (run.status, run.reason, run.steps) == ("finished", "", 12)
        assert run.test_score == results["predict_accuracy"]
        assert len(run.evaluations) == 2
        assert run.configuration["seed"] == run.configuration["data_seed"] == seed
        assert "***** eval metrics *****" in (place / "log.txt").read_text()


# --- what is done


def test_scores_seeds_and_recipes(program: Callable[[str], str], tmp_path: Path) -> None:
    template = program("assert rest == [f'--name=x {output.parents[1].name}', '{kept}'], rest",
                       "'--name=x {recipe}' '{{kept}}'")  # fmt: skip
    found = study(template, tmp_path / "my study", recipes=["b", "a"], runs=2, first_seed=3)
    assert found.recipes == ("b", "a")
    assert [(run.recipe, dict(run.seeds), run.score) for run in found.runs] == [
        ("b", {"seed": 3}, 0.3), ("b", {"seed": 4}, 0.4),
        ("a", {"seed": 3}, 0.3), ("a", {"seed": 4}, 0.4),
    ]  # fmt: skip
    assert all(run.seconds > 0 for run in found.runs)
    assert (tmp_path / "my study/runs/a/seed3/log.txt").read_text() == "done\n"


def test_one_thread_and_no_input(program: Callable[[str], str], tmp_path: Path) -> None:
    body = "assert os.environ['OMP_NUM_THREADS'] == '1' and sys.stdin.read() == ''"
    assert scores(study(program(body), tmp_path / "s")) == [0.1, 0.2]


def test_two_at_a_time(program: Callable[[str], str], tmp_path: Path) -> None:
    body = f"""
        marks = pathlib.Path({str(tmp_path)!r}, "marks")
        marks.mkdir(exist_ok=True)
        mine = marks / str(seed)
        mine.touch()
        time.sleep(0.3)
        (marks.parent / f"count{{seed}}").write_text(str(len(list(marks.iterdir()))))
        mine.unlink()
    """
    study(program(body), tmp_path / "s", runs=4)
    assert max(int(path.read_text()) for path in tmp_path.glob("count*")) <= 2


def test_nothing_that_ended_is_repeated(program: Callable[[str], str], tmp_path: Path) -> None:
    body = "assert seed != 2, 'never again'"
    template = program(body)
    first = study(template, tmp_path / "s")
    logs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/runs/*/*/log.txt")}
    again = study(template, tmp_path / "s", runs=3)
    assert again.runs[:2] == first.runs
    assert len(again.runs) == 3
    assert {path: path.stat().st_mtime_ns for path in logs} == logs
    program("")  # the program is mended
    assert scores(study(template, tmp_path / "s", runs=3)) == [0.1, None, 0.3]
    assert scores(study(template, tmp_path / "s", runs=3, retry_failed=True)) == [0.1, 0.2, 0.3]


def test_a_failed_run_keeps_its_last_lines(program: Callable[[str], str], tmp_path: Path) -> None:
    good, bad = study(program("if seed == 2: sys.exit('no rows\\nin sight')"), tmp_path / "s").runs
    assert (good.status, bad.status) == ("finished", "failed")
    assert bad.reason == "exit code 1: no rows / in sight"
    assert bad.configuration["exit_code"] == 1


def test_a_failure_after_training_keeps_the_score(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    template = program()
    path = tmp_path / "a program.py"
    path.write_text(path.read_text() + "sys.exit(3)")
    runs = study(template, tmp_path / "s").runs
    assert [(run.status, run.score) for run in runs] == [("failed", 0.1), ("failed", 0.2)]
    assert runs[0].reason == "exit code 3: done"


def test_a_script_that_ignores_its_folder_is_told(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    (run, _) = study(program("sys.exit(0)"), tmp_path / "s").runs
    assert run.reason.startswith("exit code 0, but no trainer_state.json")


def test_a_killed_run_is_failed_and_begins_anew(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    template = program("if seed == 1: os.kill(os.getpid(), 9)")
    killed = study(template, tmp_path / "s").runs[0]
    assert killed.reason.startswith("ended by SIGKILL (killed, or out of memory)")
    program()
    assert scores(study(template, tmp_path / "s")) == [0.1, 0.2]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_kills_its_runs_and_goes_on(
    program: Callable[[str], str], tmp_path: Path, how: signal.Signals
) -> None:
    template = program("""
        if seed == 2 and not pathlib.Path(sys.argv[0]).with_name("go").exists():
            note = pathlib.Path(sys.argv[0]).with_name("note")
            note.write_text(str(os.getpid()))
            note.rename(note.with_name("pid"))
            time.sleep(600)
    """)
    code = (  # Ctrl-C is ignored by what a shell starts in the background
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hf_stabilizer.studies.commands.command_study import run_command_study\n"
        f"run_command_study({template!r}, runs=2, output_dir={str(tmp_path / 's')!r}, "
        "metric='f1')"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True
    )
    first = tmp_path / "s" / "runs" / "script" / "seed1" / "run.json"
    until(lambda: (tmp_path / "pid").exists() and first.exists())
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    parent.send_signal(how)
    parent.wait(timeout=400)
    until(lambda: not is_alive(pid))
    log = first.with_name("log.txt")
    written = [path.stat().st_mtime_ns for path in (first, log)]
    (tmp_path / "go").touch()
    assert scores(study(template, tmp_path / "s")) == [0.1, 0.2]
    assert [path.stat().st_mtime_ns for path in (first, log)] == written


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("end", ["the study", "the program"])
def test_ranks_in_sessions_of_their_own_end_with_their_launcher(tmp_path: Path, end: str) -> None:
    """As torchrun starts them: a kill of the launcher's group does not reach them."""
    rank = tmp_path / "rank.py"
    rank.write_text(
        textwrap.dedent("""
        import os, pathlib, subprocess, sys, time
        depth, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
        if depth:
            words = [sys.executable, __file__, str(depth - 1), str(folder)]
            subprocess.Popen(words, start_new_session=True)
        (folder / f"note{depth}").write_text(str(os.getpid()))
        (folder / f"note{depth}").rename(folder / f"pid{depth}")
        time.sleep(1200)
    """)
    )
    words = [sys.executable, "-I", leash.__file__, sys.executable, str(rank), "2", str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as process:
        until(lambda: all((tmp_path / f"pid{depth}").exists() for depth in range(3)))
        family = [int((tmp_path / f"pid{depth}").read_text()) for depth in range(3)]
        assert all(map(is_alive, family))
        if end == "the program":
            os.kill(family[2], signal.SIGKILL)
            assert process.wait(timeout=400) == 128 + signal.SIGKILL
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=400) == 128 + signal.SIGKILL
        assert not any(map(is_alive, family))


def test_any_executor_will_do(program: Callable[[str], str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert scores(study(program(), tmp_path / "s", executor=pool)) == [0.1, 0.2]
        assert pool.submit(int, "1").result() == 1  # it is not ours to shut down


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    ended = run_command(["no-such-program"], str(tmp_path))
    assert (ended.code, "cannot be started" in ended.reason) == (127, True)


# --- which metric


def test_the_metric_is_asked_at_the_end_and_nothing_is_repeated(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    template, folder = program(), tmp_path / "s"
    said = io.StringIO()
    console = Console(file=said, width=300)
    with pytest.raises(ConfigurationError, match=r"which metric decides.*f1, loss"):
        study(template, folder, metric=None, console=console)
    assert said.getvalue().count("does not say which metric decides") == 1
    logs = [path.stat().st_mtime_ns for path in folder.glob("runs/*/*/log.txt")]
    assert len(logs) == 2
    assert scores(study(template, folder, metric="eval_f1")) == [0.1, 0.2]
    assert [path.stat().st_mtime_ns for path in folder.glob("runs/*/*/log.txt")] == logs
    assert scores(study(template, folder, metric=None, console=console)) == [0.1, 0.2]  # known now
    assert said.getvalue().count("does not say which metric decides") == 1
    assert "2 of 2 runs are there already" in said.getvalue()
    assert scores(study(template, folder, metric="loss")) == [0.9, 0.8]
    assert not read_run(folder / "runs/script/seed1/run.json").greater_is_better


# --- refusals


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("python x.py --seed {seeds} {output_dir}", "did you mean seed"),
        ("python x.py --seed {seed}", "no {output_dir}"),
        ("python x.py {output_dir}", "no {seed}"),
        ("python 'x.py {seed} {output_dir}", "cannot be split"),
        ("pythn x.py {seed} {output_dir}", "'pythn', which is no program"),
        ("A=1 python x.py {seed} {output_dir}", "no shell is used"),
        ("python x.py {seed} {output_dir} && ls", "'&&', which only a shell"),
    ],
)
def test_commands_that_cannot_be_right(template: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        run_command_study(template, runs=1, output_dir=tmp_path / "s")
    assert message in str(error.value)
    assert not (tmp_path / "s").exists()


def test_settings_of_recipes_are_not_dropped_in_silence(tmp_path: Path) -> None:
    template = f"{sys.executable} x.py {{recipe}} {{seed}} {{output_dir}}"
    recipes = {"plain": {}, "slow": {"learning_rate": 1e-5}}
    with pytest.raises(ConfigurationError, match="sets the options of its script itself; give a"):
        run_study(template, recipes=recipes, runs=1, output_dir=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_at": 0.25, "keep": 1}, "cannot stop runs early"),
        ({"runs": 0}, "runs must be"),
        ({"workers": 0}, "workers must be"),
        ({"first_seed": 2**32}, "first_seed must be"),
        ({"recipes": ["a", "b"]}, "no {recipe}"),
        ({"recipes": ["a/b"]}, "cannot be the name of a folder"),
        ({"recipes": []}, "different names"),
    ],
)
def test_options_that_cannot_be_right(
    options: dict[str, Any], message: str, program: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as error:
        study(program(), tmp_path / "s", **options)
    assert message in str(error.value)
    assert not (tmp_path / "s").exists()


def test_other_studies_are_refused(program: Callable[[str], str], tmp_path: Path) -> None:
    study(program(), tmp_path / "s", runs=1)
    with pytest.raises(StudyError, match="holds another study: its command was"):
        study(program(more="--other"), tmp_path / "s")
    with pytest.raises(StudyError, match="holds other files and no study"):
        study(program(), tmp_path)


def test_json_in_a_command_is_left_alone() -> None:
    words = """python x.py {seed} {output_dir} --kwargs '{"lr": {"a": 1}}'"""
    assert CommandTemplate.parse(words).fill({"seed": 1, "output_dir": "o"})[-1] == (
        '{"lr": {"a": 1}}'
    )


# --- the command line


def test_study_takes_a_command(
    program: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    template = program()
    words = ["study", "--command", template, "--runs", "2", "--metric-for-best-model", "f1"]
    main([*words, "--output-dir", str(folder)])
    out, err = capsys.readouterr()
    assert "script scored 0.150 f1" in out
    assert "[2/2]" in err
    assert "no early stopping" in err
    assert "hf-stabilizer study --command" in (folder / "report.html").read_text("utf-8")
    assert os.listdir(folder / "runs") == ["script"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study"], "required: config"),
        (["study", "a.yaml", "--command", "x {seed} {output_dir}"], "not both"),
        (["study", "--command", "x {seed} {output_dir}"], "--output-dir"),
        (["study", "--command", "python {seed} {output_dir}", "--output-dir", "s",
          "--learning-rate"], "takes no --learning_rate"),
    ],
)  # fmt: skip
def test_a_wrong_use_of_the_command_line_is_one_sentence(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
