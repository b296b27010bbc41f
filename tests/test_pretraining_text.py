"""Which text is learnt from, as which rows, and under which masks: all without training."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_stabilizer.data import DataArguments, Splits, load_splits
from hf_stabilizer.data.near_duplicates import normalized
from hf_stabilizer.errors import DataError
from hf_stabilizer.pretraining.masking import IGNORED, LanguageModelingCollator
from hf_stabilizer.pretraining.perplexity import token_losses
from hf_stabilizer.pretraining.rows import (
    Frame,
    as_dataset,
    encode_texts,
    make_pair_rows,
    make_rows,
)
from hf_stabilizer.pretraining.sentences import sentence_pairs, split_sentences
from hf_stabilizer.pretraining.stopping import looks_in_vain
from hf_stabilizer.pretraining.texts import Corpus, collect_texts
from tests.pretraining_models import causal_tokenizer, tokenizer, write_texts


def backwards(text: str) -> str:
    return " ".join(reversed(text.split()))


def splits_of(folder: Path, train: list[str], others: list[str], free: list[str]) -> Splits:
    """Rows of four files; the others are validation rows and, word by word backwards, test rows."""
    names = ("train", "validation", "test")
    texts = (train, others, [backwards(text) for text in others])
    files = {
        f"{name}_file": str(write_texts(folder / f"{name}.csv", rows, labelled=True))
        for name, rows in zip(names, texts, strict=True)
    }
    free_file = str(write_texts(folder / "free.csv", free))
    return load_splits(
        DataArguments(unlabelled_file=free_file, **files), task="text-classification"
    )


def collected(splits: Splits, **options: Any) -> Corpus:
    plain = {"include_validation": False, "include_test": False, "held_out": 0.2, "seed": 0}
    return collect_texts(splits, **{**plain, **options})


TRAIN = ["a long walk by the river", "nobody told us about it", "eight of nine were right"]
JUDGES = ["the whole cast shines in every scene", "an empty and weary exercise"]
FREE = [
    *("The WHOLE cast shines, in every scene!", "the whole cast shines in every scenes"),
    *("a long  walk by the river", "what a day", "some other words", "more of the same text"),
]


def test_nothing_near_a_validation_or_test_text_is_learnt(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, TRAIN, JUDGES, [*FREE, backwards(JUDGES[1])])
    corpus = collected(splits)
    texts = {normalized(text) for text in (*corpus.train_texts, *corpus.held_out_texts)}
    assert texts == {normalized(text) for text in (*TRAIN, *FREE[3:])}
    assert corpus.counts["repeated"] == 1
    assert corpus.counts["near a validation text"] == 2
    assert corpus.counts["near a test text"] == 1
    assert corpus.counts["learnt from"] == len(corpus.train_texts) == 5
    assert corpus.counts["held out"] == len(corpus.held_out_texts) == 1


def test_a_document_that_holds_a_validation_text_is_left_out(tmp_path: Path) -> None:
    around = "somebody wrote this at great length : {} , and went on for a while after that"
    held, short = around.format(JUDGES[0].upper()), around.format("the whole cast shines")
    corpus = collected(splits_of(tmp_path, TRAIN, JUDGES, [held, short, "what a day"]))
    texts = {*corpus.train_texts, *corpus.held_out_texts}
    assert texts == {*TRAIN, short, "what a day"}
    assert corpus.counts["near a validation text"] == 1


@pytest.mark.parametrize("part", ["validation", "test"])
def test_only_a_flag_lets_them_in(tmp_path: Path, part: str) -> None:
    splits = splits_of(tmp_path, TRAIN, JUDGES, FREE)
    corpus = collected(splits, **{f"include_{part}": True})
    texts = {*corpus.train_texts, *corpus.held_out_texts}
    wanted = JUDGES if part == "validation" else [backwards(text) for text in JUDGES]
    assert corpus.counts[f"{part} texts"] == 2
    assert f"near a {part} text" not in corpus.counts
    assert {normalized(text) for text in wanted} <= {normalized(text) for text in texts}


def test_a_training_text_that_is_a_validation_text_is_left_out_as_well(tmp_path: Path) -> None:
    corpus = collected(splits_of(tmp_path, [*TRAIN, JUDGES[0]], JUDGES, FREE))
    assert JUDGES[0] not in {*corpus.train_texts, *corpus.held_out_texts}


def test_held_out_documents_are_seeded(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, TRAIN, JUDGES, FREE)
    assert collected(splits) == collected(splits)
    assert len({collected(splits, seed=seed).held_out for seed in range(6)}) > 1


def test_no_text_is_an_error(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, [JUDGES[0], JUDGES[1]], JUDGES, [JUDGES[0]])
    with pytest.raises(DataError, match=r"no row of text is left .* 1 repeated, 2 near a valid"):
        collected(splits)


def test_packed_and_padded_rows_by_hand() -> None:
    words = tokenizer()
    frame = Frame.of(words)
    assert (frame.before, frame.after, frame.between) == ((2,), (3,), (3,))
    texts = ["the film was good", "bad cast", "the plot"]
    encoded = encode_texts(texts, words, whole_words=False)
    assert [len(one.ids) for one in encoded] == [4, 2, 2]
    # 4 + 2 + 2 tokens and 2 marks between: 10 tokens in rows of 6 - 2.
    packed = make_rows(encoded, frame, max_length=6, packing=True)
    assert [len(row["input_ids"]) for row in packed] == [6, 6, 4]
    inside = [token for row in packed for token in row["input_ids"][1:-1]]
    joined = "the film was good [SEP] bad cast [SEP] the plot"
    assert words.convert_ids_to_tokens(inside) == joined.split()
    padded = make_rows(encoded, frame, max_length=5, packing=False)
    assert [len(row["input_ids"]) for row in padded] == [5, 3, 4, 4]
    # Each row counts its own words: the masks of a batch draw a number for each of them.
    assert [row["words"] for row in packed] == [
        [-1, 0, 1, 2, 3, -1],
        [-1, -1, 0, 1, -1, -1],
        [-1, 0, 1, -1],
    ]
    assert padded[1]["words"] == [-1, 0, -1]


def test_a_decoder_learns_where_each_text_ends() -> None:
    words = causal_tokenizer()
    frame = Frame.of(words)
    encoded = encode_texts(["the film", "bad"], words, whole_words=False)
    row = make_rows(encoded, frame, max_length=8, packing=True)[0]
    assert words.convert_ids_to_tokens(row["input_ids"]) == ["the", "film", "</s>", "bad", "</s>"]
    words.pad_token = words.eos_token  # as `load_tokenizer` does: its labels must stay
    batch = LanguageModelingCollator(words, objective="clm")(
        list(as_dataset(make_rows(encoded, frame, max_length=8, packing=False)))
    )
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"][1].tolist() == [batch["input_ids"][1, 0], frame.between[0], IGNORED]


def masked(
    texts: list[str], *, whole: bool, share: float = 0.15, seed: int = 0, epoch: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns ids before, ids after, labels and words of one batch of padded rows."""
    words = tokenizer()
    encoded = encode_texts(texts, words, whole_words=whole)
    rows = list(as_dataset(make_rows(encoded, Frame.of(words), max_length=32, packing=False)))
    collator = LanguageModelingCollator(words, objective="mlm", mlm_probability=share, seed=seed)
    collator.epoch = epoch
    before = LanguageModelingCollator(words, objective="clm")(rows)["input_ids"]
    batch = collator(rows)
    width = before.shape[1]
    of_words = torch.tensor([row["words"] + [-1] * (width - len(row["words"])) for row in rows])
    return before, batch["input_ids"], batch["labels"], of_words


