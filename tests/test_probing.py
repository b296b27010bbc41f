"""probe: what each layer tells a linear classifier, against scikit-learn and against paper."""

from __future__ import annotations

import copy
import csv
import json
import math

import numpy as np
import pytest
import torch
import transformers
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression

from hf_stabilizer import ConfigurationError, DataError, LayerMap, pooler_is_dead, probe
from hf_stabilizer.cli import main
from hf_stabilizer.dead_pooler import pooler_strength
from hf_stabilizer.linear_fit import assign_folds
from hf_stabilizer.probe_record import LayerProbe, Probe
from hf_stabilizer.probe_view import plot_probe
from hf_stabilizer.readouts import read_layers
from tests.tiny import SIZES, Rows, same_weights, tiny_bert

collate = transformers.default_data_collator


def pad(rows):
    """A collator that pads on the right with token 0."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor(
        [[*row["input_ids"], *[0] * (width - len(row["input_ids"]))] for row in rows]
    )
    labels = torch.tensor([row["label"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def ragged(count, seed=0):
    """Rows of unequal length whose label is told by their second token."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = random.integers(5, 64, random.integers(3, 9)).tolist()
        rows.append({"input_ids": ids, "label": ids[1] % 2})
    return rows


def read(model, rows, collator=pad, **options):
    options = {"indices": range(len(rows)), "max_examples": 2000, **options}
    layers = LayerMap.from_model(model)
    return read_layers(model, rows, data_collator=collator, layer_map=layers, **options)


# ---- the vectors


@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_vectors_are_those_of_each_row_alone(name):
    cls = getattr(transformers, f"{name}ForSequenceClassification")
    torch.manual_seed(0)
    model = cls(cls.config_class(**SIZES, pad_token_id=0))
    rows = ragged(40)
    found = read(model, rows)
    ends = ("first", 0) if name == "Bert" else ("last", -1)
    model.eval()
    for vector_place, row in enumerate(found.rows):
        ids = torch.tensor([rows[row]["input_ids"]])
        with torch.no_grad():
            out = model.base_model(ids, output_hidden_states=True)
        for depth, state in enumerate(out.hidden_states):
            one = found.vectors[depth, ends[0]][vector_place]
            np.testing.assert_allclose(one, state[0, ends[1]], atol=1e-5)
            mean = found.vectors[depth, "mean"][vector_place]
            np.testing.assert_allclose(mean, state[0].mean(dim=0), atol=1e-5)
        if name == "Bert":
            pooled = found.vectors[3, "pooler"][vector_place]
            np.testing.assert_allclose(pooled, out.pooler_output[0], atol=1e-5)
    assert ((3, "pooler") in found.vectors) == (name == "Bert")
    assert found.targets.tolist() == [rows[row]["label"] for row in found.rows]
    assert sorted(found.rows) == list(range(40))


def test_padding_on_the_left_changes_nothing():
    rows = ragged(40)
    model = tiny_bert(pad_token_id=0)

    def pad_left(rows):
        batch = pad(rows)
        order = (batch["input_ids"] != 0).long().argsort(dim=1, stable=True)
        ids, mask = (batch[key].gather(1, order) for key in ("input_ids", "attention_mask"))
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return {**batch, "input_ids": ids, "attention_mask": mask, "position_ids": places}

    right, left = read(model, rows), read(model, rows, pad_left)
    for place in [(0, "first"), (3, "first"), (3, "mean")]:
        np.testing.assert_allclose(left.vectors[place], right.vectors[place], atol=1e-5)


def test_of_a_tagger_labelled_tokens_are_the_examples_until_there_are_enough():
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(transformers.BertConfig(**SIZES, num_labels=3))
    ids = torch.randint(5, 64, (100, 6))
    labels = torch.where(torch.arange(6) % 2 == 0, ids % 3, -100)
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    found = read(model, rows, collate, max_examples=100)
    assert list(found.vectors) == [(depth, "token") for depth in range(4)]
    assert len(found.targets) == 2 * 32 * 3  # the second batch of 32 rows brings the hundredth
    assert len(np.unique(found.rows)) == 64
    np.testing.assert_array_equal(found.targets, (ids % 3)[:64, ::2].reshape(-1))
    with torch.no_grad():
        top = model.eval().bert(ids[:64]).last_hidden_state[:, ::2].reshape(-1, 16)
    np.testing.assert_allclose(found.vectors[3, "token"], top, atol=1e-5)


