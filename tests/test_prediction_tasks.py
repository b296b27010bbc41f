"""What `predict` writes for tags, texts and losses: by hand, as the run scored them, resumable."""

from __future__ import annotations

import json
import logging
import math
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from ruamel.yaml import YAML

from hf_stabilizer import predict, train
from hf_stabilizer.cli import main
from hf_stabilizer.ensembling import request
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.prediction import predict_rows, read_member
from hf_stabilizer.predictions import read_predictions

from .tiny import WORDS, save_tiny, tiny_tokenizer, write_member

TAGS = {0: "B-X", 1: "I-X", 2: "O"}
SENTENCES = [["the", "good", "film"], ["bad"], ["who", "was", "not", "very", "good", "news"]]
TEXTS = [" ".join(words) for words in SENTENCES]


def texts(count: int) -> list[list[str]]:
    draw = np.random.RandomState(0)
    return [[str(word) for word in draw.choice(WORDS, draw.randint(3, 9))] for _ in range(count)]


# Tags --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("bert"), "bert")


def tagger(folder: Path, bert: str, *, head: int = 0, **keys: Any) -> Path:
    """A tagger that was not trained, as a run leaves it."""
    config = {"task": "token-classification", "model_name_or_path": bert, "use_cpu": True}
    values = {**config, "train_file": "unread.jsonl", "text_columns": ["tokens"], **keys}
    return Path(
        write_member(
            folder, values, head=head, architecture="BertForTokenClassification", id2label=TAGS
        )
    )


