"""One of two processes that train under guard and measure their layers; torchrun starts it.

torchrun --standalone --nproc_per_node 2 -m tests.guarded_in_two_processes ddp|fsdp2 FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer, TrainerCallback

from hf_stabilizer.divergence import DivergenceGuardCallback
from hf_stabilizer.layer_statistics import LayerStatisticsCallback
from tests.averaging_in_two_processes import same, shard_on_cpus, whole
from tests.tiny import Rows, tiny_bert, training_arguments


class StopAt2(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == 2


class PoisonsOneProcess(TrainerCallback):
    """Makes the loss (its gradients are finite), or a gradient, of one process NaN at step 3."""

    def __init__(self, what: str):
        self.what = what

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.state = state
        if self.what == "loss":
            model.register_forward_hook(self._spoil_the_loss)

    def _spoil_the_loss(self, module, given, output):
        if self._is_on():
            output["loss"] = output["loss"] + torch.nan

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if self.what == "gradient" and self._is_on():
            gradient: Any = model.classifier.weight.grad
            getattr(gradient, "_local_tensor", gradient).fill_(torch.nan)

    def _is_on(self) -> bool:
        return self.state.global_step == 2 and dist.get_rank() == 1


def make(folder: Path, *callbacks: TrainerCallback, model: Any = None, **options: Any) -> Trainer:
    arguments = training_arguments(
        folder, per_device_train_batch_size=4, ddp_backend="gloo", logging_steps=2, **options
    )
    return Trainer(
        model or tiny_bert(),
        arguments,
        train_dataset=Rows(32),
        eval_dataset=Rows(17, seed=1),  # the last batches are filled up with repetitions
        callbacks=list(callbacks),
    )


def are_equal(first: Trainer, second: Trainer) -> bool:
    return same(whole(first), whole(second))


def check_poisons(folder: Path, **options: Any) -> None:
    before = make(folder, StopAt2(), **options)
    before.train()
    for what in ("loss", "gradient"):
        stopped = make(folder, PoisonsOneProcess(what), DivergenceGuardCallback(), **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stopped.train()
        said = [str(w.message) for w in caught if "at optimizer step 3" in str(w.message)]
        assert len(said) == 1, (what, [str(w.message) for w in caught])
        assert stopped.state.global_step == 3
        assert are_equal(before, stopped), what


def check_a_collapse(folder: Path, **options: Any) -> None:
    model = tiny_bert()
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data[0] = 1.0
    trainer = make(
        folder,
        DivergenceGuardCallback(),
        model=model,
        eval_strategy="epoch",
        learning_rate=0.0,
        **options,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    assert any("predicted for all 17 rows" in str(w.message) for w in caught)


def main(mode: str, folder: Path) -> None:
    options: dict[str, Any] = {}
    if mode == "fsdp2":
        shard_on_cpus()
        wrapped = {"transformer_layer_cls_to_wrap": ["BertLayer"], "version": 2}
        options = {"fsdp": "full_shard auto_wrap", "fsdp_config": wrapped}
    plain = make(folder, **options)
    plain.train()
    watched = make(folder, LayerStatisticsCallback(), DivergenceGuardCallback(), **options)
    watched.train()
    assert watched.args.world_size == 2
    assert hasattr(next(watched.model.parameters()), "full_tensor") == (mode == "fsdp2")
    assert are_equal(plain, watched)
    lines = [line for line in watched.state.log_history if "loss" in line]
    everywhere: list[Any] = [None, None]
    dist.all_gather_object(everywhere, [{k: v for k, v in x.items() if "/" in k} for x in lines])
    assert everywhere[0] == everywhere[1]
    check_poisons(folder, **options)
    check_a_collapse(folder, **options)
    if dist.get_rank() == 0:
        print("lines", json.dumps(everywhere[0]), flush=True)
    dist.barrier()
    # Not by way of destructors: gloo's may wait for ever (see averaging_in_two_processes).
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
