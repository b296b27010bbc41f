"""Which model classes are there? Every class in the auto mappings of the installed transformers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from transformers.models.auto import modeling_auto

OTHER = ("TIME_SERIES", "DECISION", "AUDIO_TOKENIZATION")
MULTIMODAL = (
    "IMAGE_TEXT_TO_TEXT",
    "MULTIMODAL_LM",
    "RETRIEVAL",
    "ZERO_SHOT",
    "VISUAL_QUESTION",
    "DOCUMENT_QUESTION",
)
AUDIO = ("SPEECH", "AUDIO", "CTC", "RNNT", "TDT", "TEXT_TO_SPECTROGRAM", "TEXT_TO_WAVEFORM")
VISION = (
    "IMAGE",
    "CAUSAL_IMAGE",
    "SEGMENTATION",
    "VIDEO",
    "OBJECT_DETECTION",
    "DEPTH",
    "TEXT_RECOGNITION",
    "TABLE_RECOGNITION",
    "BACKBONE",
    "MASK_GENERATION",
    "KEYPOINT",
    "NORMAL_",
    "POINTMAP",
    "POSE_",
)
FAMILIES = ("text", "vision", "audio", "multimodal", "other", "bare")


@dataclass(frozen=True)
class Target:
    """One model class."""

    name: str
    """Name of the class in `transformers`."""
    config_type: str
    """Model type of the configuration under which the mappings list it first."""
    mappings: tuple[str, ...]
    """Mappings that list it, e.g. ("CAUSAL_LM", "PRETRAINING")."""
    family: str
    """One of FAMILIES; "bare" is what `AutoModel` makes."""


def all_targets() -> list[Target]:
    """Returns every class, in the order of its name."""
    mappings: dict[str, list[str]] = defaultdict(list)
    types: dict[str, str] = {}
    for mapping, names in sorted(vars(modeling_auto).items()):
        if not mapping.startswith("MODEL_") or not mapping.endswith("_NAMES"):
            continue
        short = mapping.removeprefix("MODEL_").removeprefix("FOR_").removesuffix("_NAMES")
        short = short.removesuffix("MAPPING").removesuffix("_") or "BARE"
        for config_type, classes in names.items():
            for name in (classes,) if isinstance(classes, str) else classes:
                mappings[name].append(short)
                types.setdefault(name, config_type)
    return [
        Target(name, types[name], tuple(dict.fromkeys(lists)), _family(lists))
        for name, lists in sorted(mappings.items())
    ]


def _family(mappings: list[str]) -> str:
    if "BARE" in mappings:
        return "bare"
    kinds = {"other": OTHER, "multimodal": MULTIMODAL, "audio": AUDIO, "vision": VISION}
    for family, marks in kinds.items():
        if any(mapping.startswith(marks) for mapping in mappings):
            return family
    return "text"