def probabilities_by_hand(folder: Path, words: list[str]) -> np.ndarray[Any, Any]:
    """One row alone, every word one token between [CLS] and [SEP]."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder / "model").eval()
    vocabulary = tiny_tokenizer().get_vocab()
    ids = torch.tensor([[2, *(vocabulary[word] for word in words), 3]])
    with torch.no_grad():
        return np.asarray(model(input_ids=ids).logits[0, 1:-1].double().softmax(-1))


def test_each_word_has_its_tag(bert: str, tmp_path: Path) -> None:
    folder = tagger(tmp_path / "run", bert)
    rows = pd.DataFrame({"id": [3, 1, 2], "tokens": SENTENCES})
    found = predict(folder, rows, output=tmp_path / "out.jsonl")
    assert list(found.columns) == ["id", "tokens", "prediction", "probability"]
    for words, tags, chances in zip(SENTENCES, found["prediction"], found["probability"], strict=1):
        expected = probabilities_by_hand(folder, words)
        assert tags == [TAGS[place] for place in expected.argmax(1)]
        np.testing.assert_allclose(chances, expected.max(1), atol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == found["prediction"].tolist()


def test_a_word_of_several_pieces_and_one_of_none(bert: str, tmp_path: Path) -> None:
    """The first piece speaks for a word; words around one that leaves no token keep their place."""
    folder = tagger(tmp_path / "run", bert)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    rows = pd.DataFrame({"tokens": [["good film", " ", "bad"]]})  # two tokens, none, one
    found = predict(folder, rows)
    expected = probabilities_by_hand(folder, ["good", "film", "bad"])
    best = [TAGS[place] for place in expected.argmax(1)]
    assert found["prediction"][0] == [best[0], None, best[2]]


def test_words_that_are_cut_off_are_told(
    bert: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tagger(tmp_path / "run", bert, max_length=5)  # three words
    rows = pd.DataFrame({"tokens": SENTENCES})
    with caplog.at_level(logging.WARNING):
        found = predict(folder, rows, output=tmp_path / "out.parquet")
    assert "3 of 10 words, in 1 of 3 rows (the first is row 3), have no tag" in caplog.text
    last = found["prediction"][2]
    assert [tag is None for tag in last] == [False] * 3 + [True] * 3
    assert [chance is None for chance in found["probability"][2]] == [False] * 3 + [True] * 3
    kept = pd.read_parquet(tmp_path / "out.parquet")["prediction"]
    assert [list(tags) for tags in kept] == found["prediction"].tolist()
    caplog.clear()
    predict(folder, rows[:2])
    assert not caplog.records


def test_several_taggers_give_their_mean(bert: str, tmp_path: Path) -> None:
    folders = [tagger(tmp_path / f"run{head}", bert, head=head) for head in (1, 2)]
    found = predict(
        folders, pd.DataFrame({"tokens": SENTENCES}), combine="weighted", weights=[3, 1]
    )
    for words, tags, chances in zip(SENTENCES, found["prediction"], found["probability"], strict=1):
        first, second = (probabilities_by_hand(folder, words) for folder in folders)
        mean = 0.75 * first + 0.25 * second
        assert tags == [TAGS[place] for place in mean.argmax(1)]
        np.testing.assert_allclose(chances, mean.max(1), atol=1e-6)


def test_lists_are_json_in_csv(bert: str, tmp_path: Path) -> None:
    folder = tagger(tmp_path / "run", bert)
    rows = pd.DataFrame({"tokens": [json.dumps(words) for words in SENTENCES]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = predict(folder, tmp_path / "rows.csv", output=tmp_path / "out.csv")
    kept = pd.read_csv(tmp_path / "out.csv")
    assert [json.loads(cell) for cell in kept["prediction"]] == found["prediction"].tolist()
    assert kept["tokens"].tolist() == rows["tokens"].tolist()
    from_lists = predict(folder, pd.DataFrame({"tokens": SENTENCES}), output=tmp_path / "two.csv")
    assert pd.read_csv(tmp_path / "two.csv")["tokens"].tolist() == rows["tokens"].tolist()
    pd.testing.assert_series_equal(from_lists["prediction"], found["prediction"])


def test_rows_without_words_are_refused_before_any_work(bert: str, tmp_path: Path) -> None:
    folder = tagger(tmp_path / "run", bert)
    for cell, message in (("a text", "not a list of tokens"), ([], "an empty list of tokens")):
        rows = pd.DataFrame({"tokens": [SENTENCES[0], cell]})
        with pytest.raises(DataError, match=f"{message}.* in row 2|row 2, which is {message}"):
            predict(folder, rows, output=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv.parts").exists()
    with pytest.raises(ConfigurationError, match="was trained for token-classification, whose"):
        predict_rows(folder, pd.DataFrame({"tokens": SENTENCES}))


def test_taggers_that_read_other_columns_must_read_as_many_words(bert: str, tmp_path: Path) -> None:
    folders = [
        tagger(tmp_path / name, bert, text_columns=[name], head=1) for name in ("tokens", "words")
    ]
    rows = pd.DataFrame({"tokens": SENTENCES, "words": SENTENCES[::-1]})
    with pytest.raises(ConfigurationError, match="'tokens' and 'words', whose words differ in num"):
        predict(folders, rows)
    assert len(predict(folders, rows.assign(words=SENTENCES))) == 3


# Texts -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt a little, whose columns and lengths of texts were left open."""
    folder = tmp_path_factory.mktemp("writer")
    rows = texts(30)
    pd.DataFrame(
        {"source": [" ".join(r) for r in rows], "summary": [" ".join(r[::-1]) for r in rows]}
    ).to_csv(folder / "rows.csv", index=False, sep=";")
    train(
        {
            "task": "seq2seq",
            "model_name_or_path": save_tiny(folder / "t5", "t5"),
            "train_file": str(folder / "rows.csv"),
            "reader_options": {"sep": ";"},
            "validation_size": 6,
            "test_size": 6,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 4,
            "generation_num_beams": 2,
            "max_target_length": 7,
            "max_steps": 6,
            "use_cpu": True,
            "disable_tqdm": True,
            "output_dir": str(folder / "run"),
        }
    )
    return folder / "run"


