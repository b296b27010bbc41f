"""Do training rows become more, at the asked rate, with nothing of the other splits in them?"""

import dataclasses
import random
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_stabilizer.augmentation import (
    BackTranslate,
    DeleteWords,
    MaskTokens,
    MixRows,
    ReplaceTokens,
    Summarize,
    SwapWords,
    augment,
    augment_data,
)
from hf_stabilizer.augmentation.augmenting import CHUNK, RowMap
from hf_stabilizer.augmentation.procedure import plan_augmentation
from hf_stabilizer.augmentation.technique import Rated, draw_of, words_of
from hf_stabilizer.cli import main
from hf_stabilizer.data import DataArguments, Splits, load_splits, write_splits
from hf_stabilizer.data.near_duplicates import near_duplicates
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.locations import check_presence
from tests.conftest import tiny_study
from tests.tiny import SIZES, tiny_tokenizer

WORD_TECHNIQUES = [DeleteWords, SwapWords, MixRows]


@pytest.fixture
def splits(rows_file) -> Splits:
    arguments = DataArguments(train_file=str(rows_file), validation_size=24, test_size=24)
    return load_splits(arguments, task="text-classification")


@pytest.fixture(scope="module")
def masked_model(tmp_path_factory) -> str:
    """A tiny BERT that fills masks, with the tokenizer of its words."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "masked"
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def seq2seq_model(tmp_path_factory) -> str:
    """A tiny T5 that writes some words or other, with the tokenizer of its words."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "seq2seq"
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_ff=24, d_kv=8, num_layers=2, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def apply(technique, texts, seed=0, partners=None):
    draws = [draw_of(seed, place) for place in range(len(texts))]
    return technique(texts, partners or texts, draws)


def test_words_by_hand():
    class Draws(random.Random):
        """Says what it is told to say."""

        def __init__(self, *numbers):
            super().__init__(0)
            self.numbers = iter(numbers)

        def random(self):
            return next(self.numbers)

        def shuffle(self, x):
            x.reverse()

    text = ["one two  three four"]
    deleted = DeleteWords(rate=0.5)(text, text, [Draws(0.4, 0.5, 0.9, 0.1)])
    assert deleted == ["two  three"]
    # one, two and four are chosen, turned round to four, two, one, and each moves on by one place.
    swapped = SwapWords(rate=0.5)(text, text, [Draws(0.1, 0.2, 0.7, 0.3)])
    assert swapped == ["two four  three one"]
    mixed = MixRows(rate=0.5, how="halves")(text, ["a b c"], [Draws(0.1)])
    assert mixed == ["one two b c"]
    assert MixRows(rate=0.5)(text, ["a b"], [Draws(0.1)]) == ["one two  three four a b"]
    assert MixRows(rate=0.5)(text, ["a b"], [Draws(0.6)]) == text


