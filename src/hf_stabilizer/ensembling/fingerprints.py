"""Are these the same rows, and the same weights, as when this was begun?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def of_rows(table: pd.DataFrame) -> str:
    """Returns a short text that other rows, or the same in another order, do not have.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"text": ["a", "b"]})
        >>> of_rows(rows) == of_rows(rows.copy()), of_rows(rows) == of_rows(rows[::-1])
        (True, False)
    """
    import pandas as pd

    texts = table.astype(str)
    hashes = pd.util.hash_pandas_object(texts, index=False).to_numpy()
    names = "\0".join(map(str, table.columns)).encode()
    return f"{len(table)}-{hashlib.sha256(names + hashes.tobytes()).hexdigest()[:16]}"


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
