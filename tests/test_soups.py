"""Means of weights: one ordinary model, never below its best member where it was chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_stabilizer import greedy_soup, run_study, uniform_soup
from hf_stabilizer.cli import main
from hf_stabilizer.data import load_splits
from hf_stabilizer.ensembling import Soup, soups
from hf_stabilizer.ensembling.origins import check_origins
from hf_stabilizer.ensembling.weight_means import check_alike, write_mean
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.prediction import predict_rows, read_member
from hf_stabilizer.procedure import read_procedure
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.study import Study, run_folder, write_definition

from .tiny import write_member


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model's folder."""
    return load_file(folder / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def members(config: dict[str, Any], tmp_path: Path) -> list[Path]:
    """Three models with the same head, that noise has moved, as three orders of the data would."""
    return [
        Path(write_member(tmp_path / f"run{path}", config, path=path, noise=0.15, seed=path))
        for path in range(3)
    ]


# The mean ----------------------------------------------------------------------------------------


def test_the_mean_by_hand(tmp_path: Path) -> None:
    for place, (number, count) in enumerate(((1.0, 7), (2.0, 8), (6.0, 9))):
        (tmp_path / str(place)).mkdir()
        tensors = {"weight": torch.tensor([number, 0.1]), "positions": torch.tensor([count])}
        save_file(tensors, tmp_path / str(place) / "model.safetensors")
    write_mean([tmp_path / str(place) for place in range(3)], tmp_path / "mean")
    found = weights(tmp_path / "mean")
    assert torch.equal(found["weight"], torch.tensor([3.0, 0.1]))
    assert torch.equal(found["positions"], torch.tensor([7]))  # whole numbers are the first's


def test_half_precision_is_averaged_in_full(tmp_path: Path) -> None:
    for place, number in enumerate((1.0, 1.0078125, 1.0078125)):
        (tmp_path / str(place)).mkdir()
        tensor = torch.tensor([number], dtype=torch.bfloat16)
        save_file({"weight": tensor}, tmp_path / str(place) / "model.safetensors")
    write_mean([tmp_path / str(place) for place in range(3)], tmp_path / "mean")
    found = weights(tmp_path / "mean")["weight"]
    assert found.dtype == torch.bfloat16
    assert found.item() == 1.0078125  # the nearest to 1.0052; a sum in bfloat16 would lose it


def test_one_model_or_equal_ones_stay_bit_for_bit(members: list[Path], tmp_path: Path) -> None:
    models = [member / "model" for member in members]
    write_mean(models[:1], tmp_path / "one")
    assert_same(weights(tmp_path / "one"), weights(models[0]))
    copies = [Path(shutil.copytree(models[0], tmp_path / f"copy{n}")) for n in range(3)]
    write_mean(copies, tmp_path / "three")
    assert_same(weights(tmp_path / "three"), weights(models[0]))


def test_shards_are_read(members: list[Path], tmp_path: Path) -> None:
    import transformers

    whole = members[0] / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(whole)
    model.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    write_mean([tmp_path / "shards"], tmp_path / "one")
    assert_same(weights(tmp_path / "one"), weights(whole))
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")


# Soups -------------------------------------------------------------------------------------------


def test_a_uniform_soup_is_the_mean_and_an_ordinary_model(
    members: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    folder = tmp_path / "soup"
    soup = uniform_soup(members, output_dir=folder)
    every = [weights(member / "model") for member in members]
    for name, tensor in weights(folder).items():
        mean = sum(one[name].double() for one in every) / 3
        assert torch.equal(tensor, mean.float())
    transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(folder)
    member = read_member(folder)
    assert member.configuration is not None
    splits = load_splits(member.configuration.data, task=member.task)
    for rows, score in ((splits.validation, soup.score), (splits.test, soup.test_score)):
        assert rows is not None
        classes = predict_rows(folder, rows).argmax(1)
        names = [("fresh", "rotten")[place] for place in classes]
        right = sum(a == b for a, b in zip(names, rows["label"][:], strict=True))
        assert right / len(rows) == score
    assert all(one.is_in for one in soup.members)
    assert "uniform soup of 3 of 3 models has accuracy" in soup.verdict
    assert not (folder / ".candidate").exists()


def test_a_soup_of_one_is_its_member(members: list[Path], tmp_path: Path) -> None:
    soup = greedy_soup(members[:1], output_dir=tmp_path / "soup")
    assert_same(weights(tmp_path / "soup"), weights(members[0] / "model"))
    assert soup.difference == 0.0
    assert soup.score == soup.best.score
    assert soup.verdict.endswith("; it is that member.")


@pytest.mark.parametrize("seed", range(4))
def test_a_greedy_soup_is_never_below_its_best_member(
    config: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    count, noise = 2 + seed % 3, (0.1, 0.3, 0.6, 1.5)[seed]
    every = [
        write_member(tmp_path / f"run{n}", config, path=10 * seed + n, noise=noise)
        for n in range(count)
    ]
    soup = greedy_soup(every, output_dir=tmp_path / "soup")
    assert soup.score >= max(member.score for member in soup.members)
    assert [m.score for m in soup.members] == sorted((m.score for m in soup.members), reverse=True)
    assert soup.members[0].is_in


def test_the_greedy_choice_by_hand() -> None:
    # Members 0, 1, 2, best first; with 1 the mean falls, with 2 it stays as it was.
    scores = {(0,): 0.8, (0, 1): 0.7, (0, 2): 0.8}
    chosen = soups._greedily([0, 1, 2], lambda places: scores[tuple(places)], True)
    assert chosen == [0, 2]
    errors = {(1,): 0.2, (1, 0): 0.3, (1, 2): 0.1}
    assert soups._greedily([1, 0, 2], lambda places: errors[tuple(places)], False) == [1, 2]


def test_checkpoints_of_one_run_make_a_soup(members: list[Path], tmp_path: Path) -> None:
    run = members[0]
    steps = []
    for step, other in enumerate(members):
        steps.append(Path(shutil.copytree(other / "model", run / f"checkpoint-{step}")))
    soup = uniform_soup(steps, output_dir=tmp_path / "soup")
    assert len(soup.members) == 3


def test_a_soup_that_was_cut_off_repeats_no_score(
    members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = greedy_soup(members, output_dir=tmp_path / "whole")
    folder, said = tmp_path / "soup", []

    def dies(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        greedy_soup(members, output_dir=folder, tell=dies)
    assert len(json.loads((folder / "scores.json").read_text())) == 2
    again: list[str] = []
    soup = greedy_soup(members, output_dir=folder, tell=again.append)
    assert again[0] == said[2]
    assert not set(again) & set(said[:2])
    assert soup == whole
    assert_same(weights(folder), weights(tmp_path / "whole"))
    read = greedy_soup(members, output_dir=folder, tell=dies)  # it is over: nothing is scored
    assert read == soup
    record = read_procedure(folder)
    assert record is not None
    assert Soup.from_records(record.outcome, folder) == soup
    with pytest.raises(StudyError, match="holds another soup: soup is 'greedy' there"):
        uniform_soup(members, output_dir=folder)


def test_a_study_of_lost_runs_is_said_to_be_left_out(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, seeds = tmp_path / "study", {"head_seed": 1, "data_seed": 1, "seed": 0}
    write_definition(Study("study", ("plain",), (), "accuracy", True, (seeds,)), folder)
    lost = Run("plain", seeds, "failed", "collapsed", metric="accuracy", greater_is_better=True)
    write_run(lost, run_folder(folder, "plain", "head1-data1-dropout0") / "run.json")
    said = "1 of 1 runs of 'study' were stopped or failed and are left out"
    found = greedy_soup(runs=[members[0], folder], output_dir=tmp_path / "soup")
    assert found.notes == (said,)
    assert uniform_soup(runs=[members[0], folder], output_dir=tmp_path / "all").notes == (said,)
    words = ["ensemble", str(members[0]), str(folder), "--soup", "greedy"]
    for more in (["--output-dir", str(tmp_path / "soup")], ["--dry-run"]):  # read, and planned
        main([*words, *more])
        assert f"note: {said}" in capsys.readouterr().out


def test_a_study_that_keeps_its_models_makes_a_soup(config: dict[str, Any], tmp_path: Path) -> None:
    del config["output_dir"]
    seeds = {"head_seeds": [3], "data_seeds": [1, 2], "dropout_seeds": [1]}
    study = run_study(
        {**config, "learning_rate": 3e-3},
        executor="in-process",
        keep_models=True,
        output_dir=tmp_path / "study",
        **seeds,
    )
    assert [run.checkpoint for run in study.runs] == ["model", "model"]
    soup = greedy_soup(study, output_dir=tmp_path / "soup")
    assert sorted(member.score for member in soup.members) == pytest.approx(
        sorted(run.best_score or 0.0 for run in study.runs)
    )
    # What the runs were scored on is as their own predictions have it, until the file changes.
    rows = Path(config["train_file"]).read_text(encoding="utf-8")
    turned = rows.replace("fresh", "_").replace("rotten", "fresh").replace("_", "rotten")
    Path(config["train_file"]).write_text(turned, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="was scored on other validation rows than those"):
        greedy_soup(study, output_dir=tmp_path / "changed")
    Path(config["train_file"]).write_text(rows, encoding="utf-8")
    shutil.rmtree(next((tmp_path / "study").glob("runs/plain/*/model")))
    with pytest.raises(ConfigurationError, match=r"1 of 2 members kept no weights.* --keep-models"):
        greedy_soup(study, output_dir=tmp_path / "other")


# Refusals ----------------------------------------------------------------------------------------


def test_heads_that_were_drawn_by_other_seeds_are_refused(
    config: dict[str, Any], tmp_path: Path
) -> None:
    first, other = (write_member(tmp_path / f"run{n}", config, head=n) for n in (1, 2))
    with pytest.raises(ConfigurationError, match="were drawn with head_seed 1 and 2; a soup is"):
        greedy_soup([first, other], output_dir=tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_fitted_heads_have_no_seed(config: dict[str, Any], tmp_path: Path) -> None:
    def runs(**values: Any) -> list[Any]:
        folder = tmp_path / "-".join([*map(str, values.values())])
        return [
            read_member(write_member(folder / f"run{n}", {**config, **values}, head=n))
            for n in (1, 2)
        ]

    # This checkpoint brings body and pooler: only the head was new, and it was fitted.
    check_origins(runs(fit_head=True, fit_head_scale=0.3))
    with pytest.raises(ConfigurationError, match="head_seed 1 and 2"):
        check_origins(runs(fit_head=True, reinit_layers=1))
    with pytest.raises(ConfigurationError, match="head_seed 1 and 2"):
        check_origins(runs(fit_head=True, reinit_pooler=True))
    with pytest.raises(ConfigurationError, match="head_seed 1 and 2"):
        check_origins(runs(fit_head=True, transfer_layers=1))
    fitted = runs(fit_head=True, fit_head_scale=0.5)[0]
    with pytest.raises(ConfigurationError, match=r"fit_head_scale is 0\.3 and 0\.5"):
        check_origins([runs(fit_head=True, fit_head_scale=0.3, seed=5)[1], fitted])


def test_a_model_that_does_not_say_how_it_began_is_refused(
    members: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(members[1] / "model", tmp_path / "alone")
    with pytest.raises(ConfigurationError, match="is no run and does not say how it began"):
        greedy_soup([members[0], tmp_path / "alone"], output_dir=tmp_path / "soup")


def test_models_that_are_built_differently_are_named(
    members: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    tensors = weights(members[1] / "model")
    wide = {**tensors, "classifier.bias": torch.zeros(3)}
    fewer = {name: tensor for name, tensor in tensors.items() if name != "classifier.bias"}
    for changed, message in (
        (wide, r"'classifier.bias' is of shape \[2\] in 'first' and \[3\] in 'second'"),
        (fewer, "only one of them has 'classifier.bias'"),
    ):
        save_file(changed, members[1] / "model" / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigurationError, match=message):
            check_alike([member / "model" for member in members[:2]], ["first", "second"])
    (members[1] / "model" / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=r"holds no model\.safetensors"):
        check_alike([members[1] / "model"], ["second"])


def test_other_rows_are_refused(
    members: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    other = write_member(tmp_path / "other", {**config, "split_seed": 4})
    with pytest.raises(ConfigurationError, match="they differ in split_seed"):
        greedy_soup([members[0], other], output_dir=tmp_path / "soup")


def test_the_command(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ensemble", *map(str, members), "--soup", "greedy"]
    main([*words, "--dry-run"])
    shown = capsys.readouterr().out
    assert "a greedy soup of 3 models would be made" in shown
    assert "at most 5 passes over 24 validation rows for accuracy" in shown
    main([*words, "--output-dir", str(tmp_path / "soup")])
    shown = capsys.readouterr().out
    assert "greedy soup" in shown
    assert "in the soup" in shown
    assert (tmp_path / "soup" / "model.safetensors").is_file()
    with pytest.raises(SystemExit):
        main([*words, "--combine", "mean_logit", "--output-dir", str(tmp_path / "soup")])
    assert "--combine is not for --soup" in capsys.readouterr().err


def test_a_member_without_a_score_is_never_the_first() -> None:
    scores = [0.5, float("nan"), 0.9, 0.5]
    assert soups._best_first(scores, True) == [2, 0, 3, 1]
    assert soups._best_first(scores, False) == [0, 3, 2, 1]
    with pytest.raises(ConfigurationError, match="no member has a score"):
        soups._best_first([float("nan")] * 2, True)


def test_a_body_that_was_drawn_is_no_start_of_one_that_was_trained(
    config: dict[str, Any], tmp_path: Path
) -> None:
    whole = read_member(write_member(tmp_path / "all", config))
    bare = read_member(write_member(tmp_path / "none", {**config, "transfer_layers": 0}))
    with pytest.raises(ConfigurationError, match="transfer_layers is None and 0"):
        check_origins([whole, bare])


# Rows that have changed --------------------------------------------------------------------------


def of_many_lengths(config: dict[str, Any]) -> None:
    """Makes the rows differ in length, so that a run is scored on them in another order."""
    import pandas as pd

    rows = pd.read_csv(config["train_file"])
    rows["text"] = [f"{text} {'the ' * (row % 4)}".strip() for row, text in enumerate(rows["text"])]
    rows.to_csv(config["train_file"], index=False)


def scored_on(member: Path, **changes: Any) -> Path:
    """Lets a member say what it was scored on: the rows as they are, in the order of its run."""
    import numpy as np

    from hf_stabilizer.ensembling.gathering import label_array
    from hf_stabilizer.prediction import tokenise
    from hf_stabilizer.predictions import Predictions, write_predictions

    read = read_member(member)
    assert read.configuration is not None
    rows = load_splits(read.configuration.data, task=read.task).validation
    order = tokenise(read, rows).validation_rows
    assert order is not None
    assert list(order) != sorted(order)
    labels = label_array(rows["label"][:], read)[list(order)]
    for place, label in changes.get("labels", {}).items():
        labels[place] = label
    outputs = np.zeros((len(labels), 2))
    write_predictions(Predictions().with_part("validation", outputs, labels), member)
    return member


def test_members_that_were_scored_on_other_validation_rows_are_named(
    members: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    of_many_lengths(config)
    first, second, third = (scored_on(member) for member in members)
    uniform_soup([first, second, third], output_dir=tmp_path / "soup")
    labels = load_labels(second)
    # The same labels, two of them in each other's place: other rows.
    one, other = 0, labels.index(1 - labels[0])
    scored_on(second, labels={one: labels[other], other: labels[one]})
    for soup in (greedy_soup, uniform_soup):
        with pytest.raises(
            ConfigurationError,
            match=r"run0' and .*run1' were scored on other validation rows, though",
        ):
            soup([first, second, third], output_dir=tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"run1' was scored on other validation rows than"):
        soups.plan_soup([second])
    step = Path(shutil.copytree(second / "model", second / "checkpoint-8"))
    with pytest.raises(ConfigurationError, match=r"run0' and .*checkpoint-8' were scored on other"):
        greedy_soup([first, step], output_dir=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (second / "predictions.npz").unlink()  # It tells nothing then.
    greedy_soup([first, second], output_dir=tmp_path / "other")


def load_labels(member: Path) -> list[int]:
    from hf_stabilizer.predictions import read_predictions

    kept = read_predictions(member)
    assert kept is not None
    assert kept.validation_labels is not None
    return [int(label) for label in kept.validation_labels]


def test_members_that_read_rows_otherwise_are_compared_as_a_whole(
    config: dict[str, Any], tmp_path: Path
) -> None:
    of_many_lengths(config)
    plain = write_member(tmp_path / "run0", config)
    short = write_member(tmp_path / "run1", {**config, "max_length": 8}, path=1)
    for member in (plain, short):
        scored_on(member)
    labels = load_labels(short)
    scored_on(short, labels=dict(enumerate(labels[::-1])))
    uniform_soup([plain, short], output_dir=tmp_path / "soup")
    scored_on(short, labels={0: 1 - labels[0]})
    with pytest.raises(ConfigurationError, match=r"run0' and .*run1' were scored on other"):
        uniform_soup([plain, short], output_dir=tmp_path / "other")


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_soup_does_not_go_on_with_other_rows(
    members: list[Path], config: dict[str, Any], tmp_path: Path, part: str
) -> None:
    import pandas as pd

    greedy_soup(members, output_dir=tmp_path / "soup")
    read = read_member(members[0])
    assert read.configuration is not None
    splits = load_splits(read.configuration.data, task=read.task)
    text = getattr(splits, part)["text"][0]
    rows = pd.read_csv(config["train_file"])
    rows.loc[rows["text"] == text, "text"] = f"{text} again"
    rows.to_csv(config["train_file"], index=False)
    with pytest.raises(StudyError, match="holds another soup: rows is '48-"):
        greedy_soup(members, output_dir=tmp_path / "soup")