@given(text=st.text(max_size=40), seed=st.integers(0, 9), rate=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_words_are_kept_as_they_are_or_gone(text, seed, rate):
    (deleted,), (swapped,) = (apply(kind(rate), [text], seed) for kind in WORD_TECHNIQUES[:2])

    left = iter(text.split())
    assert all(word in left for word in deleted.split())  # in their order
    assert bool(deleted.split()) == bool(text.split())
    assert sorted(swapped.split()) == sorted(text.split())
    assert "".join(words_of(text)) == text


@given(text=st.text(max_size=40), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_rate_zero_changes_no_letter(text, seed):
    for kind in WORD_TECHNIQUES:
        assert apply(kind(rate=0), [text], seed, ["other"]) == [text]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_words_change_at_their_rate(rate):
    text = [" ".join(str(place) for place in range(50))] * 80
    total, spread = 50 * 80, 4 * (50 * 80 * rate * (1 - rate)) ** 0.5

    gone = total - sum(len(one.split()) for one in apply(DeleteWords(rate), text))
    moved = sum(
        word != str(place)
        for one in apply(SwapWords(rate), text)
        for place, word in enumerate(one.split())
    )
    mixed = sum(one != text[0] for one in apply(MixRows(rate), text, partners=["x"] * 80))

    assert abs(gone - total * rate) < spread
    assert abs(moved - total * rate) < spread
    assert abs(mixed - 80 * rate) < 4 * (80 * rate * (1 - rate)) ** 0.5


def test_tokens_are_masked_at_their_rate_and_the_tokenizer_reads_them(masked_model):
    texts = ["the film was very good"] * 200 + ["the film was " * 60]
    masked = apply(MaskTokens(masked_model, rate=0.2), texts)
    tokenizer, count = tiny_tokenizer(), 200 * 5 + 180
    masks = sum(tokenizer(one)["input_ids"].count(tokenizer.mask_token_id) for one in masked)

    assert abs(masks - count * 0.2) < 4 * (count * 0.16) ** 0.5
    assert all(len(tokenizer(one)["input_ids"]) == 7 for one in masked[:200])
    assert "[MASK]" in masked[-1][len(texts[-1]) // 2 :]  # beyond the first window, too
    assert apply(MaskTokens(masked_model, rate=0), texts) == texts


def test_tokens_are_replaced_by_other_words_at_their_rate(masked_model):
    texts = ["the  film was, very good!"] * 60
    words = {"the", "a", "film", "news", "was", "is", "very", "not", "good", "bad", "what", "who"}
    changed = apply(ReplaceTokens(masked_model, rate=0.3, top_k=5), texts)
    before = texts[0].replace(",", " ,").replace("!", " !").split()
    pairs = [
        (old, new)
        for one in changed
        for old, new in zip(before, one.replace(",", " ,").replace("!", " !").split(), strict=True)
    ]
    differing = [(old, new) for old, new in pairs if old != new]

    assert {new for _, new in differing} <= words
    assert abs(len(differing) - 300 * 0.3) < 4 * (300 * 0.21) ** 0.5
    assert all("  " in one and one.endswith("!") for one in changed)
    assert apply(ReplaceTokens(masked_model, rate=0), texts) == texts


def test_the_likeliest_other_token_is_what_the_model_says(masked_model):
    import transformers

    (changed,) = apply(ReplaceTokens(masked_model, rate=1.0, how="top"), ["film"])
    tokenizer = tiny_tokenizer()
    model = transformers.BertForMaskedLM.from_pretrained(masked_model).eval()
    with torch.no_grad():
        logits = model(**tokenizer("[MASK]", return_tensors="pt")).logits[0, 1]
    ranked = [tokenizer.convert_ids_to_tokens(int(one)) for one in logits.argsort(descending=True)
              if one < len(tokenizer)]  # fmt: skip

    assert changed == next(one for one in ranked if one.isalpha() and one != "film")


def test_texts_go_there_and_come_back(seq2seq_model):
    from transformers import AutoModelForSeq2SeqLM

    texts = ["the film was good", "bad news"]
    technique = BackTranslate(seq2seq_model, seq2seq_model, num_beams=1, max_new_tokens=4)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(seq2seq_model).eval(), tiny_tokenizer()

    def translated(batch):
        inputs = tokenizer(batch, return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        out = model.generate(**inputs, num_beams=1, do_sample=False, max_new_tokens=4)
        return tokenizer.batch_decode(out, skip_special_tokens=True)

    expected = translated(translated(texts))
    back = apply(technique, texts)
    assert back == [new or old for new, old in zip(expected, texts, strict=True)]
    assert apply(Summarize(seq2seq_model, num_beams=1, max_new_tokens=4), texts) == [
        new or old for new, old in zip(translated(texts), texts, strict=True)
    ]
    assert apply(dataclasses.replace(technique, rate=0), texts) == texts
    sampled = dataclasses.replace(technique, sample=True, max_new_tokens=8)
    state = torch.get_rng_state()
    assert apply(sampled, texts, seed=1) == apply(sampled, texts, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_training_rows_are_new_and_labels_stay(splits):
    more = augment(splits, [DeleteWords(0.3), SwapWords(0.3)], copies=2, seed=3, threshold=1.0)

    for name in ("validation", "test", "unlabelled"):
        assert getattr(more, name) is getattr(splits, name)
    count = len(splits.train)
    rows = more.train.to_pandas()
    assert rows["text"][:count].tolist() == splits.train["text"][:]
    assert rows["augmented_by"][:count].isna().all()
    assert set(rows["augmented_by"][count:]) == {"delete", "swap"}
    labels = splits.train["label"][:]
    assert rows["label"].tolist() == [labels[place] for place in rows["source_row"]]


def test_soft_labels_and_groups_come_along(splits):
    soft = [[0.25, 0.75] if row % 2 else [1.0, 0.0] for row in range(len(splits.train))]
    splits = dataclasses.replace(
        splits,
        train=splits.train.add_column("soft", soft),
        groups=tuple(f"g{row % 5}" for row in range(len(splits.train))),
        soft_label_column="soft",
    )
    more = augment(splits, [SwapWords(0.5)], threshold=1.0)

    for row, group in zip(more.train, more.groups, strict=True):
        assert row["soft"] == soft[row["source_row"]]
        assert group == f"g{row['source_row'] % 5}"


def test_the_same_seed_gives_the_same_rows_whatever_the_batches(splits):
    change = RowMap(DeleteWords(0.4), splits.train, ("text",), "label", seed=5)
    options = {"batched": True, "with_indices": True, "load_from_cache_file": False}
    whole = splits.train.map(change, batch_size=1000, **options)["text"][:]

    assert splits.train.map(change, batch_size=3, **options)["text"][:] == whole
    more = augment(splits, [DeleteWords(0.4)], seed=5, keep_originals=False, threshold=1.0)
    assert set(more.train["text"]) <= set(whole)
    again = augment(splits, [SwapWords(0.2), DeleteWords(0.4)], seed=5, threshold=1.0).train
    assert [row["text"] for row in again if row["augmented_by"] == "delete"] == more.train["text"][
        :
    ]
    other = augment(splits, [DeleteWords(0.4)], seed=6, keep_originals=False, threshold=1.0)
    assert other.train["text"][:] != more.train["text"][:]


def test_rate_zero_gives_the_training_rows_themselves(splits):
    more = augment(splits, [DeleteWords(0)], keep_originals=False)

    assert more.train["text"][:] == splits.train["text"][:]
    assert more.train["label"][:] == splits.train["label"][:]


WORDS = st.lists(st.sampled_from(["good", "bad", "film", "plot", "cast"]), min_size=1, max_size=5)


@given(
    train=st.lists(WORDS.map(" ".join), min_size=2, max_size=8),
    held=st.lists(WORDS.map(" ".join), min_size=1, max_size=8),
    seed=st.integers(0, 5),
)
@settings(max_examples=15, deadline=None)
def test_no_validation_or_test_row_comes_in_by_a_change(train, held, seed):
    labels = ["a", "b"] * 4
    splits = Splits(
        train=Dataset.from_dict({"text": train, "label": labels[: len(train)]}),
        validation=Dataset.from_dict({"text": held, "label": labels[: len(held)]}),
        test=Dataset.from_dict({"text": held[::-1], "label": labels[: len(held)]}),
        unlabelled=None, text_columns=("text",), choice_columns=(), label_column="label",
        label_names=("a", "b"), multi_label=False, groups=None, notes=(),
    )  # fmt: skip
    techniques = [DeleteWords(0.5), SwapWords(0.8), MixRows(how="halves")]
    more = augment(splits, techniques, seed=seed).train["text"][:]

    leaked = {i for i, _, _ in near_duplicates(more, held, threshold=0.8)}
    assert all(more[place] in train for place in leaked)
    assert more[: len(train)] == train


def test_mixing_joins_rows_of_one_label():
    rows = Dataset.from_dict({"text": ["a1", "a2", "b1", "a3"], "label": ["a", "a", "b", "a"]})
    change = RowMap(MixRows(), rows, ("text",), "label")
    mixed = rows.map(change, batched=True, with_indices=True)["text"][:]

    assert mixed[2] == "b1"  # no other row has its label
    for place in (0, 1, 3):
        first, second = mixed[place].split()
        assert (first, second[0]) == (rows["text"][place], "a")
        assert second != first


def test_pairs_and_choices():
    pairs = Dataset.from_dict({"a": ["one two three"] * 9, "b": ["x y z"] * 9, "label": ["u"] * 9})
    base = Splits(
        train=pairs, validation=Dataset.from_dict({"a": ["k"], "b": ["l"], "label": ["u"]}),
        test=None, unlabelled=None, text_columns=("a", "b"), choice_columns=(),
        label_column="label", label_names=None, multi_label=False, groups=None, notes=(),
    )  # fmt: skip
    more = augment(base, [SwapWords(1.0)], keep_originals=False).train
    assert "one two three" not in more["a"][:]
    assert "x y z" not in more["b"][:]

    choices = dataclasses.replace(base, text_columns=("a",), choice_columns=("b",))
    more = augment(choices, [SwapWords(1.0)], keep_originals=False).train
    assert set(more["b"]) == {"x y z"}
    with pytest.raises(ConfigurationError, match="leave mix out"):
        augment(choices, [MixRows()])


def test_what_models_wrote_is_not_written_again(splits, masked_model, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_stabilizer.augmentation.augmenting.CHUNK", 16)
    technique = ReplaceTokens(masked_model, rate=0.5)
    whole = augment(splits, [technique], folder=tmp_path / "chunks").train.to_dict()
    files = sorted((tmp_path / "chunks").glob("*.json"))
    assert len(files) == 4  # 64 training rows

    for file in files[2:]:
        file.unlink()
    stamps = [file.stat().st_mtime_ns for file in files[:2]]
    assert augment(splits, [technique], folder=tmp_path / "chunks").train.to_dict() == whole
    assert [file.stat().st_mtime_ns for file in files[:2]] == stamps
    assert CHUNK > 16

    # What another setting or seed wrote is not taken for this one's.
    for other, seed in ((ReplaceTokens(masked_model, rate=0.0), 0), (technique, 1)):
        again = augment(splits, [other], seed=seed, folder=tmp_path / "chunks").train
        assert again.to_dict() == augment(splits, [other], seed=seed).train.to_dict()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: DeleteWords(rate=1.5), r"rate must be in \[0, 1\], got 1.5"),
        (lambda _: SwapWords(rate=True), "rate must be in"),
        (lambda _: MixRows(how="both"), "how must be one of append, halves"),
        (lambda model: ReplaceTokens(model, top_k=0), "top_k must be"),
        (lambda model: ReplaceTokens(model, how="best"), "how must be one of sample, top"),
        (lambda model: Summarize(model), "is no seq2seq model"),
        (lambda model: MaskTokens("nowhere/at/all"), "no tokenizer can be loaded"),
    ],
)
def test_what_cannot_be_right_is_refused(make, said, masked_model):
    with pytest.raises(ConfigurationError, match=said):
        make(masked_model)


def test_an_encoder_without_a_head_fills_no_masks(model_folder):
    with pytest.raises(ConfigurationError, match="cannot fill in masks: its checkpoint lacks"):
        ReplaceTokens(str(model_folder))


def test_augment_refuses(splits):
    with pytest.raises(ConfigurationError, match="techniques is empty"):
        augment(splits, [])
    with pytest.raises(ConfigurationError, match="copies must be"):
        augment(splits, [DeleteWords()], copies=0)
    with pytest.raises(ConfigurationError, match="have a column 'augmented_by' already"):
        augment(augment(splits, [DeleteWords()]), [DeleteWords()])


def test_the_files_read_back_as_they_were(splits, tmp_path):
    more = augment(splits, [DeleteWords(0.2)])
    keys = write_splits(more, tmp_path / "rows")
    again = load_splits(DataArguments(**keys), task="text-classification")

    assert again.train["text"][:] == more.train["text"][:]
    assert again.validation.to_dict() == splits.validation.to_dict()
    assert "augmented_by" in pd.read_parquet(tmp_path / "rows" / "train.parquet").columns


@pytest.fixture
def config(model_folder, tmp_path):
    return tiny_study(model_folder, tmp_path, rows=64, num_train_epochs=2, evaluations_per_epoch=2)


def test_the_procedure_compares_with_its_own_control(config, tmp_path):
    options = {
        "techniques": [DeleteWords(0.2)],
        "output_dir": tmp_path / "out",
        "runs": 1,
        "executor": "in-process",
    }
    done = augment_data(config, **options)
    by_recipe = {run.recipe: run for run in done.study.runs}

    assert by_recipe["control"].steps == by_recipe["augmented"].steps == 8
    assert len(by_recipe["control"].evaluations) == len(by_recipe["augmented"].evaluations)
    assert done.rows["originals"] == 32
    assert (tmp_path / "out" / "study" / "report.html").exists()
    keys = done.study.recipe_settings
    assert keys["control"]["validation_file"] == keys["augmented"]["validation_file"]

    records = sorted((tmp_path / "out" / "study").rglob("run.json"))
    stamps = [path.stat().st_mtime_ns for path in records]
    augment_data(config, **options)
    assert [path.stat().st_mtime_ns for path in records] == stamps
    with pytest.raises(StudyError, match="copies is 1 there and 2 here"):
        augment_data(config, **options, copies=2)


@pytest.mark.parametrize(
    "slip",
    [
        *({"threshold": 5}, {"copies": 0}, {"runs": -1}),
        *({"techniques": []}, {"techniques": [SwapWords()] * 2}),
    ],
)
def test_a_slip_leaves_no_folder_that_refuses_the_next_start(slip, config, tmp_path):
    options = {"techniques": [DeleteWords(0.5)], **slip}
    with pytest.raises(ConfigurationError):
        augment_data(config, output_dir=tmp_path / "more", **options)
    assert not (tmp_path / "more").exists()


def test_other_rows_that_judge_are_another_procedure(config, tmp_path):
    rows = pd.read_csv(config["train_file"])
    rows[:24].to_csv(tmp_path / "held.csv", index=False)
    rows[24:].to_csv(tmp_path / "train.csv", index=False)
    files = {
        "train_file": str(tmp_path / "train.csv"),
        "validation_file": str(tmp_path / "held.csv"),
    }
    config = {**config, **files, "validation_size": None, "test_size": None}
    augment_data(config, [DeleteWords(0.5)], output_dir=tmp_path / "more")
    rows[:20].to_csv(tmp_path / "held.csv", index=False)
    with pytest.raises(StudyError, match="rows is"):
        augment_data(config, [DeleteWords(0.5)], output_dir=tmp_path / "more")


def test_a_plan_writes_nothing(config, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    techniques = [DeleteWords(0.5), SwapWords(0.5)]
    plan = plan_augmentation(config, techniques, copies=3, runs=4, threshold=1.0)

    assert (plan.train_rows, plan.model_texts, plan.runs) == (32, 0, 8)
    assert plan.new_rows + plan.left_out == 192
    assert [name for name, _, _ in plan.examples] == ["delete"] * 3 + ["swap"] * 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("threshold", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("keep_originals", [True, False])
def test_a_plan_is_what_the_run_does(threshold, keep_originals, config, tmp_path):
    """Rows that come out like a held-out row are left out of both."""
    options = {"threshold": threshold, "keep_originals": keep_originals, "copies": 2, "seed": 3}
    techniques = [DeleteWords(0.3), MixRows()]
    plan = plan_augmentation(config, techniques, **options)
    done = augment_data(config, techniques, output_dir=tmp_path / "out", **options)

    rows = pd.read_parquet(tmp_path / "out" / "data" / "augmented.parquet")
    control = tmp_path / "out" / "data" / "train.parquet"
    new = rows[rows["augmented_by"].notna()]
    assert (plan.total_rows, plan.new_rows, plan.notes) == (len(rows), len(new), done.notes)
    assert plan.left_out == 2 * 2 * 32 - len(new)
    assert (plan.left_out > 0) == (threshold < 1)
    before = pd.read_parquet(control)["text"]
    new = new[new["text"].to_numpy() != before[new["source_row"]].to_numpy()]
    made = [tuple(row) for row in new[["augmented_by", "text"]].itertuples(index=False)]
    shown = [(name, after) for name, _, after in plan.examples]
    for name in ("delete", "mix"):
        assert [row for row in shown if row[0] == name] == [row for row in made if row[0] == name][
            :3
        ]


def test_a_plan_refuses_what_the_run_refuses(config, tmp_path, caplog):
    rows = [MixRows()]
    with pytest.raises(ConfigurationError, match=r"threshold must be in \(0, 1\], got 5"):
        plan_augmentation(config, rows, threshold=5)
    with pytest.raises(ConfigurationError, match="runs must be a whole number of pairs from 1"):
        plan_augmentation(config, rows, runs=-1)
    caplog.clear()
    plan_augmentation(config, rows, runs=1)
    assert "runs=1 is one pair, which says nothing of chance" in caplog.text
    with pytest.raises(DataError, match="no training row is left") as planned:
        plan_augmentation(config, rows, threshold=0.05, keep_originals=False)
    options = {"threshold": 0.05, "keep_originals": False, "output_dir": tmp_path / "out"}
    with pytest.raises(DataError) as done:
        augment_data(config, rows, **options)
    assert str(planned.value) == str(done.value)


def test_a_plan_has_models_work_on_few_rows(config, masked_model):
    techniques = [ReplaceTokens(masked_model, rate=0.5), DeleteWords(0.3)]
    plan = plan_augmentation(config, techniques, threshold=1.0)
    assert (plan.model_texts, plan.new_rows + plan.left_out) == (32, 64)
    assert {name for name, _, _ in plan.examples} == {"replace", "delete"}


@dataclasses.dataclass(frozen=True)
class Polish(Rated):
    """Stands for a model that writes anew, or gives texts back."""

    model: str = "my/model"
    rate: float = 1.0
    how: str = "some"

    name = "polish"
    is_slow = True
    rewrites = True

    def changed(self, text, partner, draw):
        if self.how == "some" and draw.random() < 0.5:
            return f"in other words {text[::-1]}"
        return f"  {text.upper()} !"  # The same, but for case, white space and punctuation.


def test_rows_that_come_back_as_they_were_are_not_added(splits):
    copies = augment(splits, [Polish()], copies=2)
    rows = copies.train.to_pandas()
    new = rows[rows["augmented_by"] == "polish"]
    assert 40 < len(new) < 88  # of 128
    assert new["text"].str.startswith("in other words").all()
    said = [int(part.split()[0]) for note in copies.notes for part in note.split("; ")[1:]
            if "came back as they were are not added" in part]  # fmt: skip
    assert sum(said) == 128 - len(new)
    alone = augment(splits, [Polish()], copies=2, keep_originals=False)
    assert len(alone.train) == len(new)


def test_if_nothing_comes_back_changed_the_model_is_named(splits, config, tmp_path):
    said = "polish has changed none of 64 rows: 'my/model' gave each back as it was, or empty"
    with pytest.raises(DataError, match=said):
        augment(splits, [DeleteWords(0.5), Polish(how="none")], copies=2)
    with pytest.raises(DataError, match="with rate=0 changes none of 64 rows"):
        augment(splits, [Polish(how="none", rate=0)])
    # Few rows say little: a plan tells of them, and the run may fare better.
    plan = plan_augmentation(config, [Polish(how="none")])
    assert "of the first rows alone: polish has changed none of 3 rows" in plan.notes[-1]
    with pytest.raises(DataError, match="polish has changed none of 32 rows"):
        augment_data(config, [Polish(how="none")], output_dir=tmp_path / "none")


def test_seq2seq_techniques_write_anew(seq2seq_model, splits):
    """A model that writes nothing leaves the rows as they were."""
    technique = Summarize(seq2seq_model, max_new_tokens=1)
    assert apply(technique, ["good film"]) == ["good film"]
    with pytest.raises(DataError, match=f"summarize has changed none of 64 rows: '{seq2seq_model}"):
        augment(splits, [technique])
    assert BackTranslate.rewrites
    assert not ReplaceTokens.rewrites


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "mask", "--with-model", "./nothere"], "--with-model './nothere': there"),
        (["--method", "mask", "--with-model", "no such"], "--with-model 'no such': there is no"),
        (["--method", "mask"], "model_name_or_path './neither': there is no such folder"),
        (["--method", "delete", "--similarity", "2"], "--similarity must be in (0, 1], got 2.0"),
        (["--method", "delete", "--augment-seed", "-1"], "--augment-seed must be a whole number"),
    ],
)
def test_the_option_that_was_typed_is_named(words, said, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("model_name_or_path: ./neither\ntrain_file: nowhere.csv\n")
    with pytest.raises(SystemExit):
        main(["data", "augment", str(path), *words])
    assert said in capsys.readouterr().err


def test_a_model_is_asked_for_once_on_the_hub(monkeypatch):
    import huggingface_hub

    asked = []

    def model_info(name, timeout):
        asked.append(name)
        if name == "nothere":
            raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    check_presence("org/there", key="--with-model")
    with pytest.raises(ConfigurationError, match=r"--with-model 'nothere': .* cannot be asked"):
        check_presence("nothere", key="--with-model")
    assert asked == ["org/there", "nothere"]


def test_an_option_that_no_method_heeds_is_refused(capsys):
    words = ["data", "augment", "config.yaml", "--method", "delete", "swap", "--dry-run"]
    with pytest.raises(SystemExit):
        main([*words, "--top-k", "3"])
    said = "--top-k has no effect on delete, swap; it is for replace"
    assert said in capsys.readouterr().err


def test_the_command(config, tmp_path, capsys, masked_model, monkeypatch):
    from ruamel.yaml import YAML

    monkeypatch.chdir(tmp_path)
    YAML(typ="safe", pure=True).dump(config, Path("config.yaml"))
    words = ["data", "augment", "config.yaml", "--method", "delete", "replace", "--rate", "0.3",
             "--with-model", masked_model, "--output-dir", "out"]  # fmt: skip
    main([*words, "--dry-run"])
    assert "models would work on 32 texts" in capsys.readouterr().out
    assert not Path("out").exists()

    main(words)
    assert "recipe: out/augmented.yaml" in capsys.readouterr().out
    main(["train", "config.yaml", "--recipe", "out/augmented.yaml", "--max-steps", "2",
          "--output-dir", "run"])  # fmt: skip
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "augment", "config.yaml", "--method", "summarize"])
    assert "needs a model; name it with --with-model" in capsys.readouterr().err
