"""Is what is wrong with rows found, and nothing else? Cases worked out by hand, and refusals."""

import json
import re

import pandas as pd
import pytest

from hf_stabilizer.cli import main
from hf_stabilizer.data_quality import RowExample, check_rows
from hf_stabilizer.data_quality.check import NO_LABELS
from hf_stabilizer.data_quality.rows import read_source
from hf_stabilizer.errors import ConfigurationError, DataError

FAST = {"ignore": ["rare-classes", "mislabelled"]}
TELLING = {"fresh": "great warm lovely", "rotten": "poor dull grim"}


def found(report):
    return {(one.kind, one.split): one.rows for one in report.findings}


def learnable(count=60):
    """Rows whose words tell their label, each text its own."""
    rows = []
    for row in range(count):
        label = "fresh" if row % 2 else "rotten"
        rows.append((f"{TELLING[label]} number{row} item{row * 7} thing{row * 13}", label))
    return pd.DataFrame(rows, columns=["text", "label"])


def test_repeats_worked_out_by_hand():
    frame = pd.DataFrame(
        {
            "text": [
                "The quick brown fox jumps over the lazy dog today",  # 1
                "the QUICK brown fox jumps over the lazy dog today!",  # 2 repeats 1
                "The quick brown fox jumps over the lazy dog now",  # 3 is nearly 1 and 2
                "Something else",  # 4
                "something  else",  # 5 repeats 4, with another label
                "  ",  # 6
                "unlabelled",  # 7
            ],
            "label": ["a", "a", "a", "a", "b", "b", None],
        }
    )
    report = check_rows(frame, **FAST)

    assert found(report) == {
        ("empty-texts", "rows"): (6,),
        ("missing-labels", "rows"): (7,),
        ("duplicates", "rows"): (2, 5),
        ("near-duplicates", "rows"): (3,),
        ("conflicting-labels", "rows"): (4, 5),
    }
    assert report.rows == {"rows": 7}
    assert report.labels == {"rows": {"a": 4, "b": 2}}
    assert report.lengths["words"]["largest"] == 10
    assert not report.is_clean


def test_rows_that_say_the_same_thousands_of_times_are_no_millions_of_pairs():
    from hf_stabilizer.data_quality.repeats import _near

    texts = ["a rather good film", "a rather good films"] * 2000
    pairs = _near(texts, 0.8)
    assert {later for _, later, _ in pairs} == set(range(1, 4000))
    assert len(pairs) < 4000


def test_clean_rows_are_called_clean():
    report = check_rows(learnable())

    assert report.findings == ()
    assert "TF-IDF and logistic regression" in report.notes[-1]


def test_wrong_labels_are_found_by_the_baseline_and_the_right_ones_are_not():
    frame = learnable()
    frame.loc[[10, 31], "label"] = ["fresh", "rotten"]

    (finding,) = check_rows(frame).findings

    assert (finding.kind, sorted(finding.rows)) == ("mislabelled", [11, 32])
    assert "rotten at" in finding.examples[0].note or "fresh at" in finding.examples[0].note


def test_wrong_labels_are_found_by_predictions_of_folds(tmp_path):
    frame = learnable(20)
    sure = [0.95 if label == "fresh" else 0.05 for label in frame["label"]]
    sure[4] = 0.99  # row 5 is rotten
    predictions = pd.DataFrame(
        {"row": range(20), "fold": 0, "label": frame["label"], "prediction": "fresh"}
    ).assign(probability_fresh=sure, probability_rotten=[1 - p for p in sure])
    path = tmp_path / "out_of_fold.parquet"
    predictions.to_parquet(path)

    (finding,) = check_rows(frame, out_of_fold=path).findings
    assert (finding.kind, finding.rows) == ("mislabelled", (5,))

    # As folds over a training and a validation file are written.
    held = predictions.assign(source="validation", source_row=range(20), label="fresh")
    there = predictions.assign(source="train", source_row=range(20), row=range(100, 120))
    pd.concat([held, there]).to_parquet(path)
    assert check_rows(frame, out_of_fold=path).findings[0].rows == (5,)

    predictions.assign(label=frame["label"][::-1].tolist()).to_parquet(path)
    with pytest.raises(DataError, match=r"is of other rows: row 1 has the label 'rotten' here"):
        check_rows(frame, out_of_fold=path)
    predictions.drop(columns="row").to_parquet(path)
    with pytest.raises(DataError, match="must have the columns row, label and probability_NAME"):
        check_rows(frame, out_of_fold=path)


