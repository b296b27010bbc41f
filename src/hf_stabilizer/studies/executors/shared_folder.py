"""Do the workers see the study's folder? Asked by a probe on as many of them as run at a time.

Imports no torch.
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Executor
from pathlib import Path

from hf_stabilizer.errors import StudyError, first_line
from hf_stabilizer.studies.executors.local_workers import LocalWorkers

_TOKEN = ".shared"
_MOST = 64  # probes


def check_shared(pool: Executor, folder: Path) -> None:
    """Writes a token into the folder and has it read where the runs will execute.

    Local workers are not asked: they are on this machine.

    Raises:
        StudyError: A worker does not see the folder, or sees another one under this name.
    """
    if isinstance(pool, LocalWorkers):
        return
    path, token = folder.absolute() / _TOKEN, secrets.token_hex(16)
    path.write_text(token, encoding="utf-8")
    count = min(getattr(pool, "workers", 1), _MOST)
    try:
        probes = [pool.submit(read_token, str(path)) for _ in range(count)]
        answers = [probe.result() for probe in probes]
    except Exception as error:
        raise StudyError(
            f"the workers cannot be used: a first small task ended with {type(error).__name__}: "
            f"{first_line(error)}; is this version of hf_stabilizer installed where they run?"
        ) from error
    finally:
        path.unlink(missing_ok=True)
    if any(answer != token for answer in answers):
        blind = sum(answer != token for answer in answers)
        raise StudyError(
            f"{blind} of {count} workers do not see the folder {str(folder)!r}; name one that is "
            "shared by all machines as output_dir, or a URL such as s3://BUCKET/NAME"
        )


def read_token(path: str) -> str | None:
    """Returns what a file holds, in a worker; None if it is not there."""
    for pause in (0.0, 0.1, 0.5, 2.0):  # network file systems may be late
        time.sleep(pause)
        try:
            return Path(path).read_text(encoding="utf-8")
        except OSError:
            continue
    return None