def test_texts_are_those_that_the_run_scored(writer: Path) -> None:
    from hf_stabilizer.data import load_splits
    from hf_stabilizer.run import prepare_data

    member = read_member(writer)
    assert member.configuration is not None
    splits = load_splits(member.configuration.data, task="seq2seq")
    places = prepare_data(member.configuration).test_rows
    kept = read_predictions(writer)
    assert kept is not None
    assert kept.test is not None
    assert splits.test is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(writer / "model")
    ids = np.where(kept.test == -100, 0, kept.test).tolist()
    scored = tokenizer.batch_decode(ids, skip_special_tokens=True)
    found = predict(writer, splits.test, batch_size=4)["prediction"]
    assert [found[place] for place in places or ()] == [text.strip() for text in scored]
    assert len(set(found)) > 1
    assert member.generation == {"max_length": 8, "num_beams": 2}


def test_writing_goes_on_where_it_was_killed(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "CHUNK", 3)
    rows = pd.DataFrame({"source": [*TEXTS, *TEXTS[::-1], "what"]})
    whole, target = predict(writer, rows), tmp_path / "out.jsonl"

    @contextmanager
    def dies(total: int) -> Any:
        def advance(number: int) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        predict(writer, rows, output=target, progress=dies)
    parts = sorted((tmp_path / "out.jsonl.parts" / "member1").glob("*.npy"))
    assert len(parts) == 1
    with pytest.raises(StudyError, match="batch_size is 32 there"):
        predict(writer, rows, output=target, batch_size=2)
    found = predict(writer, rows, output=target)
    assert not parts[0].exists()
    pd.testing.assert_frame_equal(found, whole)
    assert pd.read_json(target, lines=True)["prediction"].tolist() == whole["prediction"].tolist()


def test_sampling_repeats_itself_and_moves_no_other_draw(writer: Path, tmp_path: Path) -> None:
    shutil.copytree(writer, tmp_path / "run")
    path = tmp_path / "run" / "model" / "generation_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "do_sample": True, "temperature": 5.0}))
    rows, before = pd.DataFrame({"source": TEXTS}), torch.get_rng_state()
    first = predict(tmp_path / "run", rows)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    pd.testing.assert_frame_equal(predict(tmp_path / "run", rows), first)
    assert first["prediction"].tolist() != predict(writer, rows)["prediction"].tolist()


def test_texts_have_no_mean(writer: Path, tmp_path: Path) -> None:
    shutil.copytree(writer, tmp_path / "other")
    rows = pd.DataFrame({"source": TEXTS})
    with pytest.raises(ConfigurationError, match=r"2 models are named, and what .* has no mean"):
        predict([writer, tmp_path / "other"], rows)
    with pytest.raises(ConfigurationError, match="combine='rank_mean' is for several models"):
        predict(writer, rows, combine="rank_mean")


# Losses ------------------------------------------------------------------------------------------


