from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import Trainer

from hf_stabilizer import SWACallback, last_complete_checkpoint
from hf_stabilizer.averaging import AVERAGING_FILE
from tests.killed_training import BEGAN, STEPS, train
from tests.tiny import Rows, tiny_bert, tiny_tokenizer, training_arguments


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with checkpoints of steps 2, 4, 6 and 8, averaged from step 3 on."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = training_arguments(folder, save_strategy="steps", save_steps=2)
    trainer = Trainer(
        tiny_bert(),
        arguments,
        train_dataset=Rows(32),
        processing_class=tiny_tokenizer(),
        callbacks=[SWACallback(start=3)],
    )
    trainer.train()
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def last_step(folder: Path) -> int | None:
    found = last_complete_checkpoint(folder)
    return None if found is None else int(Path(found).name.removeprefix("checkpoint-"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes().rstrip()[:-1]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "of another kind": lambda path: path.write_text("not what it was"),
}
FILES = (
    *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"),
    *("training_args.bin", "config.json", "tokenizer.json", "tokenizer_config.json"),
    AVERAGING_FILE,
)


def test_the_newest_whole_checkpoint_is_found(run):
    assert last_complete_checkpoint(run) == str(run / "checkpoint-8")
    assert {path.name for path in (run / "checkpoint-8").iterdir()} == set(FILES)
    assert last_complete_checkpoint(str(run)) == str(run / "checkpoint-8")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_damaged_file_is_passed_over(run, name, damage, caplog):
    DAMAGES[damage](run / "checkpoint-8" / name)
    with caplog.at_level(logging.WARNING):
        assert last_step(run) == 6
    assert "checkpoint-8 is passed over" in caplog.text
    assert name in caplog.text
    DAMAGES["missing"](run / "checkpoint-6" / "scheduler.pt")
    assert last_step(run) == 4


def test_no_checkpoint_is_none(run, tmp_path):
    assert last_complete_checkpoint(tmp_path / "nowhere") is None
    for path in run.glob("checkpoint-*"):
        DAMAGES["missing"](path / "optimizer.pt")
    assert last_complete_checkpoint(run) is None


def test_numbers_are_compared_and_other_names_left_aside(run):
    state = json.loads((run / "checkpoint-8" / "trainer_state.json").read_text())
    shutil.copytree(run / "checkpoint-8", run / "checkpoint-10")
    assert last_step(run) == 8  # its state is that of step 8
    (run / "checkpoint-10" / "trainer_state.json").write_text(
        json.dumps({**state, "global_step": 10})
    )
    assert last_step(run) == 10
    shutil.copytree(run / "checkpoint-8", run / "checkpoint-best")
    (run / "checkpoint-99").write_text("a file")
    assert last_step(run) == 10


def test_the_averages_are_asked_for_only_where_averaging_had_begun(run):
    for step in (8, 6, 4):
        shutil.rmtree(run / f"checkpoint-{step}")
    assert not (run / "checkpoint-2" / AVERAGING_FILE).exists()
    assert last_step(run) == 2


def test_going_on_without_averaging_asks_for_no_averages(run):
    Trainer(
        tiny_bert(),
        training_arguments(run, save_strategy="steps", save_steps=1, max_steps=9),
        train_dataset=Rows(32),
        processing_class=tiny_tokenizer(),
    ).train(resume_from_checkpoint=str(run / "checkpoint-8"))
    assert not (run / "checkpoint-9" / AVERAGING_FILE).exists()
    assert last_step(run) == 9


def test_a_plain_trainers_checkpoints_need_no_callback_of_ours(tmp_path):
    def saved_by(**options: Any) -> int | None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        arguments = training_arguments(folder, save_strategy="epoch", **options)
        Trainer(tiny_bert(), arguments, train_dataset=Rows(32)).train()
        return last_step(folder)

    assert saved_by() == 8
    assert saved_by(save_only_model=True) is None  # cannot be resumed from


def test_a_checkpoint_that_is_written_again_is_not_whole_before_its_end(run):
    class FullDisk(Trainer):
        def _save_optimizer_and_scheduler(self, output_dir):
            raise OSError("no space left on device")

    trainer = FullDisk(
        tiny_bert(),
        training_arguments(run, save_strategy="steps", save_steps=2),
        train_dataset=Rows(32),
        processing_class=tiny_tokenizer(),
        callbacks=[SWACallback(start=3)],
    )
    with pytest.raises(OSError, match="no space"):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-6"))
    assert (run / "checkpoint-8" / "optimizer.pt").exists()
    assert last_step(run) == 6


# ---- other forms of checkpoints


def test_shards_and_their_index(run):
    checkpoint = run / "checkpoint-8"
    model = transformers.BertForSequenceClassification.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="10KB")
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert last_step(run) == 8
    for damage in DAMAGES.values():
        for path in (shards[1], checkpoint / "model.safetensors.index.json"):
            content = path.read_bytes()
            damage(path)
            assert last_step(run) == 6
            path.write_bytes(content)
    (checkpoint / "model.safetensors.index.json").write_text("{}")
    assert last_step(run) == 6


