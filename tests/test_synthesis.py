"""Do written rows pass every check, keep their provenance, and survive an endpoint that dies?"""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from hf_stabilizer import ConfigurationError, DataError, EndpointGenerator, StudyError, synthesize
from hf_stabilizer.cli import main
from hf_stabilizer.cli.data_synthesize import _background
from hf_stabilizer.data import DataArguments, load_splits
from hf_stabilizer.synthesis.asking import TRIES
from hf_stabilizer.synthesis.candidates import Candidate, read_candidates, write_candidates
from hf_stabilizer.synthesis.checks import check_form, check_second_pass, find_repeats
from hf_stabilizer.synthesis.generators import EndpointError, RefusalError
from hf_stabilizer.synthesis.local import LocalGenerator, _context, _encoded
from hf_stabilizer.synthesis.prompts import ANSWER, Questioner
from hf_stabilizer.synthesis.quality import measure
from hf_stabilizer.synthesis.synthesizing import plan_synthesis
from hf_stabilizer.synthesis.view import print_synthesis
from tests.tiny import save_tiny, tiny_tokenizer

WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fable", "grove"),
    *("haven", "ivory", "jolly", "karma", "lemon"),
)
Answer = Callable[[Mapping[str, Any]], str]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    texts = [f"{first} {second} film" for first in WORDS for second in WORDS[:2]]
    rows = {"text": texts, "label": ["good", "bad", "bad"] * 8}
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    return {
        "model_name_or_path": "unused",
        "train_file": str(tmp_path / "rows.csv"),
        "validation_size": 6,
    }


class Scripted:
    """A generator whose answers are written here."""

    name, licence = "scripted", "CC0-1.0"

    def __init__(self, right: str | None = None, dies_at: int | None = None) -> None:
        self.asked: list[str] = []
        self._right, self._dies_at, self._new = right, dies_at, 0

    def complete(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
    ) -> str:
        question = messages[-1]["content"]
        if self._dies_at is not None and len(self.asked) >= self._dies_at:
            raise EndpointError("the line is dead")
        self.asked.append(question)
        if "right" in schema["properties"]:
            told = json.loads(question.splitlines()[1])["text"]
            return json.dumps({"right": [self._right or told.split()[0]]})
        (label,) = schema["properties"][ANSWER]["enum"]
        self._new += 1
        text = f"{label} {WORDS[seed % 12] * 2} {WORDS[(seed // 12) % 12]} new{seed}"
        return json.dumps({"text": text, ANSWER: label})


def test_kept_rows_join_the_real_ones_with_their_provenance(
    config: dict[str, Any], tmp_path: Path
) -> None:
    generator = Scripted()
    done = synthesize(config, generator, rows=5, output_dir=tmp_path / "out")
    assert (done.kept, done.asked) == (5, 5)  # no question more than is needed
    rows = pd.read_parquet(tmp_path / "out" / "data" / "synthetic.parquet")
    real = pd.read_parquet(tmp_path / "out" / "data" / "train.parquet")
    pd.testing.assert_frame_equal(rows[: len(real)][["text", "label"]], real)
    written = rows[len(real) :]
    assert written.synthetic.all()
    assert not rows.synthetic[: len(real)].any()
    assert set(written.generator) == {"scripted"}
    assert set(written.licence) == {"CC0-1.0"}
    assert written.candidate.tolist() == [0, 1, 2, 3, 4]
    for row in written.itertuples():
        assert row.text.split()[0] == row.label
        assert all(real.label[place] == row.label for place in json.loads(row.shown_rows))


def test_only_training_rows_are_shown(config: dict[str, Any], tmp_path: Path) -> None:
    generator = Scripted()
    synthesize(config, generator, rows=16, output_dir=tmp_path / "out")
    shown = "\n".join(generator.asked)
    held_out = pd.read_parquet(tmp_path / "out" / "data" / "validation.parquet").text
    assert not any(text in shown for text in held_out)
    train = pd.read_parquet(tmp_path / "out" / "data" / "train.parquet").text
    assert any(text in shown for text in train)


def test_labels_are_asked_for_as_often_as_training_rows_have_them(config: dict[str, Any]) -> None:
    splits = load_splits(
        DataArguments(train_file=config["train_file"], validation_size=6),
        task="text-classification",
    )
    questioner = Questioner(splits, task="text-classification", seed=3)
    labels = [questioner.ask(number).label for number in range(len(splits.train))]
    assert sorted(map(str, labels)) == sorted(splits.train["label"])
    assert questioner.ask(5) == questioner.ask(5)
    assert questioner.ask(5) != Questioner(splits, task="text-classification", seed=4).ask(5)