# ---- the scores


def test_scores_are_those_of_scikit_learn_on_the_same_folds():
    model, rows = tiny_bert(num_labels=3, num_hidden_layers=1), Rows(90, num_labels=3)
    found = probe(model, rows, data_collator=collate)
    seen = read(model, rows, collate, indices=np.random.default_rng(0).permutation(90).tolist())
    folds = assign_folds(seen.targets)
    for each in found.probes:
        x, y = seen.vectors[each.depth, each.readout].astype(float), seen.targets
        right = np.zeros(90)
        for fold in range(5):
            out = folds == fold
            penalty = 1 / (each.l2 * (~out).sum())
            fit = LogisticRegression(C=penalty, tol=1e-6, max_iter=10_000).fit(x[~out], y[~out])
            right[out] = fit.predict(x[out]) == y[out]
        assert each.score == pytest.approx(right.mean(), abs=0.035)  # our fits end at 1e-4
        by_fold = [right[folds == fold].mean() for fold in range(5)]
        assert each.fold_scores == pytest.approx(by_fold, abs=0.12)
        assert each.spread == pytest.approx(np.sqrt(x.var(axis=0).mean()))
    assert found.baseline == pytest.approx(max(np.bincount(seen.targets)) / 90, abs=0.02)
    # The first token tells the label, the mean of all does so less well.
    assert found.best.readout == "first"
    assert found.beats_baseline


def test_changes_nothing_and_draws_nothing():
    model, before = tiny_bert(num_hidden_layers=1), tiny_bert(num_hidden_layers=1)
    model.bert.encoder.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = probe(model, Rows(), data_collator=collate)
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    assert same_weights(model, before)
    assert modes == [module.training for module in model.modules()]
    np.random.seed(3)
    torch.manual_seed(6)
    assert probe(model, Rows(), data_collator=collate) == first


