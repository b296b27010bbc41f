"""How does a checkpoint become an ordinary model folder, with the mean or with the raw weights?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hf_stabilizer.averaging.checkpoints import AVERAGING_FILE, read_average
from hf_stabilizer.errors import ConfigurationError, check_choice

Weights = Literal["average", "raw"]

# What a checkpoint holds for the sake of resuming, besides the averages.
_FOR_RESUMING = (
    *("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json"),
    *("training_args.bin", "global_step*", "latest", "zero_to_fp32.py", "pytorch_model_fsdp*"),
    ".*",
)
_COMPILED = "_orig_mod."  # what torch.compile puts before the names of a model that it wraps


def export_model(
    checkpoint: str | Path, output_dir: str | Path, *, weights: Weights = "average"
) -> Path:
    """Writes the model of an averaged checkpoint as a folder that `from_pretrained` loads.

    "average" is what the checkpoint's evaluation scored, bit for bit: its `model.safetensors`.
    "raw" are the weights that training goes on from, which lie in `averaging.safetensors`; what
    is not averaged (frozen weights, buffers) is the same in both. Configuration, tokenizer and
    adapter settings come along; what only resuming needs does not. The checkpoint is left as it
    is.

    Args:
        checkpoint: A `checkpoint-N` folder of a run with SWACallback or EMACallback.
        output_dir: A folder that is empty or does not exist.
        weights: "average" or "raw".

    Returns:
        The folder that was written.

    Raises:
        ConfigurationError: The checkpoint holds no average, or its weights in another form than
            safetensors and FSDP's shards; `output_dir` holds files; or the file names its weights
            otherwise than the model does, so that raw ones cannot be put in their place.
        ResumeError: `averaging.safetensors` cannot be read.

    Example:
        >>> from hf_stabilizer import export_model
        >>> export_model("out/checkpoint-100", "raw-model", weights="raw")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: out/checkpoint-100 holds no averaging.safetensors;
        name a checkpoint of a run with averaging, after its first averaged step

    Source: ours; averaging itself is described at SWACallback and EMACallback.
    """
    check_choice(weights, ("average", "raw"), name="weights")
    source, target = Path(checkpoint), Path(output_dir)
    if not (source / AVERAGING_FILE).is_file():
        raise ConfigurationError(
            f"{source} holds no {AVERAGING_FILE}; name a checkpoint of a run with averaging, after "
            "its first averaged step"
        )
    _check_target(target, source)
    raw = read_average(source / AVERAGING_FILE).raw if weights == "raw" else {}
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as temporary:
        folder = Path(temporary, "model")
        left_out = shutil.ignore_patterns(AVERAGING_FILE, *_FOR_RESUMING)
        shutil.copytree(source, folder, ignore=left_out)
        _fill(folder, raw, source)
        if target.exists():
            target.rmdir()  # it is empty
        folder.rename(target)
    return target


def _fill(folder: Path, raw: Mapping[str, Tensor], source: Path) -> None:
    """Puts the raw weights, if any, into the copy of the checkpoint, under the names it has there.

    Some architectures are saved under other names than they train under; transformers itself
    translates them, there and back.
    """
    files = _weight_files(source, folder)
    lost = _without_place(raw, files)
    if lost and not _is_filled_by_its_class(folder, raw, files):
        raise ConfigurationError(
            f"the weights of {source} are named otherwise than in the model, which has "
            f"{', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}; load the checkpoint into "
            f"the model's class, copy the raw.* tensors of {AVERAGING_FILE} into its parameters of "
            "these names, and call save_pretrained"
        )
    for file in files if not lost else ():
        _rewrite(file, raw)
    for index in folder.glob("*.index.json"):
        index.write_text(index.read_text("utf-8").replace(f'"{_COMPILED}', '"'), "utf-8")


def _check_target(target: Path, source: Path) -> None:
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigurationError(f"output_dir {str(target)!r} lies in the checkpoint; name another")
    if target.exists() and any(target.iterdir()):
        raise ConfigurationError(
            f"output_dir {str(target)!r} holds files already; name a folder that is empty or new"
        )


def _weight_files(source: Path, folder: Path) -> list[Path]:
    """Returns the model's files: one, its shards, or those of adapters, also in folders.

    Where FSDP's processes wrote a shard each, they are joined into one file first.
    """
    sharded = source / "pytorch_model_fsdp_0"
    if not any(folder.rglob("*.safetensors")) and sharded.is_dir():
        _join(sharded, folder / "model.safetensors")
    found = sorted(folder.rglob("*.safetensors"))
    if not found:
        raise ConfigurationError(
            f"{source} holds no weights in safetensors; save the model with save_pretrained, or "
            'under FSDP with state_dict_type "SHARDED_STATE_DICT" or "FULL_STATE_DICT"'
        )
    return found


def _join(shards: Path, path: Path) -> None:
    # accelerate's merge_fsdp_weights does the same, but waits for all processes where there are
    # several, and one of them may be alone in exporting.
    whole = path.with_suffix(".pt")
    dcp_to_torch_save(shards, whole)
    content = torch.load(whole, map_location="cpu", weights_only=True)
    whole.unlink()
    save_file(content.get("model", content), path, metadata={"format": "pt"})


def _without_place(raw: Iterable[str], files: Iterable[Path]) -> list[str]:
    """Returns the weights for which the files have no name."""
    places: set[str] = set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            places |= {name.replace(_COMPILED, "") for name in file.keys()}  # noqa: SIM118
    return sorted(name for name in raw if _saved_name(name, places) is None)


@torch.no_grad()
def _is_filled_by_its_class(folder: Path, raw: Mapping[str, Tensor], files: Iterable[Path]) -> bool:
    """Loads the model into its class and saves it anew, where the class is one of transformers'."""
    config = folder / "config.json"
    names = json.loads(config.read_text("utf-8")).get("architectures") if config.is_file() else None
    model_class = getattr(transformers, names[0], None) if names else None
    if model_class is None:
        return False
    model = model_class.from_pretrained(folder)
    parameters = dict(model.named_parameters())
    if raw.keys() - parameters.keys():
        return False
    for name, tensor in raw.items():
        parameters[name].copy_(tensor)
    for path in (*files, *folder.glob("*.index.json")):
        path.unlink()
    model.save_pretrained(folder)
    return True


def _rewrite(path: Path, raw: Mapping[str, Tensor]) -> None:
    """Puts raw weights in the place of averaged ones, and takes the compiler's prefix away."""
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if not raw and not any(_COMPILED in name for name in names):
            return
        metadata = file.metadata()
        tensors = {name.replace(_COMPILED, ""): file.get_tensor(name) for name in names}
    for name, tensor in raw.items():
        if (place := _saved_name(name, tensors)) is not None:
            tensors[place] = tensor.to(tensors[place].dtype)
    save_file(tensors, path, metadata=metadata)


def _saved_name(name: str, places: Iterable[str]) -> str | None:
    """Returns what a file calls a parameter: PEFT leaves the adapter's own name out.

    Example:
        >>> _saved_name("base_model.q.lora_A.default.weight", {"base_model.q.lora_A.weight"})
        'base_model.q.lora_A.weight'
        >>> _saved_name("base_model.head.modules_to_save.default.bias", {"base_model.head.bias"})
        'base_model.head.bias'
    """
    if name in places or not name.startswith("base_model."):
        return name if name in places else None
    parts = name.replace(".modules_to_save.", ".").split(".")
    without = (".".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts)))
    return next((place for place in without if place in places), None)