def test_leaks_between_files(tmp_path):
    train = learnable(30)
    validation = pd.DataFrame(
        {"text": [train["text"][3].upper(), train["text"][5] + "x", "a new one"], "label": "fresh"}
    )
    train.to_csv(tmp_path / "train.csv")
    validation.to_csv(tmp_path / "validation.csv")
    report = check_rows(
        tmp_path / "train.csv",
        validation_file=str(tmp_path / "validation.csv"),
        **FAST,
    )
    # A file alone is one split: the validation file counts in a configuration.
    assert found(report) == {}

    config = tmp_path / "config.yaml"
    config.write_text(
        f"train_file: {tmp_path / 'train.csv'}\nvalidation_file: {tmp_path / 'validation.csv'}\n"
        "learning_rate: 1e-4\n"
    )
    report = check_rows(config, **FAST)
    assert found(report) == {
        ("leaks", "train, validation"): (4,),
        ("near-leaks", "train, validation"): (6,),
    }
    assert report.findings[0].examples[0].rows == ("train 4", "validation 1")


def test_splits_are_those_that_a_run_makes(config, tmp_path):
    from hf_stabilizer.data import DataArguments, load_splits

    keys = {key: config[key] for key in ("train_file", "validation_size", "test_size")}
    splits = load_splits(DataArguments(**keys), task="text-classification")
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in keys.items()))
    parts = read_source(path).parts

    assert list(parts) == ["train", "validation", "test"]
    for name in parts:
        assert list(parts[name].texts) == list(getattr(splits, name)["text"])
    every = [number for rows in parts.values() for number in rows.numbers]
    assert sorted(every) == list(range(1, 113))


def test_one_row_is_no_rows():
    frame = pd.DataFrame({"text": ["Good film", "good film!", ""], "label": ["a", "b", "b"]})
    report = check_rows(frame, ignore=["rare-classes", "mislabelled"])
    empty, repeated, conflict = report.findings
    assert empty.message == "1 of 3 rows has no text in one of the columns"
    assert empty.examples[0] == RowExample(("row 3",), "(no text)", "")
    assert repeated.message.startswith("1 row repeats an earlier text")
    assert conflict.message == "1 text stands there with different labels, in 2 rows"
    assert repeated.examples[0].rows == conflict.examples[0].rows == ("row 1", "row 2")


def test_the_right_choices_are_counted_by_their_names():
    rows = {"prompt": ["Why?", "How?", "What?"], "A": "xyz", "B": "uvw", "answer": ["B", "A", "B"]}
    frame = pd.DataFrame({name: list(cells) for name, cells in rows.items()})
    report = check_rows(frame, task="multiple-choice")
    assert report.labels == {"rows": {"A": 1, "B": 2}}
    assert report.is_clean  # a place of the answer is no rare class


TEXTS = [f"a line of text with the number {place}" for place in range(4)]


def test_rows_without_labels_are_told_to_be_so():
    report = check_rows(pd.DataFrame({"text": TEXTS, "mark_given": [1.5, 2.5, 3.5, 4.5]}))
    assert NO_LABELS in report.notes
    assert NO_LABELS not in check_rows(pd.DataFrame({"text": TEXTS, "label": list("abab")})).notes


