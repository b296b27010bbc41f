"""Which checkpoint is whole? The newest from which a run that was cut off anywhere can go on.

A process that is killed while it saves, or while it deletes old checkpoints, leaves a folder that
looks like a checkpoint and is none. The Trainer takes the folder with the highest number, whole or
not. Here a folder counts only if all is there that resuming reads, and each file is readable:

    trainer_state.json      written last; of the step that the folder is named after
    weights                 model.safetensors, its shards and their index, adapters, FSDP, DeepSpeed
    optimizer, scheduler    with their FSDP and DeepSpeed forms
    rng_state               one for each process that training_args.bin tells of
    promised files          those that a callback said it would write: averaging.safetensors

Only headers, lengths, directories and small files are read: milliseconds, however big the model.
"""

from __future__ import annotations

import itertools
import json
import logging
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_stabilizer.checkpoint_notes import promised_files

logger = logging.getLogger(__name__)

_SMALL = 4 * 2**20  # bytes: what is read whole, in a few milliseconds

_MODELS = ("model", "pytorch_model", "adapter_model")
_TORCH_FILES = (
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
    *("training_args.bin", "pytorch_model*.bin", "adapter_model.bin", "*/adapter_model.bin"),
    "global_step*/*.pt",  # DeepSpeed
)
_COMPANIONS = ("*.json", "*.txt", "*.model", "*.jinja", "scaler.pt")


class _IncompleteError(Exception):
    """Says what a checkpoint lacks."""


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """Returns the newest checkpoint in a Trainer's output folder that is whole.

    Whole means that every file that resuming needs is there and readable: the Trainer's, and
    `averaging.safetensors` where an averaging callback was at work. No callback of ours need have
    run. Newest means the highest step. A checkpoint of `save_only_model` has no optimizer, so it
    cannot be resumed from and does not count. What is found is a file that is missing, cut off,
    empty or of another kind, not a bit flipped in a tensor of some size.

    Args:
        folder: The `output_dir` of the training arguments; one that does not exist has none.

    Returns:
        The path, for `Trainer.train(resume_from_checkpoint=...)`, of the type that
        `transformers.trainer_utils.get_last_checkpoint` returns; None if no checkpoint is whole.

    Example:
        >>> import tempfile
        >>> from hf_stabilizer import last_complete_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(last_complete_checkpoint(folder))
        None

    Source: the files are those of `Trainer._save_checkpoint` (transformers 5.4 to 5.23).
    """
    checkpoints = {
        step: path for path in Path(folder).glob("checkpoint-*") if (step := _step(path))
    }
    for step in sorted(checkpoints, reverse=True):
        others = [path for other, path in checkpoints.items() if other != step]
        try:
            _check(checkpoints[step], step=step, others=others)
        except (_IncompleteError, OSError) as flaw:
            logger.warning("%s is passed over: %s", checkpoints[step], flaw)
        else:
            return str(checkpoints[step])
    return None


def declare_incomplete(checkpoint: Path) -> None:
    """Takes the mark of a whole checkpoint away from a folder that is written to again."""
    (checkpoint / "trainer_state.json").unlink(missing_ok=True)