@pytest.mark.parametrize("whole", [False, True])
def test_masks_come_at_their_rate_and_80_10_10(whole: bool) -> None:
    texts = ["unable acting film was very good", "the plot was not bad and unable"] * 1500
    before, after, labels, words = masked(texts, whole=whole)
    told = labels != IGNORED
    may = words >= 0
    count = int(may.sum())
    # Tokens of one word are drawn together: the variance is at most twice that of free draws.
    width = 4 * math.sqrt(0.15 * 0.85 * 2 / count)
    assert abs(float(told[may].float().mean()) - 0.15) < width
    assert not told[~may].any()
    assert torch.equal(labels[told], before[told])
    assert torch.equal(after[~told], before[~told])
    chosen = int(told.sum())
    marks = float((after[told] == 4).float().mean())
    same = float((after[told] == before[told]).float().mean())
    vocabulary = len(tokenizer())
    assert abs(marks - (0.8 + 0.1 / vocabulary)) < 4 * math.sqrt(0.16 / chosen)
    assert abs(same - (0.1 + 0.1 / vocabulary)) < 4 * math.sqrt(0.09 / chosen)


def test_pieces_of_a_word_are_masked_together_only_if_asked() -> None:
    texts = ["unable film acting was good"] * 400
    for whole in (True, False):
        labels = masked(texts, whole=whole, share=0.4)[2]
        told = labels != IGNORED
        # "un ##able" lie at the first two places behind [CLS].
        together = bool((told[:, 1] == told[:, 2]).all())
        assert together == whole


def test_a_mask_depends_on_seed_epoch_and_rows_alone() -> None:
    texts = ["the film was very good", "the plot was not bad"] * 8

    def drawn(**keys: int) -> list[list[int]]:
        return masked(texts, whole=False, **keys)[2].tolist()

    state = torch.get_rng_state()
    first = drawn()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    assert drawn() == first
    assert drawn(epoch=1) != first
    assert drawn(seed=1) != first