def test_a_row_that_the_second_pass_reads_otherwise_is_thrown_away(
    config: dict[str, Any], tmp_path: Path
) -> None:
    done = synthesize(config, Scripted(right="bad"), rows=4, output_dir=tmp_path / "out")
    found = read_candidates(tmp_path / "out" / "candidates.jsonl")
    assert {one.label for one in found if not one.reason} == {"bad"}
    assert {one.reason for one in found if one.label == "good"} == {"second pass: bad is right"}
    assert done.reasons["second pass"] == sum(one.label == "good" for one in found)


def test_without_second_pass_nothing_is_asked_twice(config: dict[str, Any], tmp_path: Path) -> None:
    generator = Scripted(right="bad")
    options = {"rows": 4, "output_dir": tmp_path / "out", "second_pass": False}
    done = synthesize(config, generator, **options)
    assert (done.kept, done.asked, len(generator.asked)) == (4, 4, 4)


def test_a_dead_endpoint_keeps_what_was_written_and_the_second_start_goes_on(
    config: dict[str, Any], tmp_path: Path
) -> None:
    straight = synthesize(config, Scripted(), rows=20, output_dir=tmp_path / "straight")
    dying = Scripted(dies_at=37)  # 32 questions are the first batch, two each
    with pytest.raises(EndpointError, match=r"the line is dead; 18 candidates, 18 of them good"):
        synthesize(config, dying, rows=20, output_dir=tmp_path / "cut")
    again = Scripted()
    done = synthesize(config, again, rows=20, output_dir=tmp_path / "cut")
    first = (tmp_path / "straight" / "data" / "synthetic.parquet").read_bytes()
    assert (tmp_path / "cut" / "data" / "synthetic.parquet").read_bytes() == first
    assert done.kept == straight.kept == 20
    finished = Scripted()
    synthesize(config, finished, rows=20, output_dir=tmp_path / "cut")
    assert finished.asked == []


def test_a_key_that_stops_it_keeps_what_was_answered(
    config: dict[str, Any], tmp_path: Path
) -> None:
    class Stopped(Scripted):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            if len(self.asked) == 6:
                raise KeyboardInterrupt
            return super().complete(messages, schema, seed=seed)

    with pytest.raises(KeyboardInterrupt):
        synthesize(config, Stopped(), rows=5, output_dir=tmp_path / "out")
    assert len(read_candidates(tmp_path / "out" / "candidates.jsonl")) == 3
    again = Scripted()
    assert synthesize(config, again, rows=5, output_dir=tmp_path / "out").kept == 5
    assert len(again.asked) == 4


def test_halves_of_characters_are_written_down_and_thrown_away(
    config: dict[str, Any], tmp_path: Path
) -> None:
    class Broken(Scripted):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            answer = super().complete(messages, schema, seed=seed)
            return "\ud83d" if seed == 0 else answer

    done = synthesize(config, Broken(), rows=2, output_dir=tmp_path / "out")
    assert (done.kept, done.asked, dict(done.reasons)) == (2, 3, {"form": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 5}, r"threshold must be in \(0, 1\], got 5"),
        ({"examples": 0}, "examples must be a whole number 1 or more, got 0"),
        ({"seed": -1}, r"seed must be a whole number in \[0, 2\^32\), got -1"),
    ],
)
def test_slips_are_told_before_anything_is_asked(
    options: dict[str, Any], said: str, config: dict[str, Any], tmp_path: Path
) -> None:
    generator = Scripted()
    with pytest.raises(ConfigurationError, match=said):
        synthesize(config, generator, rows=2, output_dir=tmp_path / "out", **options)
    assert (generator.asked, (tmp_path / "out").exists()) == ([], False)