def _step(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match and path.is_dir() else None


def _check(checkpoint: Path, *, step: int, others: Iterable[Path]) -> None:
    state = _json(_demand(checkpoint, "trainer_state.json"))
    if not isinstance(state, dict) or state.get("global_step") != step:
        raise _IncompleteError(f"trainer_state.json is not that of step {step}")
    _check_presence(checkpoint)
    _check_random_states(checkpoint)
    _check_promises(checkpoint, state)
    _check_companions(checkpoint, others)
    _check_readability(checkpoint)


def _check_presence(checkpoint: Path) -> None:
    """Demands weights, optimizer and scheduler, in one of the forms that the Trainer writes."""
    if not _ranks(checkpoint):  # in shards the Trainer writes no arguments
        _demand(checkpoint, "training_args.bin")
    _check_shards(checkpoint)
    is_deepspeed = (checkpoint / "latest").is_file()
    if is_deepspeed:
        tag = (checkpoint / "latest").read_text(encoding="utf-8").strip()
        _demand(checkpoint, f"{tag}/*model_states.pt")
        _demand(checkpoint, f"{tag}/*optim_states.pt")
        return
    files = [f"{name}.{ending}" for name in _MODELS for ending in ("safetensors", "bin")]
    indices = ["model.safetensors.index.json", "pytorch_model.bin.index.json"]
    inside = ["*/adapter_model.safetensors", "*/adapter_model.bin", "*/model.safetensors"]
    sharded = ["pytorch_model_fsdp.bin", "pytorch_model_fsdp_*/.metadata"]
    adapter = _demand(checkpoint, *files, *indices, *inside, *sharded)
    if adapter.stem == "adapter_model":
        _demand(adapter.parent, "adapter_config.json")
    _demand(checkpoint, "optimizer.pt", "optimizer.bin", "optimizer_*/.metadata")
    _demand(checkpoint, "scheduler.pt")


def _check_shards(checkpoint: Path) -> None:
    """Demands every file that an index of shards names."""
    for index in checkpoint.glob("*.index.json"):
        content = _json(index)
        if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
            raise _IncompleteError(f"{index.name} is no index of shards")
        for name in set(content["weight_map"].values()):
            _demand(checkpoint, name)
    for metadata in checkpoint.glob("*/.metadata"):  # torch.distributed.checkpoint
        for value in _pickled(metadata.read_bytes(), of=metadata):
            if isinstance(value, str) and value.endswith(".distcp"):
                _demand(metadata.parent, value)


def _check_random_states(checkpoint: Path) -> None:
    arguments = {} if _ranks(checkpoint) else _values(checkpoint / "training_args.bin")
    processes = _ranks(checkpoint) or arguments.get("num_processes", 1)
    if arguments.get("save_on_each_node") is True:  # each node has those of its own processes
        _demand(checkpoint, "rng_state*.pth")
        return
    names = [f"rng_state_{rank}.pth" for rank in range(processes)]
    for name in names if processes > 1 else ["rng_state.pth"]:
        _demand(checkpoint, name)


def _ranks(checkpoint: Path) -> int:
    """Returns how many processes wrote shards of their own under FSDP."""
    shards = checkpoint.glob("pytorch_model_fsdp_*/__*_*.distcp")
    return len({path.name.split("_")[2] for path in shards})


def _check_promises(checkpoint: Path, state: dict[str, Any]) -> None:  # Any: JSON
    for name in promised_files(state.get("stateful_callbacks"), step=state["global_step"]):
        _demand(checkpoint, name)


def _check_companions(checkpoint: Path, others: Iterable[Path]) -> None:
    """Demands small files (config, tokenizer) that all other checkpoints have."""
    sets = [{path.name for glob in _COMPANIONS for path in other.glob(glob)} for other in others]
    shared = set.intersection(*sets) if sets else set()
    for name in sorted(name for name in shared if not name.endswith(".index.json")):
        _demand(checkpoint, name)


def _check_readability(checkpoint: Path) -> None:
    for path in checkpoint.rglob("*.safetensors"):
        _check_safetensors(path)
    for path in {path for glob in _TORCH_FILES for path in checkpoint.glob(glob)}:
        _check_zip(path)
    for path in checkpoint.glob("*.json"):
        if path.stat().st_size <= _SMALL:  # a big one is a tokenizer's
            _json(path)
    for path in checkpoint.glob("*/*.distcp"):
        if path.stat().st_size == 0:
            raise _IncompleteError(f"{path.parent.name}/{path.name} is empty")


def _demand(folder: Path, *globs: str) -> Path:
    """Returns the first file of these names; raises if there is none."""
    for path in (path for glob in globs for path in folder.glob(glob)):
        if path.is_file():
            return path
    raise _IncompleteError(f"{globs[0]} is missing")


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _IncompleteError(f"{path.name} is no JSON ({error})") from error


def _check_safetensors(path: Path) -> None:
    """Holds the length of the file against what its header says."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        size = path.stat().st_size
        header = file.read(length) if 0 < length <= size - 8 else b""
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _IncompleteError(f"{path.name} has no whole header") from error
    if size != 8 + length + end:
        raise _IncompleteError(f"{path.name} has {size} bytes, not {8 + length + end}")


def _check_zip(path: Path) -> None:
    """Reads the directory at the end of what `torch.save` wrote, and small records whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if not any(record.filename.endswith("data.pkl") for record in records):
                raise _IncompleteError(f"{path.name} is none of torch.save's files")
            left = _SMALL
            for record in sorted(records, key=lambda record: record.file_size):
                if (left := left - record.file_size) < 0:
                    break
                archive.read(record)  # compares the checksum
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise _IncompleteError(f"{path.name} is cut off or damaged ({error})") from error


def _values(training_args: Path) -> dict[str, int]:
    """Returns the numbers and truth values in the arguments, by name.

    The pickle is looked through and never executed.
    """
    _check_zip(training_args)
    with zipfile.ZipFile(training_args) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        values = list(_pickled(archive.read(pickled), of=training_args))
    return {
        key: value
        for key, value in itertools.pairwise(values)
        if isinstance(key, str) and isinstance(value, int)
    }


def _pickled(content: bytes, *, of: Path) -> Iterator[object]:
    """Yields the plain values in a pickle, in their order, without the memo's places."""
    try:
        for opcode, value, _ in pickletools.genops(content):
            if opcode.name in ("NEWTRUE", "NEWFALSE"):
                yield opcode.name == "NEWTRUE"
            elif value is not None and "PUT" not in opcode.name and "GET" not in opcode.name:
                yield value
    except ValueError as error:
        raise _IncompleteError(f"{of.name} is cut off or damaged ({error})") from error
