"""Random sets of techniques for one tiny run, and which of them must be refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

from hf_stabilizer import StabilizerArguments
from tests.tiny import SIZES, TRAINING, Rows

BATCH = 4
GPT2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40}
DISTILBERT = {"vocab_size": 64, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}
LLAMA = {**SIZES, "pad_token_id": 0, "num_key_value_heads": 2}
MODERNBERT = {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ROBERTA = {**SIZES, "max_position_embeddings": 48}
MODERNBERT |= {"cls_token_id": 1, "sep_token_id": 2, "reference_compile": False}

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)),
    "roberta": lambda: transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**ROBERTA)
    ),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(**DISTILBERT)
    ),
    "modernbert": lambda: transformers.ModernBertForSequenceClassification(
        transformers.ModernBertConfig(**MODERNBERT)
    ),
    "albert": lambda: transformers.AlbertForSequenceClassification(  # one block, shared
        transformers.AlbertConfig(**SIZES, embedding_size=8)
    ),
    "gpt2": lambda: transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(**GPT2, pad_token_id=0)
    ),
    "llama": lambda: transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**LLAMA)),
    "gpt2-lm": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),  # tied
}
ADAPTERS = {
    "bert": {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]},
    "llama": {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["score"]},
}
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd", "adafactor", "rmsprop")
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"lr_scheduler_type": "linear"},
    {"lr_scheduler_type": "cosine"},
    {"lr_scheduler_type": "constant_with_warmup"},
    {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
    {
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_stable_steps": 1, "decay_type": "linear"},
    },
)
FOLLOWS_A_METRIC = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": None}


@dataclass(frozen=True)
class Combination:
    """One run: a model, its options, and how it is interrupted."""

    architecture: str
    precision: str
    """fp32, autocast (bf16=True) or weights (in bf16)."""
    has_adapters: bool
    is_checkpointed: bool
    """Whether activations are computed again in the backward pass."""
    rows: int
    options: dict[str, Any]
    patience: int
    """Evaluations without improvement after which the run stops early; 0: it does not."""
    several_evaluation_sets: bool
    looks_by_hand_at: int
    """A step at whose end a callback calls `trainer.evaluate()`; 0: none."""
    breaks_at: int
    """A step whose gradients are not finite; 0: none."""
    interruption: str
    """erased (what came later), killed (after a save), or stopped (in good order)."""
    where: int
    """Which step of those that can be resumed from."""

    @property
    def is_layered(self) -> bool:
        """Whether the optimizer has groups per layer."""
        return any(name in self.options for name in ("layer_lr", "head_learning_rate"))

    def conflict(self) -> bool:
        """Whether these options cannot be combined."""
        own_rates = [name for name in ("stage_warmup_steps", "swa_learning_rate") if self.has(name)]
        follows_a_metric = self.options["lr_scheduler_type"] == "reduce_lr_on_plateau"
        return (
            (self.has("head_first") and self.has("gradual_unfreezing"))
            or len(own_rates) > 1
            or (self.has("stage_warmup_steps") and not self.is_layered)
            or (follows_a_metric and (self.is_layered or bool(own_rates)))
            or self.options.get("averaging_start", 0) > self.steps
        )

    @property
    def possible_interruption(self) -> str:
        """The interruption, or one that leaves this run's checkpoints as they would have been."""
        if self.options["save_strategy"] == "no":
            return "stopped"
        if self.has("save_total_limit") and self.interruption == "erased":
            return "killed"
        # An extra save could be the best model's, and `save_strategy="best"` overrules it.
        if self.has("load_best_model_at_end") or self.options["save_strategy"] == "best":
            return "erased" if self.interruption == "stopped" else self.interruption
        # The plain Trainer's own limit: a stop inside an epoch is evaluated as an epoch's end, and
        # saved once more after that has moved the random numbers.
        if self.options["eval_strategy"] == "epoch" and not self.is_isolated:
            return "killed" if self.interruption == "stopped" else self.interruption
        return self.interruption

    @property
    def is_isolated(self) -> bool:
        """Whether random numbers are put back after evaluations."""
        return self.has("isolate_evaluations") or self.has("evaluations_per_epoch")

    def has(self, option: str) -> bool:
        return bool(self.options.get(option))

    @property
    def steps(self) -> int:
        return steps_of(self.rows, self.options)

    def arguments(self, folder: Any) -> StabilizerArguments:
        common = {**TRAINING, "per_device_train_batch_size": BATCH, "bf16": False}
        if self.precision == "autocast":
            common["bf16"] = True
        return StabilizerArguments(str(folder), **{**common, **self.options})

    def model(self, seed: int = 0) -> nn.Module:
        """A model of this architecture; adapters are put on by `adapted`."""
        torch.manual_seed(0 if self.has_adapters else seed)
        model = ARCHITECTURES[self.architecture]()
        return model.to(torch.bfloat16) if self.precision == "weights" else model

    def adapted(self, model: nn.Module) -> nn.Module:
        if self.is_checkpointed:
            old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
            getattr(model, new if hasattr(model, new) else old)({"use_reentrant": False})
        if not self.has_adapters:
            return model
        config = peft.LoraConfig(task_type="SEQ_CLS", r=2, **ADAPTERS[self.architecture])
        return peft.get_peft_model(model, config)

    def train_rows(self) -> Dataset[Any]:
        return self._rows(self.rows, seed=0)

    def evaluation_rows(self) -> Any:
        one = self._rows(8, seed=1)
        return {"one": one, "two": self._rows(6, seed=2)} if self.several_evaluation_sets else one

    def _rows(self, count: int, seed: int) -> Dataset[Any]:
        kind = Texts if self.architecture == "gpt2-lm" else Rows
        return kind(count, seed=seed)