def test_rows_of_a_group_are_not_learnt_by_heart():
    """Twenty films of three equal reviews each, fresh or rotten at random."""
    ids = torch.randint(5, 64, (20, 8), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": ids[k % 20], "labels": k % 20 % 2} for k in range(60)]
    films = [f"film {k % 20}" for k in range(60)]
    model = tiny_bert(num_hidden_layers=1)
    apart = probe(model, rows, data_collator=collate)
    together = probe(model, rows, data_collator=collate, groups=films)
    assert apart.best.score == 1.0
    assert together.best.score < 0.8


def test_of_many_rows_a_fixed_sample_is_read():
    model = tiny_bert(num_hidden_layers=1)
    found = probe(model, Rows(200), data_collator=collate, max_examples=64)
    assert (found.examples, found.rows, found.rows_given) == (64, 64, 200)
    assert found == probe(model, Rows(200), data_collator=collate, max_examples=64)


def model_for(task, **options):
    torch.manual_seed(0)
    kinds = {"tags": "TokenClassification", "choices": "MultipleChoice"}
    cls = getattr(transformers, f"BertFor{kinds.get(task, 'SequenceClassification')}")
    return cls(transformers.BertConfig(**{**SIZES, **options}))


@pytest.mark.parametrize(
    ("task", "options", "problem", "metric", "baseline"),
    [
        # 20 of 40 rows are of class 0 and 10 each of 1 and 2.
        ("classes", {"num_labels": 3}, "single_label_classification", "accuracy", 0.5),
        # Label 0 is always there, label 1 in 8 rows: F1 is 1 and 0.
        ("flags", {"num_labels": 2}, "multi_label_classification", "f1_macro", 0.5),
        # 0, 1, 0, 1, ...: the mean is wrong by one half.
        ("number", {"num_labels": 1}, "regression", "rmse", 0.5),
        # Two in three tokens have tag 0, whose F1 is 2 (2/3) / (1 + 2/3) = 0.8; that of 1 is 0.
        ("tags", {"num_labels": 2}, "single_label_classification", "f1_macro", 0.4),
        # The last choice is right in half of the rows.
        ("choices", {}, "multiple_choice", "accuracy", 0.5),
    ],
)
def test_every_task_with_its_baseline_by_hand(task, options, problem, metric, baseline):
    shape = (40, 3, 6) if task == "choices" else (40, 6)
    ids = torch.randint(5, 64, shape, generator=torch.Generator().manual_seed(2))
    k = torch.arange(40)
    labels = {
        "classes": (k % 4).clamp(min=1) - 1,
        "flags": torch.stack([torch.ones(40), (k % 5 == 0).float()], dim=1),
        "number": (k % 2).float(),
        "tags": (torch.arange(6) % 3 == 0).long().expand(40, 6),
        "choices": 2 - (k % 4 == 0).long() - 2 * (k % 4 == 1).long() * (k % 8 == 1),
    }[task]
    if task == "choices":
        labels = torch.tensor([0, 1, 2, 2])[k % 4]
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    found = probe(model_for(task, **options), rows, data_collator=collate)
    assert (found.problem, found.metric) == (problem, metric)
    assert found.baseline == pytest.approx(baseline, abs=1e-9)
    readouts = {each.readout for each in found.probes}
    assert readouts == ({"token"} if task == "tags" else {"first", "mean", "pooler"})
    assert found.unit == ("tokens" if task == "tags" else "rows")
    assert found.greater_is_better == (metric != "rmse")
    assert all(math.isfinite(each.score) for each in found.probes)
    assert len(found.probes) == (4 if task == "tags" else 9)


def test_what_a_layer_cannot_show_it_does_not_show():
    """Without attention the first token knows nothing of the second, which tells the label."""
    model = tiny_bert()
    with torch.no_grad():
        for block in model.bert.encoder.layer[:2]:
            block.attention.output.dense.weight.zero_()
    rows = [{"input_ids": [9, 10 + k % 2, 20 + k % 7], "labels": k % 2} for k in range(60)]
    found = probe(model, rows, data_collator=collate)
    scores = {(each.depth, each.readout): each.score for each in found.probes}
    assert [scores[depth, "first"] for depth in range(4)] == [0.5, 0.5, 0.5, 1.0]
    assert scores[0, "mean"] == 1.0


def test_one_block_run_many_times_has_no_blocks_to_redraw():
    torch.manual_seed(0)
    config = transformers.AlbertConfig(**SIZES, embedding_size=16)
    model = transformers.AlbertForSequenceClassification(config)
    found = probe(model, Rows(), data_collator=collate)
    assert found.blocks is None
    assert found.reinit_layers is None
    assert [each.layer for each in found.probes][-1] == "state_03"


def test_of_an_encoder_decoder_the_decoder_goes_on_above():
    options = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=64, num_layers=2, num_decoder_layers=1, **options)
    model = transformers.T5ForSequenceClassification(config)
    rows = [{"input_ids": [5 + k % 2, 9 + k % 5, 1], "labels": k % 2} for k in range(30)]
    found = probe(model, rows, data_collator=collate)
    labels = [each.layer for each in found.probes if each.readout == "mean"]
    assert labels == ["embeddings", "layer_01", "layer_02", "layer_03"]
    assert {each.readout for each in found.probes} == {"last", "mean", "pooler"}


# ---- what they say together


def made(depth, readout, folds, spread=1.0):
    score = float(np.mean(folds))
    return LayerProbe(depth, f"layer_{depth:02d}", readout, score, tuple(folds), spread, 0.1)


def record(*probes, **options):
    values = {
        "problem": "single_label_classification",
        "metric": "accuracy",
        "greater_is_better": True,
        "unit": "rows",
        "examples": 100,
        "rows": 100,
        "rows_given": 100,
        "probes": probes,
        "baseline": 0.5,
        "baseline_folds": (0.5,) * 5,
        "blocks": 3,
        "pooler_strength": 1.0,
        "identity_fits": True,
    }
    return Probe(**{**values, **options})


RISING = (
    made(0, "mean", (0.60, 0.62, 0.58, 0.61, 0.59)),
    made(1, "mean", (0.70, 0.72, 0.68, 0.71, 0.69)),
    made(2, "mean", (0.78, 0.82, 0.75, 0.85, 0.80)),
    made(3, "mean", (0.80, 0.84, 0.76, 0.86, 0.79)),
)


def test_the_lowest_layer_within_one_standard_error_by_hand():
    """The top has .81 and, its folds' deviations being -.01 .03 -.05 .05 -.02, a standard error
    of sqrt(.0064 / 4 / 5) = .0179: .80 is within it, .70 is not."""
    found = record(*RISING)
    assert found.best.standard_error == pytest.approx(math.sqrt(0.0064 / 20))
    assert (found.best.depth, found.enough.depth, found.reinit_layers) == (3, 2, 1)
    assert "the top block is a candidate" in " ".join(found.recommendation)
    assert "reinit_layers: 1" in " ".join(found.recommendation)


