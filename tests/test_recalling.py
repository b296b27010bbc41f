"""What people's callbacks had counted by a checkpoint they know again when a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import EarlyStoppingCallback, PrinterCallback

from hf_stabilizer.run.recalling import recall


def noted(count: int) -> dict[str, object]:
    return {"args": {}, "attributes": {"early_stopping_patience_counter": count}}


def written(folder: Path, notes: object) -> Path:
    state = {"global_step": 3, "stateful_callbacks": {"EarlyStoppingCallback": notes}}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def counted(callbacks: list[EarlyStoppingCallback]) -> list[int]:
    return [callback.early_stopping_patience_counter for callback in callbacks]


def test_one_is_told_what_it_had_counted(tmp_path: Path) -> None:
    callback = EarlyStoppingCallback(3)
    recall([PrinterCallback(), callback], written(tmp_path, noted(2)))
    assert counted([callback]) == [2]


def test_of_two_of_a_kind_each_is_told_its_own_latest(tmp_path: Path) -> None:
    callbacks = [EarlyStoppingCallback(3), EarlyStoppingCallback(9)]
    recall(callbacks, written(tmp_path, [noted(0), noted(0), noted(1), noted(2)]))
    assert counted(callbacks) == [1, 2]


def test_what_the_checkpoint_does_not_know_is_left_alone(tmp_path: Path) -> None:
    callbacks = [EarlyStoppingCallback(3), EarlyStoppingCallback(9)]
    recall(callbacks, written(tmp_path, noted(2)))
    recall(callbacks, tmp_path / "nowhere")
    assert counted(callbacks) == [0, 2]
