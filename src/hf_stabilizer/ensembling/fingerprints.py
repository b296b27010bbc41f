"""Are these the same weights as when this was begun?"""

from __future__ import annotations

import hashlib
from pathlib import Path


def of_weights(model_folder: Path) -> str:
    """Returns a short text that changes when the files of a model's weights do.

    By name, size and time of change: to read the weights themselves would take as long as to load
    them.
    """
    said = []
    for path in sorted(model_folder.glob("*.safetensors")):
        about = path.stat()
        said.append(f"{path.name} {about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