def test_errors_are_better_when_smaller():
    """The same numbers as errors: the embeddings are best, and no block helps."""
    found = record(*RISING, greater_is_better=False, metric="rmse", baseline_folds=(0.9,) * 5)
    assert (found.best.depth, found.enough.depth, found.reinit_layers) == (0, 0, 0)
    assert "The embeddings alone do as well" in " ".join(found.recommendation)


def test_nothing_better_than_the_baseline_is_said_to_be_nothing():
    weak = made(2, "mean", (0.5, 0.56, 0.48, 0.55, 0.49))
    found = record(weak, made(3, "mean", (0.5, 0.5, 0.5, 0.5, 0.5)))
    assert not found.beats_baseline
    assert found.reinit_layers == 0
    assert found.recommendation[0].startswith("No layer tells")
    assert not any("re-initial" in sentence for sentence in found.recommendation)


@pytest.mark.parametrize(
    ("scores", "strength", "dead", "words"),
    [
        # Below in every fold, by .1 +- .009: 11 standard errors.
        ((0.70, 0.72, 0.68, 0.77, 0.68), 1.0, True, "looks dead"),
        # Below by .01 +- .01 on the mean.
        ((0.80, 0.80, 0.79, 0.86, 0.75), 1.0, False, "is alive"),
        # As good, but a fifth of what a fresh one would weigh.
        ((0.80, 0.84, 0.76, 0.86, 0.79), 0.2, True, "0.20 of freshly drawn ones"),
        ((0.90, 0.94, 0.86, 0.96, 0.89), None, False, "is alive"),
    ],
)
def test_a_pooler_is_dead_if_it_loses_or_has_faded(scores, strength, dead, words):
    pooler = made(3, "pooler", scores, spread=0.04)
    found = record(*RISING, pooler, pooler_strength=strength)
    assert found.dead_pooler is dead
    said = " ".join(found.recommendation)
    assert words in said
    assert ("reinit_pooler: identity" in said) == dead
    assert "vary by 0.04" in said


def test_a_model_without_a_pooler_has_no_dead_one():
    found = record(*RISING, pooler_strength=None, identity_fits=False)
    assert found.pooler is None
    assert found.dead_pooler is None
    assert "pooler" not in " ".join(found.recommendation)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"identity_fits": False}, "training has to win that back, try fit_head: true"),
        (
            {"identity_fits": False, "pooler_strength": 0.3},
            "reinit_pooler: true and fit_head: true",
        ),
        ({"problem": "regression"}, "compare reinit_pooler: identity in a study"),
    ],
)
def test_the_way_out_is_one_that_this_model_has(options, words):
    pooler = made(3, "pooler", (0.70, 0.72, 0.68, 0.77, 0.68))
    assert words in " ".join(record(*RISING, pooler, **options).recommendation)


def test_records_are_flat_and_end_with_the_baseline():
    records = record(*RISING).to_records()
    assert [each["depth"] for each in records] == [0, 1, 2, 3, None]
    assert records[-1]["readout"] == "baseline"
    assert {frozenset(each) for each in records} == {frozenset(records[0])}
    json.dumps(records)


# ---- faded weights


def test_strength_is_measured_against_what_the_architecture_draws():
    """BERT draws with std 0.02, so 0.02 x 0.3 everywhere is 0.3; ModernBERT draws smaller."""
    model = tiny_bert(hidden_size=64)
    with torch.no_grad():
        model.bert.pooler.dense.weight.fill_(0.006)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    assert pooler_strength(model) == pytest.approx(0.3, abs=0.02)
    assert pooler_is_dead(model) is True
    assert same_weights(model, before)
    assert torch.equal(state, torch.get_rng_state())
    config = transformers.ModernBertConfig(**{**SIZES, "hidden_size": 64, "pad_token_id": 0})
    torch.manual_seed(0)
    fresh = transformers.ModernBertForSequenceClassification(config)
    assert pooler_strength(fresh) == pytest.approx(1.0, abs=0.1)


def test_without_a_pooler_or_its_weights_there_is_nothing_to_tell():
    config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2)
    assert pooler_is_dead(transformers.GPT2ForSequenceClassification(config)) is None
    with torch.device("meta"):
        assert pooler_is_dead(tiny_bert()) is None


