from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer

from hf_stabilizer import SWACallback, export_model
from hf_stabilizer.averaging import AVERAGING_FILE
from hf_stabilizer.errors import ConfigurationError, ResumeError
from tests.tiny import Rows, same_weights, tiny_bert, tiny_tokenizer, training_arguments


def trained(folder: Path, model: nn.Module, *callbacks, **options):
    arguments = training_arguments(folder, save_strategy="epoch", **options)
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Rows(32),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, steps 4 and 8, whose mean is over steps 5 to 8."""
    folder = tmp_path_factory.mktemp("run")
    trained(folder, tiny_bert(), SWACallback(start=5))
    return folder


def test_the_average_is_the_model_that_was_scored(run, tmp_path):
    folder = export_model(run / "checkpoint-8", tmp_path / "model")
    assert folder == tmp_path / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    scored = AutoModelForSequenceClassification.from_pretrained(run / "checkpoint-8")
    assert same_weights(model, scored)
    assert AutoTokenizer.from_pretrained(folder)("the film").input_ids == [2, 5, 7, 3]
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_the_raw_weights_are_those_of_a_run_without_averaging(run, tmp_path):
    plain = trained(tmp_path / "plain", tiny_bert()).model
    folder = export_model(str(run / "checkpoint-8"), str(tmp_path / "model"), weights="raw")
    assert same_weights(AutoModelForSequenceClassification.from_pretrained(folder), plain)


def test_shards_are_filled_one_by_one(run, tmp_path):
    checkpoint = Path(shutil.copytree(run / "checkpoint-8", tmp_path / "checkpoint"))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="10KB")
    assert len(list(checkpoint.glob("model-*.safetensors"))) > 2
    whole = export_model(run / "checkpoint-8", tmp_path / "whole", weights="raw")
    shards = export_model(checkpoint, tmp_path / "shards", weights="raw")
    load = AutoModelForSequenceClassification.from_pretrained
    assert same_weights(load(whole), load(shards))
    assert not same_weights(load(whole), model)


# peft 0.21 asks transformers 5.23 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_and_the_head_beside_them(tmp_path):
    peft = pytest.importorskip("peft")

    def adapted() -> nn.Module:
        model = tiny_bert()
        torch.manual_seed(3)
        config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
        return peft.get_peft_model(model, config)

    trained(tmp_path / "mean", adapted(), SWACallback(start=5))
    trained(tmp_path / "plain", adapted())
    checkpoint = tmp_path / "mean" / "checkpoint-8"
    export_model(checkpoint, tmp_path / "raw", weights="raw")
    name = "adapter_model.safetensors"
    ours, theirs = (
        load_file(tmp_path / "raw" / name),
        load_file(tmp_path / "plain/checkpoint-8" / name),
    )
    assert any("lora" in key for key in ours)
    assert any("classifier" in key for key in ours)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    peft.PeftModel.from_pretrained(tiny_bert(), tmp_path / "raw")


def test_weights_that_are_saved_under_other_names_than_they_train_under(run, tmp_path):
    checkpoint = Path(shutil.copytree(run / "checkpoint-8", tmp_path / "checkpoint"))
    weights = load_file(checkpoint / "model.safetensors")
    # As the first checkpoints of BERT have them; transformers translates.
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): weight
        for name, weight in weights.items()
    }
    assert old.keys() != weights.keys()
    save_file(old, checkpoint / "model.safetensors", metadata={"format": "pt"})
    load = AutoModelForSequenceClassification.from_pretrained
    plain = export_model(run / "checkpoint-8", tmp_path / "plain", weights="raw")
    translated = export_model(checkpoint, tmp_path / "translated", weights="raw")
    assert same_weights(load(plain), load(translated))


def test_half_precision_stays_half_precision(tmp_path):
    trained(tmp_path, tiny_bert().to(torch.bfloat16), SWACallback(start=5))
    checkpoint = tmp_path / "checkpoint-8"
    folder = export_model(checkpoint, tmp_path / "raw", weights="raw")
    weights, averages = (
        load_file(folder / "model.safetensors"),
        load_file(checkpoint / AVERAGING_FILE),
    )
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.equal(weights[name], averages[f"raw.{name}"]) for name in weights)


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    target = tmp_path / "model"
    with pytest.raises(ConfigurationError, match=r"checkpoint-4 holds no averaging\.safetensors"):
        export_model(run / "checkpoint-4", target)
    with pytest.raises(ConfigurationError, match="weights must be one of average, raw, got 'ra"):
        export_model(run / "checkpoint-8", target, weights="rave")
    with pytest.raises(ConfigurationError, match="lies in the checkpoint"):
        export_model(run / "checkpoint-8", run / "checkpoint-8" / "raw")
    with pytest.raises(ConfigurationError, match="holds files already"):
        export_model(run / "checkpoint-8", run)
    checkpoint = Path(shutil.copytree(run / "checkpoint-8", tmp_path / "checkpoint"))
    (checkpoint / "model.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="holds no weights in safetensors"):
        export_model(checkpoint, target)
    shutil.copy(checkpoint / AVERAGING_FILE, checkpoint / "model.safetensors")  # other names
    config = (checkpoint / "config.json").read_text()
    (checkpoint / "config.json").write_text(config.replace("BertForSequenceC", "TheirOwnC"))
    with pytest.raises(
        ConfigurationError, match=r"has bert.embeddings.LayerNorm.bias, .*, \.\.\.;"
    ):
        export_model(checkpoint, target, weights="raw")
    (checkpoint / AVERAGING_FILE).write_bytes(b"torn")
    with pytest.raises(ResumeError, match="cannot be read"):
        export_model(checkpoint, target, weights="raw")
    assert not target.exists()
