"""What does one update of the mean cost? `python benchmarks/averaging_cost.py` measures it.

The floor is to read the mean and the raw weights and to write the mean, once: torch.add over one
flat buffer of as many numbers. Update and floor take turns in one process, so that both see the
same machine; what is written to benchmarks/results/averaging-cost.json are their ratios. Goal: 1.2.
For bf16 weights, of which less is read, the floor is 10/12 of that for fp32; they lie above the
goal, for torch has no kernel that moves an fp32 mean towards bf16 weights: they are cast first.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from transformers import BertConfig, BertForSequenceClassification

from hf_stabilizer.averaging.weights import AveragedWeights
from hf_stabilizer.records import versions

ROUNDS = 40
MODELS = {
    "MiniLM-L6": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "BERT-base": {},
}
UPDATES = {"swa": get_swa_multi_avg_fn, "ema": lambda: get_ema_multi_avg_fn(0.999)}


def seconds(work: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter  # other processes aside
    begun = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def ratios(first: Callable[[], object], second: Callable[[], object], device: str) -> list[float]:
    found = []
    for number in range(ROUNDS + 2):
        took = seconds(first, device) / seconds(second, device)
        if number >= 2:  # the first ones warm up
            found.append(took)
    return found


def measure(model_name: str, averaging: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    config = BertConfig(num_attention_heads=12, **MODELS[model_name])
    model = BertForSequenceClassification(config).to(device, dtype)
    weights = AveragedWeights(model, dict(model.named_parameters()), UPDATES[averaging]())
    weights.add()
    count = sum(parameter.numel() for parameter in model.parameters())
    flat, other = torch.zeros(count, device=device), torch.ones(count, device=device)
    with torch.no_grad():
        found = ratios(weights.add, lambda: torch.add(flat, other, out=flat), device)
    share = 1.0 if dtype == torch.float32 else 10 / 12  # of the bytes: (4 + 4 + 4), (2 + 4 + 4)
    low, middle, high = statistics.quantiles([ratio / share for ratio in found], n=4)

    def show() -> None:
        weights.show_mean()
        weights.show_raw()

    shown = statistics.median(seconds(show, device) for _ in range(ROUNDS))
    return {
        "model": model_name,
        "weights": count,
        "averaging": averaging,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "update / floor, median": round(middle, 3),
        "update / floor, quartiles": [round(low, 3), round(high, 3)],
        "to show the mean and the raw weights again, ms": round(1000 * shown, 2),
    }


def main() -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = [
        measure(model, averaging, dtype, device)
        for device in devices
        for model in MODELS
        for averaging in UPDATES
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for row in rows:
        print(row)
    target = Path(__file__).parent / "results" / "averaging-cost.json"
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads()}
    content = {"rounds": ROUNDS, "versions": versions(), "machine": machine, "measured": rows}
    target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
