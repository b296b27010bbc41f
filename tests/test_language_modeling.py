"""Learning from the text alone: what is foretold, masks that stay, an exact perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import TrainerState

from hf_stabilizer import run_study, train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import DataArguments, load_splits
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.models import load_model
from hf_stabilizer.run import build_trainer, prepare_data
from hf_stabilizer.tasks import PreparedTask, prepare_task
from tests.tiny import TRAINING, WORDS, same_weights, save_tiny, tiny_tokenizer

MODELS = {"causal-lm": "gpt2", "masked-lm": "bert"}
TASKS = list(MODELS)
LASTING_WORKERS = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}


def texts(count: int) -> list[str]:
    """Texts of three to twelve words."""
    draw = np.random.RandomState(0)
    return [" ".join(draw.choice(WORDS, draw.randint(3, 13))) for _ in range(count)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {task: save_tiny(folder / name, name) for task, name in MODELS.items()}


@pytest.fixture
def config(models: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    pd.DataFrame({"text": texts(40)}).to_csv(tmp_path / "texts.csv")
    return {
        "train_file": str(tmp_path / "texts.csv"),
        "validation_size": 10,
        "test_size": 6,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 3,  # the last batch is smaller
        "num_train_epochs": 2,
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "out"),
    }


def of(task: str, config: dict[str, Any], models: dict[str, str]) -> dict[str, Any]:
    return {**config, "task": task, "model_name_or_path": models[task]}


def by_hand(model: Any, rows: Any, *, shift: int) -> float:
    """Perplexity with one row in each batch: exp of the mean over all tokens with a label."""
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0]
        labels = torch.tensor(row["labels"])
        labels, logits = labels[shift:], logits[: len(labels) - shift]
        kept = labels != -100
        losses += cross_entropy(logits[kept], labels[kept], reduction="none").tolist()
    return float(np.exp(np.mean(losses)))


@pytest.mark.parametrize("task", TASKS)
def test_the_perplexity_is_exact_and_decides(
    task: str, config: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    run = train(of(task, config, models))
    assert run.metric == "perplexity"
    assert not run.greater_is_better
    assert run.best_score == min(metrics["perplexity"] for _, metrics in run.evaluations)
    prepared = prepare_data(load_configuration(of(task, config, models)))
    kept = load_model(prepared, str(tmp_path / "out" / "model")).eval()
    shift = int(task == "causal-lm")
    assert by_hand(kept, prepared.validation, shift=shift) == pytest.approx(
        run.best_score, rel=1e-5
    )
    assert by_hand(kept, prepared.test, shift=shift) == pytest.approx(run.test_score, rel=1e-5)


def test_a_causal_row_is_its_own_label(tmp_path: Path, models: dict[str, str]) -> None:
    """Also where a text ends with the very token that pads."""
    pd.DataFrame({"text": ["the film", "the film was good"] * 5}).to_csv(tmp_path / "t.csv")
    splits = load_splits(DataArguments(train_file=str(tmp_path / "t.csv")), task="causal-lm")
    assert (splits.label_column, splits.label_names) == (None, None)
    prepared = prepare_task("causal-lm", splits, tiny_tokenizer(pad_token="[SEP]"))
    batch = prepared.data_collator([prepared.train[0], prepared.train[1]])
    lengths = [len(prepared.train[place]["input_ids"]) for place in range(2)]
    for row, length in enumerate(lengths):
        assert batch["labels"][row, :length].tolist() == batch["input_ids"][row, :length].tolist()
        assert set(batch["labels"][row, length:].tolist()) <= {-100}
    assert batch["labels"][0, lengths[0] - 1] == 3


def masked(config: dict[str, Any], models: dict[str, str]) -> PreparedTask:
    return prepare_data(load_configuration(of("masked-lm", config, models)))


def test_masks_of_scored_rows_never_change(config: dict[str, Any], models: dict[str, str]) -> None:
    first, second = masked(config, models), masked(config, models)
    torch.manual_seed(5)
    assert first.validation.to_dict() == second.validation.to_dict()
    for row in first.validation:
        labels = np.array(row["labels"])
        assert (labels != -100).any()
        assert labels[0] == labels[-1] == -100  # [CLS] and [SEP]
        unmasked = labels == -100
        assert (np.array(row["input_ids"])[unmasked] != 4).all()
    configuration = load_configuration(of("masked-lm", config, models))
    trainer = build_trainer(configuration, Path(config["output_dir"]), first, quiet=True)
    assert trainer.evaluate()["eval_perplexity"] == trainer.evaluate()["eval_perplexity"]


def test_masks_of_training_rows_do(config: dict[str, Any], models: dict[str, str]) -> None:
    prepared = masked(config, models)
    assert "labels" not in prepared.train.column_names
    rows = [prepared.train[place] for place in range(12)]
    torch.manual_seed(0)
    batches = [prepared.data_collator(rows) for _ in range(60)]
    assert not torch.equal(batches[0]["labels"], batches[1]["labels"])
    torch.manual_seed(0)
    again = prepared.data_collator(rows)
    assert torch.equal(again["labels"], batches[0]["labels"])
    words = sum(len(row["input_ids"]) - 2 for row in rows) * len(batches)
    drawn = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    assert drawn / words == pytest.approx(0.15, abs=0.02)


def test_masks_go_on_where_a_run_was_cut_off(
    config: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    """Batches are made ahead of their step: masks must not hang on the generator's state."""
    saved = {"save_strategy": "steps", "save_steps": 2, "save_only_model": False, "max_steps": 5}
    looks = {"load_best_model_at_end": False, "eval_strategy": "no", "evaluations_per_epoch": 0}
    configuration = load_configuration({**of("masked-lm", config, models), **saved, **looks})
    prepared = prepare_data(configuration)
    folder = Path(config["output_dir"])
    whole = build_trainer(configuration, folder, prepared, quiet=True)
    whole.train()
    resumed = build_trainer(configuration, folder, prepared, quiet=True)
    resumed.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert same_weights(whole.model, resumed.model)
    rows = [prepared.train[place] for place in range(8)]
    first = whole.data_collator(rows)["labels"]
    assert torch.equal(first, whole.data_collator(rows)["labels"])
    whole.callback_handler.on_epoch_begin(whole.args, TrainerState(epoch=2.0), whole.control)
    assert not torch.equal(first, whole.data_collator(rows)["labels"])


