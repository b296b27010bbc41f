"""From text to text: targets, generation in evaluations, how sure the model is of what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from hf_stabilizer import run_study, train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import load_splits
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.learning_rates import layerwise_decay
from hf_stabilizer.optimizers import layered_optimizer
from hf_stabilizer.predictions import read_predictions
from hf_stabilizer.run import build_trainer, prepare_data
from hf_stabilizer.scores.texts import rouge
from hf_stabilizer.tasks import PreparedTask
from hf_stabilizer.tasks.entropy import written_tokens
from hf_stabilizer.tasks.targets import whole_targets
from tests.tiny import TRAINING, WORDS, same_weights, save_tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save_tiny(folder / name, name) for name in ("t5", "bart")}


@pytest.fixture
def config(models: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    draw = np.random.RandomState(0)
    texts = [[str(word) for word in draw.choice(WORDS, draw.randint(3, 9))] for _ in range(40)]
    rows = {"text": [" ".join(t) for t in texts], "target": [" ".join(t[::-1]) for t in texts]}
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv")
    return {
        "task": "seq2seq",
        "model_name_or_path": models["t5"],
        "train_file": str(tmp_path / "rows.csv"),
        "validation_size": 10,
        "test_size": 6,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 4,
        "num_train_epochs": 2,
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "out"),
    }


def test_targets_by_hand(config: dict[str, Any]) -> None:
    prepared = prepare_data(load_configuration({**config, "max_target_length": 5}))
    vocabulary = tiny_tokenizer().get_vocab()
    rows = pd.read_csv(config["train_file"])
    wanted = {
        tuple(vocabulary[word] for word in text.split()): [vocabulary[w] for w in target.split()]
        for text, target in zip(rows["text"], rows["target"], strict=True)
    }
    for row in prepared.train:
        target = wanted[tuple(row["input_ids"][1:-1])]
        assert row["labels"] == [2, *target[:3], 3]
    batch = prepared.data_collator([prepared.train[place] for place in range(8)])
    assert set(batch["labels"].unique().tolist()) >= {2, 3}
    assert (prepared.num_labels, prepared.label_names) == (0, None)


def test_a_run_writes_scores_and_keeps_its_texts(config: dict[str, Any], tmp_path: Path) -> None:
    run = train({**config, "generation_num_beams": 2})
    assert run.metric == "bleu"
    assert run.test_score is not None
    found = read_predictions(tmp_path / "out")
    assert found is not None
    assert found.validation is not None
    assert found.validation.dtype.kind == "i"
    assert len(found.validation) == 10
    metrics = run.evaluations[-1][1]
    assert {"loss", "bleu", "rouge_l", "mean_token_entropy"} <= set(metrics)
    assert 0 < metrics["mean_token_entropy"] <= np.log(64)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out" / "model")
    assert model.config.model_type == "t5"


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_entropy_is_that_of_the_generation(
    name: str, config: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    """The slow way: the logits that `generate` saw, text by text, up to its end."""
    configuration = load_configuration({**config, "model_name_or_path": models[name]})
    prepared = prepare_data(configuration)
    trainer = build_trainer(configuration, tmp_path, prepared, quiet=True)
    found = trainer.evaluate()["eval_mean_token_entropy"]
    model: Any = trainer.model
    length = trainer.args.generation_max_length  # type: ignore[attr-defined]
    assert length == max(map(len, prepared.train["labels"])) + 1
    entropies: list[float] = []
    for row in prepared.validation:
        options = {"max_length": length, "output_logits": True, "return_dict_in_generate": True}
        out = model.generate(torch.tensor([row["input_ids"]]), **options)
        for token, logits in zip(out.sequences[0, 1:], out.logits, strict=True):
            log = logits[0].log_softmax(-1)
            entropies.append(float(-(log.exp() * log).sum()))
            if token == 3:
                break
    assert len(entropies) > len(prepared.validation)
    assert found == pytest.approx(np.mean(entropies), rel=1e-4)


def test_scores_are_of_whole_targets_however_short_labels_are_cut(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """A model that stops where the labels were cut, after two words, has not said all."""
    values = {**config, "max_target_length": 4, "metrics": ["rouge_1"], "max_steps": 2}
    configuration = load_configuration(values)
    splits, prepared = (
        load_splits(configuration.data, task="seq2seq"),
        prepare_data(configuration),
    )
    trainer = build_trainer(configuration, tmp_path / "built", prepared, quiet=True)
    assert trainer.compute_metrics is not None
    assert splits.test is not None
    for rows, part in ((splits.validation, prepared.validation), (splits.test, prepared.test)):
        assert part is not None
        ids = [row + [-100] * (40 - len(row)) for row in part["input_ids"]]
        cut = np.array(part["labels"])
        outputs = transformers.EvalPrediction(predictions=cut, label_ids=cut, inputs=np.array(ids))
        lengths = np.array([len(text.split()) for text in rows["target"]])
        # Both words are right, of n: precision 1, recall 2 / n, F1 4 / (n + 2).
        by_hand = (4 / (lengths + 2)).mean()
        assert trainer.compute_metrics(outputs)["rouge_1"] == pytest.approx(by_hand)


def test_a_run_scores_whole_targets(config: dict[str, Any], tmp_path: Path) -> None:
    values = {**config, "max_target_length": 4, "metrics": ["rouge_1"], "max_steps": 4}
    run = train(values)
    prepared, kept = prepare_data(load_configuration(values)), read_predictions(tmp_path / "out")
    assert kept is not None
    for targets, outputs, score in (
        (prepared.validation_targets, kept.validation, run.best_score),
        (prepared.test_targets, kept.test, run.test_score),
    ):
        assert outputs is not None
        ids = np.where(outputs == -100, 0, outputs).tolist()
        written = prepared.tokenizer.batch_decode(ids, skip_special_tokens=True)
        assert score == pytest.approx(rouge(written, targets or (), "rouge1"))


def test_evaluated_rows_are_known_by_their_labels(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare_data(load_configuration({**config, "max_target_length": 4}))
    prepared.save_to(tmp_path / "rows")
    prepared = PreparedTask.load_from(tmp_path / "rows")
    rows = {"validation": prepared.validation_targets, "test": prepared.test_targets}
    for part, targets in rows.items():
        assert targets is not None
        assert max(len(text.split()) for text in targets) > 2  # more than the labels hold
        labels = np.array(getattr(prepared, part)["labels"])
        assert whole_targets(prepared, labels) == list(targets)
        padded = np.pad(labels, ((0, 0), (0, 2)))  # as the Trainer pads
        padded = np.pad(padded, ((0, 0), (0, 1)), constant_values=-100)  # as gathering does
        assert whole_targets(prepared, padded) == list(targets)
        # Two processes that share an odd number of rows.
        again = np.concatenate([labels, labels[:1]])
        assert whole_targets(prepared, again) == [*targets, targets[0]]
        assert "neither" not in caplog.text
        assert whole_targets(prepared, labels[1:]) is None
        assert "neither the validation nor the test rows" in caplog.text
        caplog.clear()


def test_what_counts_as_written() -> None:
    ids = np.array([[7, 3, 3, 3], [7, 8, 3, -100]])
    by_end = [[1, 1, 0, 0], [1, 1, 1, 0]]
    assert written_tokens(ids, end=3).astype(int).tolist() == by_end
    assert written_tokens(ids, end=None).astype(int).tolist() == [[1] * 4, [1, 1, 1, 0]]


def test_rates_of_layers_equal_those_of_a_trainer_by_hand(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """The same socket, handed over in another way: the Seq2SeqTrainer's constructor lacks it."""
    train({**config, "layer_lr": "llrd", "layer_lr_decay": 0.5, "save_strategy": "no"})
    prepared = prepare_data(load_configuration(config))
    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(config["model_name_or_path"])
    values = {**TRAINING, "learning_rate": 1e-2, "seed": 1, "data_seed": 1}
    args = transformers.TrainingArguments(str(tmp_path / "plain"), **values)
    transformers.Trainer(
        plain,
        args,
        train_dataset=prepared.train,
        data_collator=transformers.DataCollatorForSeq2Seq(prepared.tokenizer, model=plain),
        optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(0.5)),
    ).train()
    found = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out" / "model")
    assert same_weights(plain, found)