class Texts(Rows):
    """Rows for a language model: each token is to be told from those before it."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {**super().__getitem__(index), "labels": self.input_ids[index]}


def looked_at_by_hand(**options: Any) -> Combination:
    """A run of four steps in which a callback evaluates at the end of the one it is stopped at."""
    common = {
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "lr_scheduler_type": "linear",
        "optim": "sgd",
        "label_smoothing_factor": 0.0,
        "logging_steps": 1,
        "eval_strategy": "no",
    }
    return Combination(
        architecture="gpt2-lm",
        precision="weights",
        has_adapters=False,
        is_checkpointed=False,
        rows=13,
        options={**common, "save_strategy": "no", **options},
        patience=0,
        several_evaluation_sets=False,
        looks_by_hand_at=1,
        breaks_at=0,
        interruption="stopped",
        where=0,
    )


def steps_of(rows: int, options: dict[str, Any]) -> int:
    if options.get("max_steps", 0) > 0:
        return int(options["max_steps"])
    batches = math.ceil(rows / BATCH)
    of_epoch = math.ceil(batches / options["gradient_accumulation_steps"])
    return of_epoch * int(options["num_train_epochs"])


@st.composite
def combinations(draw: st.DrawFn) -> Combination:
    rows = draw(st.sampled_from([13, 16, 22]))
    options = {"gradient_accumulation_steps": draw(st.sampled_from([1, 1, 2, 3]))}
    options |= draw(_lengths)
    steps = steps_of(rows, options)
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    for part in (_rates, _before_training, _freezing, _averaging, _looking):
        options |= draw(part(steps))
    options |= draw(_optimization)
    best = draw(_keeping(options))
    options |= best
    guard = options.get("divergence_guard", "off")
    is_unscored = not best.get("metric_for_best_model")
    # The plain Trainer evaluates once more on resuming, which costs early stopping its patience,
    # and may come between the guard's two evaluations running.
    if guard != "off":
        options.pop("eval_on_start", None)
    can_stop = not is_unscored and not options.get("eval_on_start")
    precisions = ["fp32", "autocast", "weights"]
    if options["optim"] == "adafactor":
        # Its fp32 moments of bf16 weights are bf16 once torch has loaded them again.
        precisions.remove("weights")
    combination = Combination(
        architecture=architecture,
        precision=draw(st.sampled_from(precisions)),
        has_adapters=architecture in ADAPTERS and draw(st.booleans()),
        is_checkpointed=architecture != "albert" and draw(_seldom),
        rows=rows,
        options=options,
        patience=draw(st.sampled_from([0, 1, 2])) if can_stop else 0,
        several_evaluation_sets=is_unscored and draw(_seldom),
        looks_by_hand_at=draw(st.integers(1, steps)) if draw(_seldom) else 0,
        breaks_at=draw(st.integers(1, steps)) if guard != "off" and draw(st.booleans()) else 0,
        interruption=draw(st.sampled_from(["erased", "killed", "stopped"])),
        where=draw(st.integers(0, 11)),
    )
    if combination.conflict():
        assume(draw(_seldom))
    return combination


_seldom = st.sampled_from([False, False, False, True])

_lengths = st.one_of(
    st.fixed_dictionaries({"num_train_epochs": st.sampled_from([1, 2, 3])}),
    st.fixed_dictionaries({"max_steps": st.integers(2, 11)}),
)

_optimization = st.builds(
    lambda schedule, rest: {**schedule, **rest},
    st.sampled_from(SCHEDULES),
    st.fixed_dictionaries(
        {
            "optim": st.sampled_from(OPTIMIZERS),
            "warmup_steps": st.sampled_from([0, 0.25, 2]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "max_grad_norm": st.sampled_from([0.0, 0.1, 1.0]),
            "label_smoothing_factor": st.sampled_from([0.0, 0.0, 0.1]),
            "logging_steps": st.sampled_from([1, 2, 3]),
            "dataloader_drop_last": st.just(False),
        }
    ),
)


def _some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these options, or none."""
    return st.fixed_dictionaries({}, optional=options)