# peft 0.21 asks transformers 5.23 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    Trainer(
        peft.get_peft_model(tiny_bert(), config),
        training_arguments(tmp_path, save_strategy="epoch"),
        train_dataset=Rows(32),
        callbacks=[SWACallback(start=3)],
    ).train()
    assert last_step(tmp_path) == 8
    for name in ("adapter_model.safetensors", "adapter_config.json", AVERAGING_FILE):
        for damage in DAMAGES.values():
            path = tmp_path / "checkpoint-8" / name
            content = path.read_bytes()
            damage(path)
            assert last_step(tmp_path) == 4
            path.write_bytes(content)


def test_every_process_left_its_random_state(run):
    checkpoint = run / "checkpoint-8"
    # What torchrun's workers write: the number of processes is a value in the pickled arguments.
    torch.save({"process_index": 0, "num_processes": 2}, checkpoint / "training_args.bin")
    assert last_step(run) == 6
    for rank in range(2):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    assert last_step(run) == 8
    DAMAGES["cut in half"](checkpoint / "rng_state_1.pth")
    assert last_step(run) == 6
    # Of sixteen processes on two machines, each of which has a folder of its own.
    (checkpoint / "rng_state_1.pth").unlink()
    each = {"save_on_each_node": True, "process_index": 0, "num_processes": 16}
    torch.save(each, checkpoint / "training_args.bin")
    assert last_step(run) == 8


# One process writes here what several would.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_fully_sharded_checkpoints(run):
    import torch.distributed.checkpoint as dcp

    checkpoint = run / "checkpoint-8"
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "optimizer.pt").unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        dcp.save(weights, checkpoint_id=checkpoint / name, no_dist=True)
    assert last_step(run) == 8
    for path in [*checkpoint.glob("*/.metadata"), *checkpoint.glob("*/*.distcp")]:
        for damage in ("missing", "empty"):
            content = path.read_bytes()
            DAMAGES[damage](path)
            assert last_step(run) == 6
            path.write_bytes(content)


def test_deepspeed_checkpoints(run):
    checkpoint = run / "checkpoint-8"
    (checkpoint / "optimizer.pt").unlink()
    (checkpoint / "scheduler.pt").unlink()
    (checkpoint / "global_step8").mkdir()
    model = checkpoint / "global_step8" / "mp_rank_00_model_states.pt"
    optimizer = checkpoint / "global_step8" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"step": 8}, model)
    assert last_step(run) == 6
    torch.save({"step": 8}, optimizer)
    assert last_step(run) == 6
    (checkpoint / "latest").write_text("global_step8")
    assert last_step(run) == 8
    for path in (model, optimizer):
        content = path.read_bytes()
        DAMAGES["one byte short"](path)
        assert last_step(run) == 6
        path.write_bytes(content)


def test_big_files_are_not_read_and_what_is_pickled_is_not_executed(run):
    class Malice:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    checkpoint = run / "checkpoint-8"
    torch.save(Malice(), checkpoint / "training_args.bin", pickle_module=pickle)
    # A terabyte of nothing, which no disk need hold, would take an hour to read.
    header = json.dumps({"w": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}})
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    os.truncate(weights, weights.stat().st_size + 2**40)
    assert last_step(run) == 8
    os.truncate(weights, weights.stat().st_size - 1)
    assert last_step(run) == 6