def test_columns_that_json_cannot_hold_are_no_hindrance(
    config: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.read_csv(config["train_file"]).assign(day=pd.Timestamp("2026-01-01"))
    rows.to_parquet(tmp_path / "rows.parquet")
    dated = {**config, "train_file": str(tmp_path / "rows.parquet"), "text_columns": ["text"]}
    assert synthesize(dated, Scripted(), rows=1, output_dir=tmp_path / "out").kept == 1


def test_another_seed_is_refused_in_the_same_folder(config: dict[str, Any], tmp_path: Path) -> None:
    synthesize(config, Scripted(), rows=2, output_dir=tmp_path / "out")
    with pytest.raises(StudyError, match="seed is 0 there and 1 here"):
        synthesize(config, Scripted(), rows=2, output_dir=tmp_path / "out", seed=1)


def test_if_nothing_passes_the_reasons_are_told(config: dict[str, Any], tmp_path: Path) -> None:
    class Parrot(Scripted):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            return "I would rather not."

    with pytest.raises(DataError, match=rf"none of {TRIES} candidates passed .*form {TRIES}"):
        synthesize(config, Parrot(), rows=1, output_dir=tmp_path / "out")


def test_an_endpoint_that_is_down_from_the_start_can_be_asked_again(
    config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(EndpointError, match="line is dead; nothing was answered, and nothing is"):
        synthesize(config, Scripted(dies_at=0), rows=2, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert synthesize(config, Scripted(), rows=2, output_dir=tmp_path / "out").kept == 2


class Reluctant(Scripted):
    """Refuses some questions, each time."""

    def __init__(self, *numbers: int, second: bool = False) -> None:
        super().__init__()
        self.refuses, self.second, self.numbers = set(numbers), second, list[int]()

    def complete(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
    ) -> str:
        self.numbers.append(seed)
        if seed in self.refuses and self.second == ("right" in schema["properties"]):
            raise RefusalError(f"no word about {seed % 2}")
        return super().complete(messages, schema, seed=seed)


@pytest.mark.parametrize("second", [False, True])
def test_a_refused_question_is_noted_and_the_next_one_asked(
    second: bool, config: dict[str, Any], tmp_path: Path
) -> None:
    reluctant = Reluctant(0, 2, 3, second=second)
    done = synthesize(config, reluctant, rows=5, output_dir=tmp_path / "out")
    assert (done.kept, done.asked, dict(done.reasons)) == (5, 8, {"refused": 3})
    pass_ = "second pass: " if second else ""
    assert done.refusals == {f"{pass_}no word about 0": 2, f"{pass_}no word about 1": 1}
    found = read_candidates(tmp_path / "out" / "candidates.jsonl")
    assert [one.number for one in found if one.is_refused] == [0, 2, 3]
    assert found[0].reason == f"refused: {pass_}no word about 0"
    assert bool(found[0].answer) == second
    written = StringIO()
    print_synthesis(done, Console(file=written, width=80))
    shown = written.getvalue()
    assert "5 rows kept of 8 candidates (refused: 3)" in shown
    assert f"  2 refused: {pass_}no word about 0\n  1 refused: {pass_}no word about 1" in shown
    assert "--retry-refused asks these questions again" in shown


def test_a_second_start_asks_refused_questions_only_if_told_to(
    config: dict[str, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"output_dir": tmp_path / "out", "second_pass": False}
    synthesize(config, Reluctant(0, 2, 3), rows=3, **options)
    plain = Reluctant()
    synthesize(config, plain, rows=4, **options)
    assert plain.numbers == [6]
    told = Reluctant(3)
    done = synthesize(config, told, rows=7, retry_refused=True, **options)
    assert told.numbers == [0, 2, 3, 7]  # refused ones first, new ones where rows are wanting
    assert (done.kept, done.asked, dict(done.reasons)) == (7, 8, {"refused": 1})
    found = read_candidates(tmp_path / "out" / "candidates.jsonl")
    assert [one.number for one in found] == list(range(8))
    finished = Reluctant()
    synthesize(config, finished, rows=7, retry_refused=True, **options)
    assert finished.numbers == []


def test_if_everything_is_refused_the_last_reason_is_told_and_no_folder_is_taken(
    config: dict[str, Any], tmp_path: Path
) -> None:
    folder, silent = tmp_path / "out", Reluctant(*range(99))
    said = r"all 4 questions were refused, the last with: no word about 1; nothing is written"
    with pytest.raises(EndpointError, match=said):
        synthesize(config, silent, rows=1, output_dir=folder)
    said = r"all 16 questions were refused"  # not eighty: it will not answer the others either
    with pytest.raises(EndpointError, match=said):
        synthesize(config, Reluctant(*range(99)), rows=20, output_dir=folder)
    assert not folder.exists()


def test_answers_are_kept_when_all_later_questions_are_refused(
    config: dict[str, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"output_dir": tmp_path / "out", "second_pass": False}
    done = synthesize(config, Reluctant(*range(1, 99)), rows=2, **options)
    assert (done.kept, done.asked, dict(done.reasons)) == (1, 8, {"refused": 7})
    with pytest.raises(
        EndpointError, match=r"all 16 questions .* \(--retry-refused\) to ask these"
    ):
        synthesize(config, Reluctant(*range(1, 99)), rows=9, **options)
    assert len(read_candidates(tmp_path / "out" / "candidates.jsonl")) == 24


def test_if_no_answer_passes_the_last_refusal_is_told(
    config: dict[str, Any], tmp_path: Path
) -> None:
    class Parrot(Reluctant):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            super().complete(messages, schema, seed=seed)
            return "no"

    with pytest.raises(DataError, match=r"form 3, refused 1; the last refusal: no word about 1"):
        synthesize(config, Parrot(1), rows=1, output_dir=tmp_path / "out")


def test_a_slip_in_the_generator_takes_no_folder(
    config: dict[str, Any], tmp_path: Path, model_folder: Path
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(ConfigurationError, match="there is no such folder here; name a folder"):
        synthesize(config, LocalGenerator(str(tmp_path / "cuasal")), rows=1, output_dir=folder)
    with pytest.raises(ConfigurationError, match="cannot write texts: its checkpoint lacks"):
        synthesize(config, LocalGenerator(str(model_folder)), rows=1, output_dir=folder)
    nobody = EndpointGenerator("http://127.0.0.1:9/v1", "m", tries=1)
    with pytest.raises(EndpointError, match=r"no answer in 1 tries .* and nothing is written"):
        synthesize(config, nobody, rows=1, output_dir=folder)
    assert not folder.exists()
    assert synthesize(config, Scripted(), rows=1, output_dir=folder).kept == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 3}, "a study sets the seeds itself, and the configuration gives seed"),
        ({"model_name_or_path": "./nowhere"}, "no tokenizer can be loaded from model_name_or_path"),
        ({"metrics": ["accuracy", "bleu"]}, "metric 'bleu' does not fit"),
    ],
)
def test_what_the_study_would_refuse_is_told_before_anything_is_asked(
    config: dict[str, Any], model_folder: Path, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    generator, keys = Scripted(), {**config, "model_name_or_path": str(model_folder), **more}
    with pytest.raises(ConfigurationError, match=said):
        synthesize(keys, generator, rows=2, output_dir=tmp_path / "out", runs=2)
    with pytest.raises(ConfigurationError, match=said):
        plan_synthesis(keys, rows=2, runs=2)
    assert not generator.asked
    assert not (tmp_path / "out").exists()
    assert plan_synthesis(keys, rows=2).rows == 2  # Without a study rows alone are wanted.


def test_another_folder_is_refused_before_anything_is_asked(
    config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    generator = Scripted()
    with pytest.raises(StudyError, match=r"holds other files \(thesis.txt\)"):
        synthesize(config, generator, rows=1, output_dir=tmp_path / "out")
    assert generator.asked == []


def test_whatever_a_generator_raises_the_answers_before_it_are_kept(
    config: dict[str, Any], tmp_path: Path
) -> None:
    class Breaking(Scripted):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            if seed == 3:
                raise IndexError("my own bug")
            return super().complete(messages, schema, seed=seed)

    with pytest.raises(IndexError, match="my own bug"):
        synthesize(config, Breaking(), rows=4, output_dir=tmp_path / "out")
    assert len(read_candidates(tmp_path / "out" / "candidates.jsonl")) == 3


def test_separators_of_unicode_within_an_answer_part_no_lines(tmp_path: Path) -> None:
    answer = "one\u2028two\u0085three\u2029four"
    there = [Candidate(0, "good", (1,), None, answer, "", {"text": answer}, "")]
    write_candidates(tmp_path / "candidates.jsonl", there)
    assert read_candidates(tmp_path / "candidates.jsonl") == there


def test_classes_called_by_numbers_may_be_answered_by_numbers() -> None:
    found = check_form('{"text": "x", "answer": 1}', texts=["text"], choices=[], allowed=["1"])
    assert found == ({"text": "x", ANSWER: "1"}, "")
    assert check_second_pass('{"right": [1]}', "1") == ""
    assert check_second_pass('{"right": [true]}', "1") == "second pass: True is right"


@pytest.mark.parametrize("name", [ANSWER, "generator"])
def test_a_column_that_would_be_written_over_is_refused(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.read_csv(config["train_file"])
    rows[name] = [f"words {place}" for place in range(len(rows))]
    rows.to_csv(config["train_file"], index=False)
    config["text_columns"] = ["text", name]
    generator = Scripted()
    with pytest.raises(ConfigurationError, match=rf"{name}.* rename"):
        synthesize(config, generator, rows=1, output_dir=tmp_path / "out")
    assert generator.asked == []


def test_other_rows_are_another_synthesis(config: dict[str, Any], tmp_path: Path) -> None:
    """Candidates were held against the rows of then: one may repeat a row of now."""
    synthesize(config, Scripted(), rows=2, output_dir=tmp_path / "out")
    rows = pd.read_csv(config["train_file"])
    rows.assign(text=rows.text + " again").to_csv(config["train_file"], index=False)
    with pytest.raises(StudyError, match="rows_read is"):
        synthesize(config, Scripted(), rows=2, output_dir=tmp_path / "out")


def test_rows_that_a_study_learnt_from_are_not_replaced(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """The study would take its finished runs for runs on the new rows."""
    folder = tmp_path / "out"
    synthesize(config, Scripted(), rows=2, output_dir=folder)
    before = (folder / "data" / "synthetic.parquet").read_bytes()
    (folder / "study").mkdir()
    synthesize(config, Scripted(), rows=2, output_dir=folder)
    with pytest.raises(StudyError, match="is of 20 training rows, and there would be 23 now"):
        synthesize(config, Scripted(), rows=5, output_dir=folder)
    assert (folder / "data" / "synthetic.parquet").read_bytes() == before


def test_background_text_is_that_of_training_rows_alone(config: dict[str, Any]) -> None:
    rows = pd.read_csv(config["train_file"])
    rows["about"] = "background of " + rows.text
    rows.to_csv(config["train_file"], index=False)
    config["text_columns"] = ["text"]
    arguments = DataArguments(
        train_file=config["train_file"], validation_size=6, text_columns=["text"]
    )
    splits = load_splits(arguments, task="text-classification")
    told = Namespace(background=None, background_column="about")
    assert _background(told, config) == [f"background of {text}" for text in splits.train["text"]]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no", "form: no JSON object"),
        ('{"q": "Why?", "A": "x", "B": "y"}', "answer: None is none of A, B"),
        ('{"q": "", "A": "x", "B": "y", "answer": "A"}', "form: no text in q"),
        ('{"q": "Why?", "A": "x", "B": 3, "answer": "A"}', "form: no text in B"),
        ('{"q": "Why?", "A": "x", "B": "X.", "answer": "A"}', "answer: two choices are the same"),
        ('{"q": "Why?", "A": "x", "B": "y", "answer": "C"}', "answer: 'C' is none of A, B"),
        ('{"q": "Why \\ud83d?", "A": "x", "B": "y", "answer": "A"}', "form: half a character"),
        ('{"q":' * 5000, "form: no JSON object"),
        ('Sure: {"q": "Why?", "A": "x", "B": "y", "answer": "B"}', ""),
    ],
)
def test_the_form_is_checked_by_hand(answer: str, reason: str) -> None:
    row, found = check_form(answer, texts=["q"], choices=["A", "B"], allowed=["A", "B"])
    assert found == reason
    assert bool(row) == (reason == "")


def test_exactly_one_answer_is_right() -> None:
    assert check_second_pass('{"right": ["A", "B"]}', "A") == "second pass: A and B are right"
    assert check_second_pass('{"right": ["B"]}', "A") == "second pass: B is right"
    assert check_second_pass("gibberish", "A") == "second pass: no answer"


def test_repeats_of_held_out_rows_are_found() -> None:
    known = {"train": ["one text here"], "test": ["a very special secret text of the test rows"]}
    candidates = ["something new altogether", "a very special secret text of the test row"]
    assert find_repeats(candidates, known, threshold=0.8) == ["", "repeats: a test row"]


def test_measures_by_hand() -> None:
    found = measure(["a b c", "a b d"], ["x", "y"], ["a b", "a b"], ["x", "x"])
    assert found.real_distinct == 3 / 4  # ab, bc, ab, bd
    assert found.written_distinct == 1 / 2
    assert found.written_shares == {"x": 1.0, "y": 0.0}
    assert (found.real_words, found.written_words) == (3.0, 2.0)


def test_multiple_choice_rows_are_written_about_background_text(tmp_path: Path) -> None:
    rows = {
        "prompt": [f"Which is {word}?" for word in WORDS],
        "A": WORDS,
        "B": WORDS[::-1],
        "answer": ["A", "B"] * 6,
    }
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    config = {
        "task": "multiple-choice",
        "model_name_or_path": "unused",
        "train_file": str(tmp_path / "rows.csv"),
        "validation_size": 4,
    }

    class Teacher(Scripted):
        def complete(
            self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], *, seed: int
        ) -> str:
            self.asked.append(messages[-1]["content"])
            if "right" in schema["properties"]:
                return '{"right": ["B"]}'
            told = {"prompt": f"What about {seed * 7919}?", "A": "this", "B": "that", ANSWER: "B"}
            return json.dumps(told)

    teacher = Teacher()
    options = {"background": ["The moon is far."], "rows": 3, "output_dir": tmp_path / "out"}
    done = synthesize(config, teacher, **options)
    assert done.kept == 3
    assert "Write about this text:\nThe moon is far." in teacher.asked[0]
    keys = {"validation_size": None, "train_file": str(tmp_path / "out/data/synthetic.parquet")}
    keys |= {"validation_file": str(tmp_path / "out/data/validation.parquet")}
    keys |= {"text_columns": ["prompt"], "choice_columns": ["A", "B"], "label_column": "answer"}
    again = load_splits(DataArguments(**keys), task="multiple-choice")
    assert again.train["answer"][-3:] == [1, 1, 1]


def test_other_tasks_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rows for task 'text-regression' cannot be"):
        plan_synthesis({**config, "task": "text-regression"}, rows=3)


class _Standin(BaseHTTPRequestHandler):
    """Answers as OpenAI's chat completions do; out of order while `failing` is above 0."""

    generator: Scripted
    failing = 0
    cut_off = False
    status, error = 500, ""
    said: dict[str, Any] | None = None  # in place of the generator's answer
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:  # the name that http.server calls
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append({**told, "path": self.path})
        if type(self).failing > 0:
            type(self).failing -= 1
            self._send(self.status, json.dumps({"error": {"message": self.error}}).encode())
            return
        schema = told["response_format"]["json_schema"]["schema"]
        text = self.generator.complete(told["messages"], schema, seed=told["seed"])
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **(self.said or {})}
        body = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": told["model"],
                "system_fingerprint": "",
                "choices": [choice],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        body = body[:30] if type(self).cut_off else body
        self._send(200, body)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def standin() -> Iterator[tuple[str, type[_Standin]]]:
    handler = type("Handler", (_Standin,), {"generator": Scripted(), "failing": 0, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_any_openai_compatible_endpoint_is_asked_with_the_schema(
    config: dict[str, Any], tmp_path: Path, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    generator = EndpointGenerator(url, "some-model", licence="terms", api_key="secret")
    done = synthesize(config, generator, rows=3, output_dir=tmp_path / "out", parallel=3)
    assert done.kept == 3
    assert {request["path"] for request in handler.seen} == {"/v1/chat/completions"}
    assert {request["model"] for request in handler.seen} == {"some-model"}
    assert handler.seen[0]["response_format"]["json_schema"]["schema"]["required"] == [
        "text",
        ANSWER,
    ]
    assert "secret" not in (tmp_path / "out" / "procedure.json").read_text()


def test_the_endpoint_is_asked_again_and_named_when_it_stays_silent(
    standin: tuple[str, type[_Standin]],
) -> None:
    url, handler = standin
    schema = {"properties": {"text": {}, ANSWER: {"enum": ["good"]}}}
    question = [{"role": "user", "content": "?"}]
    handler.failing = 1
    answer = EndpointGenerator(url, "m", tries=2).complete(question, schema, seed=0)
    assert json.loads(answer)[ANSWER] == "good"
    handler.cut_off = True
    with pytest.raises(EndpointError, match="gave no answer"):
        EndpointGenerator(url, "m", tries=1).complete(question, schema, seed=0)
    handler.failing = 9
    with pytest.raises(EndpointError, match=f"the endpoint '{url}' gave no answer in 1 tries"):
        EndpointGenerator(url, "m", tries=1).complete(question, schema, seed=0)
    with pytest.raises(ConfigurationError, match="endpoint must be an address"):
        EndpointGenerator("localhost", "m")
    with pytest.raises(ConfigurationError, match=r"temperature must be 0 or more, got -1"):
        EndpointGenerator(url, "m", temperature=-1)


QUESTION = [{"role": "user", "content": "?"}]
SCHEMA = {"properties": {"text": {}, ANSWER: {"enum": ["good"]}}}


@pytest.mark.parametrize("status", [400, 403, 413, 422, 451])
def test_a_question_that_the_endpoint_does_not_like_is_refused_at_once(
    status: int, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    handler.failing, handler.status = 9, status
    with pytest.raises(RefusalError, match=f"Error: Error code: {status}"):
        EndpointGenerator(url, "m").complete(QUESTION, SCHEMA, seed=0)
    assert len(handler.seen) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_is_no_refusal(
    status: int, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    handler.failing, handler.status = 9, status
    with pytest.raises(
        EndpointError, match=rf"gave no answer \(.*{status}.*knows the model 'm'"
    ) as e:
        EndpointGenerator(url, "m").complete(QUESTION, SCHEMA, seed=0)
    assert not isinstance(e.value, RefusalError)
    assert len(handler.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_is_busy_or_down_is_no_refusal(
    status: int, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    handler.failing, handler.status = 9, status
    with pytest.raises(EndpointError, match=r"gave no answer in 2 tries") as e:
        EndpointGenerator(url, "m", tries=2).complete(QUESTION, SCHEMA, seed=0)
    assert not isinstance(e.value, RefusalError)
    assert len(handler.seen) == 2


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"message": {"content": ""}}, r"an empty answer \(finish_reason 'stop'\), in 2 tries"),
        ({"message": {"content": None}, "finish_reason": "length"}, "'length'; raise max_tokens"),
        ({"message": {"content": ""}, "finish_reason": "content_filter"}, "'content_filter'"),
        ({"message": {"content": None, "refusal": "I won't."}}, 'with the words "I won\'t."'),
        ({"message": None}, "what is no chat completion"),
    ],
)
def test_a_question_whose_answer_stays_empty_is_refused(
    said: dict[str, Any], why: str, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    handler.said = said
    with pytest.raises(RefusalError, match=why):
        EndpointGenerator(url, "m", tries=2).complete(QUESTION, SCHEMA, seed=0)
    assert len(handler.seen) == 2


def test_a_content_filter_does_not_stop_a_synthesis(
    config: dict[str, Any], tmp_path: Path, standin: tuple[str, type[_Standin]]
) -> None:
    url, handler = standin
    handler.failing, handler.status, handler.error = 2, 400, "content_filter"
    done = synthesize(config, EndpointGenerator(url, "m"), rows=2, output_dir=tmp_path / "out")
    assert (done.kept, done.asked, dict(done.reasons)) == (2, 4, {"refused": 2})
    ((why, count),) = done.refusals.items()
    assert count == 2
    assert why.startswith("BadRequestError: ")
    assert "content_filter" in why


def test_a_causal_model_here_writes_the_same_for_the_same_seed(tmp_path: Path) -> None:
    tiny_causal = Path(save_tiny(tmp_path / "causal", "gpt2"))
    generator = LocalGenerator(str(tiny_causal), max_tokens=8)
    question = [{"role": "user", "content": "amber"}]
    first = generator.complete(question, {}, seed=1)
    assert first == generator.complete(question, {}, seed=1)
    assert len({generator.complete(question, {}, seed=seed) for seed in range(4)}) > 1
    assert generator.licence == "not stated"
    (tiny_causal / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert LocalGenerator(str(tiny_causal)).licence == "mit"
    (tiny_causal / "empty").mkdir()
    with pytest.raises(EndpointError, match="no causal language model can be loaded"):
        LocalGenerator(str(tiny_causal / "empty")).complete(question, {}, seed=0)


def test_a_model_that_is_nowhere_is_told_before_a_loader_asks_the_hub_again_and_again(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def model_info(name: str, timeout: float) -> None:
        asked.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    for name, reason in (("nothere", "cannot be asked"), (str(tmp_path / "no"), "no such folder")):
        with pytest.raises(ConfigurationError, match=f"generator '{name}': .*{reason}"):
            synthesize(config, LocalGenerator(name), rows=1, output_dir=tmp_path / "out")
    assert asked == ["nothere"]
    assert not (tmp_path / "out").exists()


def test_questions_beyond_the_context_are_told_before_any_is_asked(
    config: dict[str, Any], tmp_path: Path
) -> None:
    folder, model = tmp_path / "out", save_tiny(tmp_path / "causal", "gpt2")
    said = r"the longest question has (\d+) tokens and its answer up to 8, (\d+) in all, and the "
    with pytest.raises(ConfigurationError, match=f"{said}context of .* is 40 tokens; show") as told:
        synthesize(config, LocalGenerator(model, max_tokens=8), rows=3, output_dir=folder)
    with pytest.raises(ConfigurationError) as planned:
        plan_synthesis(config, rows=3, generator=LocalGenerator(model, max_tokens=8))
    assert str(planned.value) == str(told.value)
    assert not folder.exists()
    splits = load_splits(
        DataArguments(train_file=config["train_file"], validation_size=6),
        task="text-classification",
    )
    questioner = Questioner(splits, task="text-classification")
    lengths = [
        len(tiny_tokenizer()("\n\n".join(one["content"] for one in ask.messages))["input_ids"])
        for ask in map(questioner.ask, range(3))
    ]
    assert f"has {max(lengths)} tokens" in str(told.value)
    assert f"{max(lengths) + 8} in all" in str(told.value)


def test_a_question_and_its_answer_may_fill_the_context(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "causal", "gpt2")
    question = [{"role": "user", "content": " ".join(["film"] * 30)}]  # and two marks
    full = LocalGenerator(model, max_tokens=8)
    full.check_room([question])
    full.complete(question, {}, seed=0)
    over = LocalGenerator(model, max_tokens=9)
    with pytest.raises(RefusalError, match="the question has 32 tokens and its answer up to 9, 41"):
        over.complete(question, {}, seed=0)
    with pytest.raises(ConfigurationError, match=r"fewer examples .* a model with a longer"):
        over.check_room([question[:0], question])


@pytest.mark.parametrize(
    ("positions", "limit", "room"),
    [(40, 1000, 40), (None, 64, 64), (None, int(1e30), None), (None, None, None)],
)
def test_the_context_is_what_model_or_else_tokenizer_say(
    positions: int | None, limit: int | None, room: int | None
) -> None:
    from transformers import GPT2Config, MambaConfig

    config = MambaConfig() if positions is None else GPT2Config(n_positions=positions)
    assert _context(config, Namespace(init_kwargs={"model_max_length": limit})) == room


def test_a_chat_template_writes_the_mark_of_the_beginning_itself() -> None:
    tokenizer, question = tiny_tokenizer(), [{"role": "user", "content": "good film"}]
    assert _encoded(tokenizer, question)["input_ids"].tolist() == [[2, 13, 7, 3]]
    tokenizer.chat_template = "[CLS] {{ messages[0]['content'] }}"
    assert _encoded(tokenizer, question)["input_ids"].tolist() == [[2, 13, 7]]


def test_the_command_shows_the_first_question_and_writes_nothing(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    folder = tmp_path / "out"
    words = ["data", "synthesize", str(path), "--rows", "5", "--output-dir", str(folder)]
    main([*words, "--dry-run", "--instruction", "Film reviews."])
    shown = capsys.readouterr().out
    assert "at most 40 questions" in shown
    assert "Film reviews." in shown
    assert not folder.exists()
    with pytest.raises(SystemExit):
        main(words)
    assert "--generator is missing" in capsys.readouterr().err
    model = save_tiny(tmp_path / "causal", "gpt2")
    with pytest.raises(SystemExit):
        main([*words, "--generator", model, "--dry-run"])
    assert "the longest question has" in capsys.readouterr().err


def test_the_command_writes_rows(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    standin: tuple[str, type[_Standin]],
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    words = ["data", "synthesize", str(path), "--rows", "2", "--output-dir", str(tmp_path / "out")]
    main([*words, "--endpoint", standin[0], "--generator", "m", "--licence", "terms"])
    assert "2 rows kept of 2 candidates" in capsys.readouterr().out
    assert (tmp_path / "out" / "synthetic.yaml").read_text().startswith("# 2 rows more, written by")
