"""Further pre-training from text to the task model: perplexity, hand-over, resume, refusals."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from hf_stabilizer import further_pretrain, hand_over_body, train
from hf_stabilizer.errors import ConfigurationError, DataError, DivergenceError, StudyError
from hf_stabilizer.pretraining import Pretraining, choose_objective, plan_pretraining
from hf_stabilizer.pretraining.hand_over import HandOverError, compare
from hf_stabilizer.records import read_run
from tests.pretraining_models import (
    TRAINING,
    configuration,
    save_model,
    sentences,
    tokenizer,
    write_texts,
)

KINDS = ("bert", "roberta", "distilbert", "modernbert", "gpt2", "llama")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {kind: save_model(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with its pooler and without any head."""
    return save_model("bert", tmp_path_factory.mktemp("body") / "bert", head="none")


def learn(config: dict[str, Any], folder: Path, **options: Any) -> Pretraining:
    training = {**TRAINING, **options.pop("training", {})}
    return further_pretrain(config, output_dir=folder, training=training, **{"runs": 0, **options})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_perplexity_falls_and_the_body_arrives(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    config = configuration(models[kind], tmp_path, sentences(160))
    record = learn(config, tmp_path / "out", training={"num_train_epochs": 4}, held_out=0.2)
    causal = kind in ("gpt2", "llama")
    assert record.objective == ("clm" if causal else "mlm")
    assert record.perplexity_before is not None
    assert record.perplexity_after is not None
    assert record.perplexity_after < 0.8 * record.perplexity_before
    assert record.perplexity_after == min(value for _, value in record.evaluations)
    # What the task gets is, tensor by tensor, what the language model has learnt.
    folder = Path(record.model)
    auto: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    language = auto.from_pretrained(folder).base_model.state_dict()
    task = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    before = auto.from_pretrained(models[kind]).base_model.state_dict()
    assert task.base_model.state_dict().keys() >= language.keys() - {"pooler.dense.weight"}
    for name, tensor in language.items():
        assert torch.equal(task.base_model.state_dict()[name], tensor), name
    changed = [name for name in language if not torch.equal(language[name], before[name])]
    assert len(changed) > 0.8 * len(language)
    assert record.body == len(language)
    assert record.new
    assert AutoTokenizer.from_pretrained(folder)("the film")["input_ids"]


def test_a_pooler_is_carried_over(body: Path, tmp_path: Path) -> None:
    record = learn(configuration(body, tmp_path), tmp_path / "out")
    assert record.carried == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    assert record.new == ("classifier.bias", "classifier.weight")
    task = AutoModelForSequenceClassification.from_pretrained(record.model)
    old = weights(body)
    assert torch.equal(task.bert.pooler.dense.weight, old["pooler.dense.weight"])
    learnt = weights(Path(record.model))["bert.encoder.layer.0.output.dense.weight"]
    assert torch.equal(task.bert.encoder.layer[0].output.dense.weight, learnt)
    assert not torch.equal(learnt, old["encoder.layer.0.output.dense.weight"])
    assert "start at random: perplexity before is that of an untrained head" in record.notes[0]


def test_a_tensor_that_does_not_arrive_is_an_error(body: Path) -> None:
    sent = {f"bert.{name}": tensor for name, tensor in weights(body).items()}
    arrived = compare(body, sent, task="text-classification", carried={})
    assert set(arrived.body) == set(sent)
    sent["bert.pooler.dense.bias"] = sent["bert.pooler.dense.bias"] + 1e-7
    with pytest.raises(HandOverError, match=r"1 of \d+ tensors .*bert.pooler.dense.bias"):
        compare(body, sent, task="text-classification", carried={})


def test_a_model_that_diverged_is_named_and_nothing_is_handed_over(
    models: dict[str, Path], tmp_path: Path
) -> None:
    lost = {"learning_rate": 1e30, "optim": "sgd", "max_grad_norm": 0, "warmup_steps": 0}
    config = configuration(models["bert"], tmp_path)
    with pytest.raises(
        DivergenceError, match=r"tensors of the body are no numbers .* smaller lear"
    ):
        learn(config, tmp_path / "out", training={**lost, "max_steps": 4})
    assert not (tmp_path / "out" / "model").exists()


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(
    models: dict[str, Path], tmp_path: Path
) -> None:
    for kind in ("bert", "gpt2"):
        auto: Any = AutoModelForCausalLM if kind == "gpt2" else AutoModelForMaskedLM
        model = auto.from_pretrained(models[kind])
        model.get_input_embeddings().weight.data.zero_()  # tied to the output
        folder = tmp_path / kind
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(models[kind]).save_pretrained(folder)
        record = learn(
            configuration(folder, tmp_path), tmp_path / f"{kind}-out", training={"max_steps": 1}
        )
        size = AutoConfig.from_pretrained(folder).vocab_size
        assert record.perplexity_before == pytest.approx(size, rel=1e-5)


class Cut(TrainerCallback):
    """Ends the process' patience at a step, as a kill would."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("cut", [3, 9])
def test_killed_and_started_again_it_is_the_same(body: Path, tmp_path: Path, cut: int) -> None:
    """Cut before the first checkpoint, and in mid-epoch behind one that is within an epoch."""
    config = configuration(body, tmp_path)
    keys = {"eval_strategy": "steps", "eval_steps": 4, "averaging": "ema", "num_train_epochs": 2}
    straight = learn(config, tmp_path / "straight", training=keys, whole_word_masking=True)
    options = {"training": keys, "whole_word_masking": True}
    with pytest.raises(KeyboardInterrupt):
        learn(config, tmp_path / "cut", callbacks=[Cut(cut)], **options)
    assert not (tmp_path / "cut" / "model").exists()
    again = learn(config, tmp_path / "cut", **options)
    assert straight.steps == again.steps > cut
    assert straight.evaluations == again.evaluations
    assert straight.perplexity_before == again.perplexity_before
    left, right = weights(Path(straight.model)), weights(Path(again.model))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


class CutAtTheEnd(TrainerCallback):
    """As if killed when training is over and nothing is kept yet."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("epochs", [2, 30])
def test_killed_behind_its_end_it_trains_no_more(body: Path, tmp_path: Path, epochs: int) -> None:
    """An early end, at a rate that is much too high, and a regular one."""
    config = configuration(body, tmp_path)
    options = {"training": {"num_train_epochs": epochs, "learning_rate": 0.1}, "patience": 2}
    straight = learn(config, tmp_path / "straight", **options)
    with pytest.raises(KeyboardInterrupt):
        learn(config, tmp_path / "cut", callbacks=[CutAtTheEnd()], **options)
    again = learn(config, tmp_path / "cut", callbacks=[Cut(straight.steps + 1)], **options)
    assert (again.steps, again.evaluations) == (straight.steps, straight.evaluations)
    assert again.perplexity_after == straight.perplexity_after
    left, right = weights(Path(straight.model)), weights(Path(again.model))
    assert all(torch.equal(left[name], right[name]) for name in left)


class Names(TrainerCallback):
    """Notes what trackers are told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.told = {"name": args.run_name, "group": os.environ.get("WANDB_RUN_GROUP")}


def test_trackers_are_told_where_it_belongs(body: Path, tmp_path: Path) -> None:
    names = Names()
    keys = {"max_steps": 1}
    learn(configuration(body, tmp_path), tmp_path / "mine", callbacks=[names], training=keys)
    assert names.told == {"name": "pretrain/mlm", "group": "mine"}
    assert "WANDB_RUN_GROUP" not in os.environ


def test_what_is_done_is_not_repeated_and_other_settings_are_refused(
    body: Path, tmp_path: Path
) -> None:
    config = configuration(body, tmp_path)
    first = learn(config, tmp_path / "out")
    again = learn(config, tmp_path / "out", callbacks=[Cut(1)])
    assert again == first
    with pytest.raises(StudyError, match=r"pretrain: training.learning_rate is 0.005 there"):
        learn(config, tmp_path / "out", training={"learning_rate": 1e-3})
    assert learn({**config, "disable_tqdm": False}, tmp_path / "out") == first
    with pytest.raises(StudyError, match=r"options.held_out is 0.1 there and 0.2 here"):
        learn(config, tmp_path / "out", held_out=0.2)


def test_it_ends_early_and_the_best_weights_stay(body: Path, tmp_path: Path) -> None:
    """At a huge rate perplexity only rises after some look; patience 2 ends it two looks later."""
    keys = {"learning_rate": 0.3, "num_train_epochs": 30, "lr_scheduler_type": "constant"}
    record = learn(configuration(body, tmp_path), tmp_path / "out", training=keys, patience=2)
    looks = [value for _, value in record.evaluations]
    assert len(looks) < 30
    assert min(looks[:-2]) <= min(looks[-2:])
    assert record.best_step == record.evaluations[looks.index(min(looks))][0]
    assert record.perplexity_after == pytest.approx(min(looks), rel=1e-6)


def test_next_sentences_are_learnt_along(body: Path, tmp_path: Path) -> None:
    documents = [f"the {noun} was good . the {noun} was fine . not bad ." for noun in "abcdefghij"]
    config = configuration(body, tmp_path, [*documents, *(d.upper() + " x." for d in "klmnop")])
    record = learn(config, tmp_path / "out", objective="mlm+nsp", held_out=0.3)
    assert record.next_sentence_accuracy is not None
    assert all(0 <= value <= 1 for value in record.next_sentence_accuracy)
    assert record.carried == ()  # the pooler was trained, and is the trained one
    there, old = weights(Path(record.model)), weights(body)
    pooler = there["bert.pooler.dense.weight"]
    assert not torch.equal(pooler, old["pooler.dense.weight"])
    task = AutoModelForSequenceClassification.from_pretrained(record.model)
    assert torch.equal(task.bert.pooler.dense.weight, pooler)


def test_the_objective_follows_the_model(models: dict[str, Path]) -> None:
    def config(kind: str) -> Any:
        return AutoConfig.from_pretrained(models[kind])

    assert [choose_objective(config(kind), None) for kind in ("bert", "gpt2")] == ["mlm", "clm"]
    decoder = config("bert")
    decoder.is_decoder = True
    assert choose_objective(decoder, None) == "clm"
    for kind, asked in (("bert", "clm"), ("gpt2", "mlm")):
        with pytest.raises(ConfigurationError, match=f"objective='{asked}' is"):
            choose_objective(config(kind), asked)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs a model with a next-sentence head"):
        choose_objective(config("roberta"), "mlm+nsp")
    with pytest.raises(ConfigurationError, match="t5 is an encoder-decoder"):
        choose_objective(AutoConfig.for_model("t5"), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "mlmm"}, "objective must be one of mlm, clm, mlm.nsp, got 'mlmm' .did"),
        ({"held_out": 1.0}, r"held_out must be a fraction in \(0, 1\), got 1.0"),
        ({"mlm_probability": 0}, "mlm_probability must be a fraction"),
        ({"patience": 0}, "patience must be a whole number of evaluations from 1 up, got 0"),
        ({"max_length": 64}, "max_length must be at most 32, the model's own limit, got 64"),
        ({"objective": "mlm+nsp", "packing": True}, "packing=True joins texts"),
        ({"runs": -1}, "runs must be a whole number of pairs from 1 up, or 0 for none, got -1"),
        ({"training": {"output_dir": "x"}}, "output_dir cannot be set for pre-training"),
        ({"training": {"max_train_rows": 3}}, "max_train_rows is no training key"),
        ({"training": {"lerning_rate": 1}}, "unknown training key 'lerning_rate' .did you mean"),
        ({"training": {"eval_strategy": "no"}}, "(eval_strategy='no' leaves|the Trainer refuses)"),
        ({"from_run": "x", "held_out": 0.3}, "from_run takes a body .* held_out says how"),
        ({"packing": False, "max_length": 4}, "max_length must be a whole number of tokens"),
    ],
)
def test_bad_options_are_told_before_anything_is_written(
    body: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learn(configuration(body, tmp_path), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_text_that_is_too_short_is_told(body: Path, tmp_path: Path) -> None:
    config = configuration(body, tmp_path, ["the film", "bad plot"])
    with pytest.raises(DataError, match=r"\d+ tokens, .* too few for one row of 32"):
        learn({**config, "max_train_rows": 2}, tmp_path / "out", max_length=32)
    # Five held-out tokens at a rate of 1 in 1,000: none of them is masked.
    few = {"held_out": 0.01, "mlm_probability": 0.001, "packing": False}
    with pytest.raises(DataError, match=r"held_out=0.01 leaves 1 of .* too few .* larger share"):
        learn(config, tmp_path / "out", **few)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model_is_told(body: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    AutoModelForMaskedLM.from_pretrained(body).save_pretrained(other)
    words = tokenizer()
    words.add_tokens(["cinema", "theatre"])
    words.save_pretrained(other)
    with pytest.raises(
        ConfigurationError, match=r"goes up to token \d+, and the model's embedding"
    ):
        learn(configuration(other, tmp_path), tmp_path / "out")


def test_a_tokenizer_without_a_mask_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "model"
    AutoModelForMaskedLM.from_pretrained(models["bert"]).save_pretrained(other)
    AutoTokenizer.from_pretrained(models["gpt2"]).save_pretrained(other)
    with pytest.raises(ConfigurationError, match="needs a mask token, and the tokenizer has none"):
        learn(configuration(other, tmp_path), tmp_path / "out")


def test_options_of_masks_do_not_go_with_a_decoder(models: dict[str, Path], tmp_path: Path) -> None:
    config = configuration(models["gpt2"], tmp_path)
    for options in ({"mlm_probability": 0.2}, {"whole_word_masking": True}):
        with pytest.raises(ConfigurationError, match="belongs to masked language modelling"):
            learn(config, tmp_path / "out", **options)


def test_an_intermediate_task_hands_its_body_over(
    body: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(body, tmp_path)
    rows = [f"{noun} {said}" for noun in ("film", "plot", "cast") for said in ("good", "bad")] * 4
    other = {
        **{key: value for key, value in config.items() if key != "unlabelled_file"},
        "train_file": str(write_texts(tmp_path / "other.csv", rows, labelled=True)),
        "output_dir": str(tmp_path / "run"),
        "learning_rate": 1e-3,
    }
    train(other)
    arrived = hand_over_body(tmp_path / "run", config, tmp_path / "body")
    # Both tasks have two classes: the head would fit, and is left behind all the same.
    assert arrived.new == ("classifier.bias", "classifier.weight")
    assert arrived.shared == ()
    learnt = weights(tmp_path / "run" / "model")
    moved = weights(tmp_path / "body" / "model")
    assert {f"bert.{name}" for name in moved} == set(arrived.body)
    assert all(torch.equal(moved[name], learnt[f"bert.{name}"]) for name in moved)
    with pytest.raises(ConfigurationError, match="holds a model already"):
        hand_over_body(tmp_path / "run", config, tmp_path / "body")
    record = learn_from(config, tmp_path)
    assert (record.objective, record.body) == ("hand-over", len(arrived.body))
    run = tmp_path / "run" / "run.json"
    for status, words in (("finished", []), ("failed", ["failed (collapsed): its body may be"])):
        run.write_text(replace(read_run(run), status=status, reason="collapsed").to_json())
        caplog.clear()
        hand_over_body(tmp_path / "run", config, tmp_path / status)
        said = [record.getMessage() for record in caplog.records if "body" in record.getMessage()]
        assert [word in text for word, text in zip(words, said, strict=True)] == [True] * len(words)


def learn_from(config: dict[str, Any], folder: Path) -> Pretraining:
    return further_pretrain(config, output_dir=folder / "handed", from_run=folder / "run", runs=0)


def test_with_its_control(body: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    config = {**configuration(body, tmp_path), "seed": 5}
    record = learn(config, folder, runs=2, executor="in-process", include_validation_text=True)
    assert record.study is not None
    assert record.study.recipes == ("plain", "further-pretrained")
    assert len(record.study.runs) == 4
    assert {run.seeds["seed"] for run in record.study.runs} == {5, 6}
    treated = [run for run in record.study.runs if run.recipe == "further-pretrained"]
    assert {run.configuration["model_name_or_path"] for run in treated} == {record.model}
    assert {run.configuration["learning_rate"] for run in record.study.runs if "learning_rate"
            in run.configuration} <= {5e-5}  # fmt: skip
    assert (folder / "study" / "report.html").is_file()
    told = json.loads((folder / "procedure.json").read_text("utf-8"))
    assert told["settings"]["options"]["include_validation_text"] is True
    assert told["settings"]["options"]["include_test_text"] is False
    assert told["outcome"]["texts"]["validation texts"] == 4
    assert told["outcome"]["verdict"]
    assert not (folder / "runs").exists()


def test_a_plan_counts_and_writes_nothing(body: Path, tmp_path: Path) -> None:
    config = configuration(body, tmp_path)
    files = set(tmp_path.rglob("*"))
    plan = plan_pretraining(config, training=TRAINING, runs=0)
    assert set(tmp_path.rglob("*")) == files
    record = learn(config, tmp_path / "out")
    assert (plan.rows, plan.tokens, plan.steps) == (record.rows, record.tokens, record.steps)
    assert (plan.texts, plan.held_out_rows) == (record.texts, record.held_out_rows)
    assert plan.cost.seconds > 0