def test_a_flipped_bit_is_found_in_what_is_small_and_not_in_what_is_big(run):
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    path = run / "checkpoint-8" / "optimizer.pt"
    torch.save({"state": torch.ones(3 * 2**20)}, path)
    flip(path)
    assert last_step(run) == 8
    torch.save({"state": torch.ones(2**10)}, path)
    assert last_step(run) == 8
    flip(path)
    assert last_step(run) == 6


# ---- a process that is killed


@pytest.fixture(scope="module")
def processes() -> Any:
    """Makes processes that need not import anything: they are forked from one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers.trainer", "hf_stabilizer.averaging"])
    return context.Process


def alive(processes: Any, folder: Path, *args: Any) -> BaseProcess:
    folder.mkdir(exist_ok=True)
    (folder / BEGAN).unlink(missing_ok=True)
    process: BaseProcess = processes(target=train, args=(folder, *args))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    process.join(timeout=400)
    return process.exitcode


@pytest.fixture(scope="module")
def straight(processes: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of runs that were never killed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("swa", "ema")}
    for name, folder in folders.items():
        assert ended(alive(processes, folder, name)) == 0
    return folders


def assert_is_readable(checkpoint: str) -> None:
    for path in Path(checkpoint).iterdir():
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix in (".pt", ".pth", ".bin"):
            torch.load(path, weights_only=False)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def assert_same_end(folder: Path, straight: Path) -> None:
    places = ("model.safetensors", f"checkpoint-{STEPS}/{AVERAGING_FILE}")
    for place in places:
        left, right = load_file(folder / place), load_file(straight / place)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


WRITES = (
    *(AVERAGING_FILE, "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt"),
    *("rng_state.pth", "trainer_state.json", "rotation"),
)


def test_killed_within_each_file_of_a_checkpoint_a_run_goes_on_as_if_it_had_not_been(
    processes, straight, tmp_path
):
    folder = tmp_path / "run"
    for step, file in enumerate(WRITES, start=6):
        assert ended(alive(processes, folder, "swa", (step, file))) == -signal.SIGKILL
        # The checkpoint at which it died, or, where an older one was deleted, that one is whole.
        found = last_complete_checkpoint(folder)
        assert found == str(folder / f"checkpoint-{step if file == 'rotation' else step - 1}")
        assert_is_readable(found)
        assert (folder / f"checkpoint-{step}").is_dir()
    assert ended(alive(processes, folder, "swa")) == 0
    assert_same_end(folder, straight["swa"])


def kill_at_random_moments(
    processes: Any, folder: Path, averaging: str, *, kills: int, draw: random.Random
) -> int:
    """Kills training as often as that, half of the times while a checkpoint is being written."""
    incomplete = 0
    for _ in range(kills):
        process = alive(processes, folder, averaging)
        while not (folder / BEGAN).exists() and process.is_alive():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.15))
        waits_for_save = draw.random() < 0.5
        while waits_for_save and process.is_alive() and not is_being_written(folder):
            pass
        process.kill()
        ended(process)
        incomplete += is_being_written(folder)
        if (found := last_complete_checkpoint(folder)) is not None:
            assert_is_readable(found)
    return incomplete


def is_being_written(folder: Path) -> bool:
    return any(not (c / "trainer_state.json").exists() for c in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("averaging", ["swa", "ema"])
def test_killed_at_random_moments_a_run_ends_as_if_it_had_not_been(
    processes, straight, tmp_path, averaging
):
    folder = tmp_path / "run"
    draw = random.Random(averaging)
    kill_at_random_moments(processes, folder, averaging, kills=4, draw=draw)
    assert ended(alive(processes, folder, averaging)) == 0
    assert_same_end(folder, straight[averaging])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_many_times_a_run_ends_as_if_it_had_not_been(processes, straight, tmp_path, seed):
    draw, incomplete = random.Random(seed), 0
    for averaging in ("swa", "ema"):
        for number in range(4):
            folder = tmp_path / f"{averaging}-{number}"
            incomplete += kill_at_random_moments(processes, folder, averaging, kills=8, draw=draw)
            assert ended(alive(processes, folder, averaging)) == 0
            assert_same_end(folder, straight[averaging])
    assert incomplete > 0