def test_the_surprise_of_a_causal_model_by_hand(tmp_path: Path) -> None:
    gpt2 = save_tiny(tmp_path / "gpt2", "gpt2")
    config = {"task": "causal-lm", "model_name_or_path": gpt2, "train_file": "unread.csv"}
    folder = write_member(tmp_path / "run", {**config, "use_cpu": True, "text_columns": ["text"]},
                          architecture="GPT2LMHeadModel")  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
    found = predict(folder, pd.DataFrame({"text": TEXTS}))
    assert list(found.columns) == ["text", "negative_log_likelihood", "perplexity", "tokens"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    for _, row in found.iterrows():
        ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=ids).loss)
        assert row["negative_log_likelihood"] == pytest.approx(loss, rel=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
        assert row["tokens"] == ids.shape[1] - 1
    path = folder / "configuration.yaml"
    path.write_text(path.read_text().replace("task: causal-lm", "task: masked-lm"))
    with pytest.raises(ConfigurationError, match=r"masked-lm foretells masked words .*fill-mask"):
        predict(folder, pd.DataFrame({"text": TEXTS}))


# Columns and files as the run read them ----------------------------------------------------------


def test_what_was_guessed_is_written_and_read_again(writer: Path) -> None:
    said = YAML(typ="safe").load((writer / "configuration.yaml").read_text())
    assert "text_columns" not in said
    settled = {"text_columns": ["source"], "label_column": "summary", "generation_max_length": 8}
    assert said["settled"] == settled
    assert read_member(writer).settled == settled
    # A guess would take the column "question", or "text".
    rows = pd.DataFrame({"text": TEXTS[::-1], "question": ["what"] * 3, "source": TEXTS})
    alone = predict(writer, rows[["source"]])["prediction"]
    assert predict(writer, rows)["prediction"].tolist() == alone.tolist()
    with pytest.raises(
        DataError, match=r"text_columns, as '.*run' has them: .* no column 'source'"
    ):
        predict(writer, rows.drop(columns="source"))
    named = predict(writer, rows.drop(columns="source"), text_columns=["text"])
    assert named["prediction"].tolist() == alone.tolist()[::-1]


def test_what_is_settled_is_no_other_configuration(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that guessed goes on as one that guesses, and its file trains again."""
    values = {**config, "save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    values |= {"save_only_model": False, "load_best_model_at_end": False}
    whole = train(values)
    folder = Path(config["output_dir"])
    shutil.rmtree(folder / "checkpoint-8", ignore_errors=True)
    (folder / "run.json").unlink()
    said = YAML(typ="safe").load((folder / "configuration.yaml").read_text())
    assert said["settled"] == {"text_columns": ["text"], "label_column": "label"}
    shutil.copytree(folder, tmp_path / "named")
    with caplog.at_level(logging.INFO):
        again = train(values)
        named = train(values, text_columns=["text"], output_dir=str(tmp_path / "named"))
    assert caplog.text.count("checkpoint-4") == 2  # both went on from there
    assert again.evaluations == named.evaluations == whole.evaluations
    (tmp_path / "named" / "run.json").unlink()
    with pytest.raises(ConfigurationError, match=r"label_column None -> 'text'"):
        train(values, label_column="text", output_dir=str(tmp_path / "named"))
    twice = train(folder / "configuration.yaml", output_dir=str(tmp_path / "twice"))
    assert twice.best_score == whole.best_score


def test_the_columns_survive_the_files_that_workers_share(
    config: dict[str, Any], tmp_path: Path
) -> None:
    from hf_stabilizer.configuration import load_configuration
    from hf_stabilizer.run import prepare_data
    from hf_stabilizer.tasks import PreparedTask

    prepared = prepare_data(load_configuration(config))
    prepared.save_to(tmp_path / "rows")
    settled = {"text_columns": ["text"], "label_column": "label"}
    assert PreparedTask.load_from(tmp_path / "rows").settled == prepared.settled == settled


def test_files_are_read_as_the_run_read_its_own(
    writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, expected = pd.DataFrame({"id": [1, 2, 3], "source": TEXTS}), None
    for name, sep, options in (
        ("a.csv", ";", None),
        ("b.csv", ",", {"sep": ","}),
        ("c.jsonl", None, None),
        ("d.parquet", None, None),
    ):
        path = tmp_path / name
        if path.suffix == ".csv":
            rows.to_csv(path, index=False, sep=sep)
        elif path.suffix == ".jsonl":
            rows.to_json(path, orient="records", lines=True)
        else:
            rows.to_parquet(path)
        found = predict(writer, path, reader_options=options)
        expected = found if expected is None else expected
        pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(DataError, match="if ',' stands between columns, set reader_options"):
        predict(writer, tmp_path / "b.csv")
    words = ["predict", str(writer), str(tmp_path / "b.csv"), "--output", str(tmp_path / "out.csv")]
    main([*words, "--reader_options", "{sep: ','}", "--dry-run"])
    said = capsys.readouterr().out
    assert "columns read: source" in said
    assert "columns written: prediction" in said
    main([*words, "--reader-options", "{sep: ','}"])
    kept = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert expected is not None
    assert kept["prediction"].tolist() == expected["prediction"].tolist()
    with pytest.raises(SystemExit):
        main([*words[:-1], str(tmp_path / "new.csv"), "--reader-options", "sep"])
    assert "--reader-options must be a mapping" in capsys.readouterr().err