def test_a_faded_pooler_is_found_by_the_probe():
    model = tiny_bert()
    with torch.no_grad():
        model.bert.pooler.dense.weight.mul_(0.1)
    found = probe(model, Rows(40), data_collator=collate)
    assert found.dead_pooler
    assert found.pooler.spread < 0.2 * found.top.spread
    assert found.identity_fits


# ---- refusals


@pytest.mark.parametrize(
    ("rows", "options", "error", "words"),
    [
        (Rows(8), {}, DataError, "probe needs 10 labelled examples at least, got 8"),
        ([], {}, DataError, "the dataset has no rows"),
        (iter([]), {}, DataError, "collect a stream's rows in a list"),
        (Rows(), {"max_examples": 5}, ConfigurationError, "max_examples must be a whole number"),
        (Rows(), {"metric": "acuracy"}, ConfigurationError, "did you mean accuracy"),
        (Rows(), {"metric": "rmse"}, ConfigurationError, "'rmse' does not fit"),
        (Rows(), {"groups": ["a"]}, DataError, "groups must have a value for each of the 32 rows"),
        (Rows(), {"groups": [0, 1] * 16}, DataError, "5 groups or texts at least.*got 2"),
        ([{"input_ids": [5, 6]}] * 12, {}, DataError, 'must make "labels"'),
        ([{"input_ids": [5, 6], "label": 1}] * 12, {}, DataError, "every label is 1"),
    ],
)
def test_refuses_in_one_sentence(rows, options, error, words):
    with pytest.raises(error, match=words):
        probe(tiny_bert(), rows, data_collator=collate, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BertForMaskedLM", "probe cannot take .*language model's head"),
        ("BertForQuestionAnswering", "probe cannot take a question-answering model"),
        ("BertModel", "probe needs a last linear layer"),
    ],
)
def test_refuses_models_that_it_is_not_for(name, words):
    model = getattr(transformers, name)(transformers.BertConfig(**SIZES))
    with pytest.raises(ConfigurationError, match=words):
        probe(model, Rows(), data_collator=collate)


def test_refuses_a_collator_that_makes_two_rows_of_one():
    with pytest.raises(DataError, match="the collator made 64 rows of 32; probe needs one"):
        probe(tiny_bert(), Rows(), data_collator=lambda rows: collate([*rows, *rows]))


# ---- on the command line


@pytest.fixture
def config_file(config, tmp_path):
    path = tmp_path / "tiny.yaml"
    YAML(typ="safe", pure=True).dump(config, path)
    return path


def test_the_command_prints_a_table_and_advice_and_writes_files(config_file, tmp_path, capsys):
    picture, table = tmp_path / "out" / "probe.svg", tmp_path / "out" / "probe.csv"
    main(["probe", str(config_file), "--plot", str(picture), "--output", str(table)])
    out = capsys.readouterr().out
    for word in ("embeddings", "layer_02", "first", "mean", "pooler", "baseline", "64 training"):
        assert word in out
    assert "Fine-tuning has to beat that" in out
    assert "<svg" in picture.read_text()
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["layer"] for line in lines].count("layer_02") == 3
    assert float(lines[-1]["score"]) == pytest.approx(0.5, abs=0.1)
    assert len(lines[0]["fold_scores"].split()) == 5
    main(["probe", str(config_file), "--json", "--max-examples", "40", "--metrics", "f1_macro"])
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["rows_given"], found["metric"]) == (40, 64, "f1_macro")
    assert len(found["probes"]) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "probe.txt"], "plot must end in .png, .pdf or .svg"),
        (["--output", "probe.txt"], "output must end in .csv"),
        (["--output", "tiny.yaml/x.csv"], "is a file"),
        (["--max-examples", "3"], "max_examples must be a whole number from 10 up"),
        (["--max-example", "30"], "did you mean --max-examples"),
    ],
)
def test_bad_input_is_one_sentence(words, message, config_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["probe", str(config_file), *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in err
    assert "Traceback" not in err


def test_the_picture_shows_every_layer_and_the_pooler():
    pooler = made(3, "pooler", (0.70, 0.72, 0.68, 0.77, 0.68))
    axes = plot_probe(record(*RISING, pooler)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        f"layer_{depth:02d}" for depth in range(4)
    ]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["mean", "baseline", "pooler (dead)"]
    assert axes.lines[0].get_ydata().tolist() == [each.score for each in RISING]