def _moment(steps: int) -> st.SearchStrategy[float]:
    return st.one_of(st.sampled_from([0.25, 0.5, 0.9]), st.integers(1, steps))


def _rates(steps: int) -> st.SearchStrategy[dict[str, Any]]:
    curves: list[dict[str, Any]] = [
        {},
        {"layer_lr": "llrd", "layer_lr_decay": 0.5},
        {"layer_lr": "grouped", "layer_lr_multipliers": [0.5]},
        {"layer_lr": "cosine", "layer_lr_lowest": 0.0},
    ]
    more = _some(head_learning_rate=st.just(3e-3))
    return st.builds(lambda curve, rest: {**curve, **rest}, st.sampled_from(curves), more)


def _before_training(steps: int) -> st.SearchStrategy[dict[str, Any]]:
    return _some(
        reinit_layers=st.just(1),
        reinit_pooler=st.just("auto"),
        head_seed=st.just(3),
        freeze_embeddings=st.booleans(),
    )


def _freezing(steps: int) -> st.SearchStrategy[dict[str, Any]]:
    head_first = st.fixed_dictionaries({"head_first": _moment(steps)})
    gradual = st.fixed_dictionaries(
        {"gradual_unfreezing": _moment(steps)},
        optional={
            "blocks_per_stage": st.sampled_from([1, 2]),
            "stage_warmup_steps": st.sampled_from([0, 2]),
        },
    )
    both = st.just({"head_first": 0.25, "gradual_unfreezing": 0.5})
    ways = (st.just({}), head_first, head_first, head_first, gradual, gradual, gradual, both)
    return st.one_of(*ways)


def _averaging(steps: int) -> st.SearchStrategy[dict[str, Any]]:
    grid = {
        "averaging_start": st.one_of(_moment(steps), st.just(0), st.integers(1, steps)),
        "averaging_every": st.sampled_from([1, 2, 3]),
    }
    ema = _some(**grid, ema_decay=st.sampled_from([0.0, 0.5, 0.99]), ema_warmup=st.booleans())
    swa = _some(**grid)
    rate = st.fixed_dictionaries(
        {"swa_learning_rate": st.sampled_from([1e-4, 5e-3])},
        optional={
            "swa_anneal_steps": st.sampled_from([0, 1, 3]),
            "swa_anneal": st.sampled_from(["linear", "cosine"]),
            "swa_keep_ratios": st.booleans(),
        },
    )
    return st.one_of(
        st.just({}),
        ema.map(lambda options: {"averaging": "ema", **options}),
        swa.map(lambda options: {"averaging": "swa", **options}),
        st.builds(lambda one, two: {"averaging": "swa", **one, **two}, swa, rate),
    )


def _looking(steps: int) -> st.SearchStrategy[dict[str, Any]]:
    guards = st.sampled_from(["warn", "stop", "raise"])
    return _some(
        evaluations_per_epoch=st.sampled_from([1, 2, 9]),
        isolate_evaluations=st.booleans(),
        divergence_guard=guards,
        log_layer_statistics=st.booleans(),
        eval_on_start=st.booleans(),
    )


@st.composite
def _keeping(draw: st.DrawFn, options: dict[str, Any]) -> dict[str, Any]:
    """When is evaluated and saved, whether the best is loaded, and schedules that follow it."""
    every = draw(st.sampled_from([1, 2, 3]))
    if draw(st.booleans()):
        return _without_best(draw, options, every)
    best = {"load_best_model_at_end": draw(st.booleans()), "metric_for_best_model": "eval_loss"}
    best |= {"restore_callback_states_from_checkpoint": True, "greater_is_better": False}
    best |= FOLLOWS_A_METRIC if draw(_seldom) else {}
    is_foreseen = not options.get("evaluations_per_epoch")
    strategy = draw(st.sampled_from(["best", "steps"] if is_foreseen else ["best"]))
    evaluated = {"eval_strategy": "steps", "eval_steps": every}
    return {**best, **evaluated, "save_strategy": strategy, "save_steps": every}


def _without_best(draw: st.DrawFn, options: dict[str, Any], every: int) -> dict[str, Any]:
    evaluation = draw(st.sampled_from(["no", "steps", "epoch"]))
    saving = draw(st.sampled_from(["no", "steps", "epoch"]))
    if evaluation == "epoch" and saving != "epoch":
        # The plain Trainer's own limit: it evaluates after the save, which moves random numbers.
        options["isolate_evaluations"] = True
    return {
        "eval_strategy": evaluation,
        "eval_steps": draw(st.sampled_from([1, 2, 3])),
        "save_strategy": saving,
        "save_steps": every,
        "save_total_limit": draw(st.sampled_from([None, 2])),
    }