def test_a_batch_with_few_words_has_a_mask(config: dict[str, Any], models: dict[str, str]) -> None:
    """Else its loss would be 0 / 0, and every weight with it."""
    collate = masked(config, models).data_collator
    ids = tiny_tokenizer()("film")["input_ids"]
    for seed in range(20):
        torch.manual_seed(seed)
        assert (collate([{"input_ids": ids}])["labels"] != -100).sum() == 1
    blank = collate([{"input_ids": tiny_tokenizer()("unheard")["input_ids"]}])
    assert (blank["labels"] == -100).all()  # nothing there can be masked


def test_a_causal_run_equals_the_plain_trainer(
    config: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    values = of("causal-lm", config, models)
    train(values, save_strategy="no")
    prepared = prepare_data(load_configuration(values))
    plain = transformers.AutoModelForCausalLM.from_pretrained(models["causal-lm"])
    arguments = {**TRAINING, "learning_rate": 1e-2, "seed": 1, "data_seed": 1}
    transformers.Trainer(
        plain,
        transformers.TrainingArguments(str(tmp_path / "plain"), **arguments),
        train_dataset=prepared.train.remove_columns("labels"),
        # The usual collator: the same where the padding token ends no text.
        data_collator=transformers.DataCollatorForLanguageModeling(prepared.tokenizer, mlm=False),
    ).train()
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert same_weights(plain, found)


@pytest.mark.parametrize("task", TASKS)
def test_remedies_act_on_language_models(
    task: str, config: dict[str, Any], models: dict[str, str]
) -> None:
    options = {"layer_lr": "llrd", "averaging": "swa", "freeze_embeddings": True}
    options |= {"reinit_layers": 1, "divergence_guard": "warn", "head_first": 1}
    run = train({**of(task, config, models), **options})
    assert run.status == "finished"
    with pytest.raises(ConfigurationError, match="language model's head over the vocabulary"):
        train({**of(task, config, models), "fit_head": True, "output_dir": "unused"})


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_study(task: str, config: dict[str, Any], models: dict[str, str], tmp_path: Path) -> None:
    del config["output_dir"]
    study = run_study(
        of(task, config, models), recipes={"plain": {}}, runs=2, output_dir=tmp_path / "study"
    )
    assert [run.status for run in study.runs] == ["finished"] * 2
    assert not study.greater_is_better


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "masked-lm", "model": "causal-lm"}, "no AutoModelForMaskedLM for"),
        (
            {"task": "causal-lm", "model": "masked-lm"},
            "an encoder, whose every token sees the next",
        ),
        ({"task": "seq2seq", "model": "causal-lm", "label_column": "text2"}, "AutoModelForSeq2Seq"),
        ({"label_column": "text2"}, "label_column='text2' has no effect: causal-lm learns from"),
        ({"text_columns": ["text", "text2"]}, "text_columns must name one column for causal-lm"),
        ({"metrics": ["accuracy"]}, "metric 'accuracy' does not fit language-model"),
        ({"generation_num_beams": 2}, "generation_num_beams=2 is for seq2seq"),
        ({"max_target_length": 8}, "max_target_length=8 is for seq2seq"),
        (
            {"task": "masked-lm", "model": "masked-lm", **LASTING_WORKERS},
            "dataloader_persistent_workers=True would give every epoch the masks of the first",
        ),
    ],
)
def test_refusals(
    config: dict[str, Any],
    models: dict[str, str],
    values: dict[str, Any],
    message: str,
) -> None:
    frame = pd.read_csv(config["train_file"])
    frame.assign(text2=frame["text"])[["text", "text2"]].to_csv(config["train_file"])
    values = {"task": "causal-lm", "text_columns": ["text"], **values}
    model = models[values.pop("model", "causal-lm")]
    with pytest.raises((ConfigurationError, DataError), match=message):
        train({**config, "model_name_or_path": model, **values})
    assert not Path(config["output_dir"]).exists()


def test_a_tokenizer_must_have_a_mask_and_fit_the_model(
    config: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(save_tiny(tmp_path / "model", "bert"))
    values = {**config, "model_name_or_path": str(folder), "task": "masked-lm"}
    tiny_tokenizer(mask_token=None).save_pretrained(folder)
    with pytest.raises(ConfigurationError, match="masked-lm' needs a tokenizer with a mask token"):
        train(values)
    larger = tiny_tokenizer()
    larger.add_tokens([f"word{place}" for place in range(60)])
    larger.save_pretrained(folder)
    with pytest.raises(ConfigurationError, match=r"goes up to token 76, .* has 64 rows"):
        train(values)
    assert not Path(config["output_dir"]).exists()