def test_a_batch_never_goes_without_a_mask() -> None:
    for epoch in range(60):
        labels = masked(["good"], whole=False, epoch=epoch)[2]
        assert int((labels != IGNORED).sum()) == 1


def test_held_out_masks_stay_and_empty_rows_go() -> None:
    words = tokenizer()
    encoded = encode_texts(["the film", "bad cast", "plot"] * 40, words, whole_words=False)
    rows = as_dataset(make_rows(encoded, Frame.of(words), max_length=8, packing=False))
    collator = LanguageModelingCollator(words, objective="mlm", seed=3)
    first = collator.fix_masks(rows)
    collator.epoch = 9
    assert first.to_dict() == collator.fix_masks(rows).to_dict()
    assert 0 < len(first) < len(rows)
    assert all(max(row["labels"]) > IGNORED for row in first)
    some = list(first)[:4]
    batch = collator(some)
    assert batch["labels"][0, : len(some[0]["labels"])].tolist() == some[0]["labels"]


def test_half_of_the_pairs_are_true_and_half_of_another_document() -> None:
    documents = [[". ".join(f"d{d} s{s}" for s in range(5)) + "."] for d in range(7)]
    pairs = sentence_pairs(documents, seed=4)
    assert Counter(pair.is_drawn for pair in pairs) == {0: 14, 1: 14}
    for pair in pairs:
        document, place = pair.first.rstrip(".").split()
        other, second = pair.second.rstrip(".").split()
        if pair.is_drawn:
            assert other != document
        else:
            assert (other, int(second[1:])) == (document, int(place[1:]) + 1)
    assert pairs == sentence_pairs(documents, seed=4)
    assert pairs != sentence_pairs(documents, seed=5)


def test_an_odd_pair_is_left_out() -> None:
    pairs = sentence_pairs([["One. Two. Three."], ["Four. Five."]], seed=0)
    assert sorted(pair.is_drawn for pair in pairs) == [0, 1]


@pytest.mark.parametrize("documents", [[["One. Two. Three."]], [["One."], ["Two."]]])
def test_too_few_sentences_are_an_error(documents: list[list[str]]) -> None:
    with pytest.raises(DataError, match="two documents and two pairs of sentences"):
        sentence_pairs(documents, seed=0)


def test_sentences_end_where_they_end() -> None:
    assert split_sentences("Is it? Yes! (It is.) 3.5 is.\n\nnew") == [
        *("Is it?", "Yes!", "(It is.)", "3.5 is.", "new"),
    ]


def test_rows_of_pairs_know_their_segments_and_words() -> None:
    words = tokenizer()
    pairs = sentence_pairs([["the film. unable. good."], ["bad. weak. poor."]], seed=1)
    rows = make_pair_rows(pairs, words, max_length=12, whole_words=True)
    for row, pair in zip(rows, pairs, strict=True):
        assert row["next_sentence_label"] == pair.is_drawn
        kinds, ids = row["token_type_ids"], row["input_ids"]
        second = [t for t, kind in zip(ids, kinds, strict=True) if kind == 1]
        assert words.decode(second[:-1]).replace(" .", ".") == pair.second
        of_first = {w for w, kind in zip(row["words"], kinds, strict=True) if kind == 0} - {-1}
        of_second = {w for w, kind in zip(row["words"], kinds, strict=True) if kind == 1} - {-1}
        assert not of_first & of_second


def test_losses_by_hand() -> None:
    # Two classes: p = 3/4 for the first, so -ln(3/4) and -ln(1/4).
    logits = torch.log(torch.tensor([[[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]]))
    labels = torch.tensor([[0, 1, -100]])
    plain = token_losses(logits, labels, is_causal=False)[0].tolist()
    assert plain == pytest.approx([-math.log(0.75), -math.log(0.25), 0.0], abs=1e-6)
    # Causal: the first place predicts the second token, and nothing predicts the first.
    causal = token_losses(logits, torch.tensor([[1, 0, 0]]), is_causal=True)[0].tolist()
    assert causal == pytest.approx([0.0, -math.log(0.75), -math.log(0.75)], abs=1e-6)


def test_looks_in_vain_are_counted_as_the_trainer_counts_them() -> None:
    def lines(*values: float) -> list[dict[str, float]]:
        return [{"eval_perplexity": value} for value in values] + [{"loss": 1.0}]

    assert looks_in_vain(lines()) == 0
    assert looks_in_vain(lines(5, 4, 3)) == 0
    assert looks_in_vain(lines(5, 4, 4, 6)) == 2
    assert looks_in_vain(lines(5, 6, 4, 9)) == 1