def test_a_label_column_that_is_not_there_is_no_file_without_labels():
    frame = pd.DataFrame({"text": TEXTS, "label": list("abab")})
    with pytest.raises(DataError, match=r"the table has no column 'lable' \(did you mean label"):
        check_rows(frame, label_column="lable")


def test_rows_of_another_task_are_told_from_rows_without_text():
    frame = pd.DataFrame({"id": [1, 2], "prompt": TEXTS[:2], "A": TEXTS[:2], "B": TEXTS[2:]})
    said = r"id, prompt, A, B; if these are no rows for text-classification, name the task"
    with pytest.raises(DataError, match=said):
        check_rows(frame)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("latin.csv", "text,label\ncafé,a\n".encode("latin-1"), r"not UTF-8, .* latin-1\}"),
        ("wide.csv", "text,label\ncafé,a\n".encode("utf-16"), r"not UTF-8, .* utf-16\}"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "is empty"),
        ("header.csv", b"text,label\n", "holds no rows"),
        ("empty.jsonl", b"", "holds no rows"),
        ("broken.jsonl", b'{"text": "a"}\n{"te', "cannot be read"),
        ("rows.parquet", b"text", "cannot be read"),
        ("semicolons.csv", b"text;label\na;b\n", r'set reader_options: \{sep: ";"\}'),
        ("objects.jsonl", b'{"text": {"a": 1}, "label": 1}\n' * 2, "holds lists or mappings"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_way_out(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        check_rows(tmp_path / name)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_other_encodings_are_read_when_named(encoding, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\ncafé noir,a\n".encode(encoding))
    parts = read_source(path, reader_options={"encoding": encoding}).parts
    assert parts["rows"].texts == ("café noir",)


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.parquet"]
)
def test_every_format_gives_the_same_report(name, tmp_path):
    frame = pd.DataFrame({"text": ["Déjà vu", "déjà vu!", "a,b"], "label": ["a", "b", "b"]})
    path = tmp_path / name
    write = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".json": lambda: frame.to_json(path, orient="records"),
        ".parquet": lambda: frame.to_parquet(path),
    }
    write[path.suffix]()
    report = check_rows(path, **FAST)
    assert [(one.kind, one.rows) for one in report.findings] == [
        ("duplicates", (2,)),
        ("conflicting-labels", (1, 2)),
    ]


def test_rare_classes_and_balance():
    train = [("fresh", 80), ("rotten", 80), ("plot", 3)]
    frame = pd.DataFrame(
        [(f"{name} text number {row} {row * 31}", name) for name, count in train
         for row in range(count)],
        columns=["text", "label"],
    )  # fmt: skip
    (finding,) = check_rows(frame, ignore=["mislabelled", "near-duplicates"]).findings
    assert (finding.kind, finding.count) == ("rare-classes", 1)
    assert "'plot' (3)" in finding.message


def test_another_balance_in_another_split_is_told(tmp_path):
    def write(name, fresh, rotten):
        rows = [(f"{name} {row} {row * 37}", "fresh" if row < fresh else "rotten")
                for row in range(fresh + rotten)]  # fmt: skip
        path = tmp_path / f"{name}.csv"
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(path)
        return path

    config = tmp_path / "config.yaml"
    train, ignore = write("train", 50, 50), ["mislabelled", "near-duplicates", "near-leaks"]
    config.write_text(f"train_file: {train}\nvalidation_file: {write('same', 26, 24)}\n")
    assert check_rows(config, ignore=ignore).findings == ()

    config.write_text(f"train_file: {train}\nvalidation_file: {write('other', 90, 10)}\n")
    (finding,) = check_rows(config, ignore=ignore).findings
    assert (finding.kind, finding.split) == ("label-balance", "train, validation")
    assert "'fresh' 50.0% against 90.0%" in finding.message


def test_over_long_texts_by_words_and_by_tokens(model_folder):
    frame = learnable(20)
    frame.loc[2, "text"] = "word " * 600
    (finding,) = check_rows(frame, **FAST).findings
    assert (finding.kind, finding.rows) == ("over-long-texts", (3,))

    report = check_rows(learnable(20), model_name_or_path=str(model_folder), max_length=5, **FAST)
    assert report.findings[0].kind == "over-long-texts"
    assert report.findings[0].count == 20
    assert "tokens" in report.lengths


def test_several_labels_numbers_and_choices_are_read():
    texts = ["one text here", "one text here", "and another"]
    lists = pd.DataFrame({"text": texts, "labels": [["x", "y"], ["y", "x"], ["x"]]})
    assert ("conflicting-labels", "rows") not in found(check_rows(lists, **FAST))

    numbers = pd.DataFrame({"text": texts, "score": [0.5, 0.75, 1.0]})
    report = check_rows(numbers, task="text-regression", **FAST)
    assert found(report)["conflicting-labels", "rows"] == (1, 2)
    assert report.labels == {}

    choices = pd.DataFrame(
        {"prompt": texts, "A": ["x", "y", "z"], "B": ["u", "v", "w"], "answer": ["A", "B", "A"]}
    )
    assert found(check_rows(choices, task="multiple-choice", **FAST)) == {}


def test_texts_without_labels_are_checked():
    frame = pd.DataFrame({"text": ["the same thing here", "The same thing here", "b"]})

    assert found(check_rows(frame)) == {("duplicates", "rows"): (2,)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 1.5}, "threshold must be in"),
        ({"rare": 0}, "rare must be"),
        ({"ignore": ["leak"]}, "ignore must be one of .* .did you mean leaks"),
        ({"lable_column": "x"}, "unknown key 'lable_column' .did you mean label_column"),
        ({"text_columns": 3}, "text_columns cannot be 3"),
        ({"task": "causal-lm"}, "task must be one of"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        check_rows(learnable(4), **options)


def test_the_command(tmp_path, capsys):
    rows_file = tmp_path / "rows.csv"
    pd.concat([learnable(20), learnable(1)]).to_csv(rows_file, index=False)
    output = tmp_path / "reports" / "report.json"
    main(["data", "check", str(rows_file), "--ignore", "mislabelled", "--output", str(output)])
    shown = capsys.readouterr().out
    assert "duplicates" in shown
    assert "remedy: `hf-stabilizer data clean FILE --drop-duplicates`" in shown

    main(["data", "check", str(rows_file), "--json", "--text_columns", "text"])
    assert {one["kind"] for one in json.loads(capsys.readouterr().out)["findings"]} >= {
        one["kind"] for one in json.loads(output.read_text())["findings"]
    }


def test_a_report_does_not_overwrite_the_rows(tmp_path, capsys):
    path = tmp_path / "rows.json"
    learnable(4).to_json(path, orient="records")
    before = path.read_bytes()
    with pytest.raises(SystemExit):
        main(["data", "check", str(path), "--output", str(path)])
    assert "is the file that is read" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_strict_check_fails_if_something_is_found(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    learnable(30).to_csv(path)
    main(["data", "check", str(path), "--strict"])
    assert "Nothing was found." in capsys.readouterr().out

    pd.concat([learnable(30), learnable(1)]).to_csv(path, index=False)
    with pytest.raises(SystemExit) as exit_:
        main(["data", "check", str(path), "--strict", "--ignore", "mislabelled"])
    assert exit_.value.code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek", "x"], "PART must be one of check, clean, augment.*did you mean check"),
        (["check", "x.csv", "--stritc"], "unknown option '--stritc' .did you mean --strict"),
        (["check", "missing.csv"], "'missing.csv' does not exist"),
        (["clean", "x.csv", "--lower-case"], "did you mean --lowercase"),
    ],
)
def test_slips_are_told(words, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["data", *words])
    assert exit_.value.code == 2
    assert re.search(said, capsys.readouterr().err)