def test_remedies_act_on_models_that_write(config: dict[str, Any], models: dict[str, str]) -> None:
    options = {"averaging": "swa", "freeze_layers": 1, "label_smoothing_factor": 0.1}
    options |= {"gradual_unfreezing": 0.5, "divergence_guard": "warn", "reinit_layers": 1}
    run = train({**config, "model_name_or_path": models["bart"], **options})
    assert run.status == "finished"
    with pytest.raises(ConfigurationError, match="language model's head over the vocabulary"):
        train({**config, "fit_head": True, "output_dir": "unused"})


@pytest.mark.slow
def test_a_study(config: dict[str, Any], tmp_path: Path) -> None:
    del config["output_dir"]
    recipes: dict[str, dict[str, Any]] = {"llrd": {"layer_lr": "llrd"}}
    study = run_study(config, recipes=recipes, runs=2, output_dir=tmp_path / "study")
    assert [run.status for run in study.runs] == ["finished"] * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_column": "goal"}, "no column 'goal'"),
        ({"filter": "target == ''"}, "keeps none"),
        ({"predict_with_generate": False}, "without texts to score"),
        ({"max_target_length": 0}, "max_target_length must be 3 tokens or more, .* got 0"),
        ({"metrics": ["perplexity"]}, "metric 'perplexity' does not fit generation"),
    ],
)
def test_refusals(config: dict[str, Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        train({**config, **values})
    assert not Path(config["output_dir"]).exists()


def test_a_row_without_a_target_is_refused(config: dict[str, Any]) -> None:
    frame = pd.read_csv(config["train_file"])
    frame.loc[3, "target"] = " "
    frame.to_csv(config["train_file"])
    with pytest.raises(DataError, match=r"1 of 40 rows .* have no text in label_column 'target'"):
        train(config)
