"""Was it the disk? Told from what writers of files raise when there is no room left.

Imports no torch.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from hf_stabilizer.errors import StudyError, first_line

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# torch.save and safetensors write from C++ and Rust, where the number is lost.
WORDS = (
    *("No space left", "quota exceeded", "os error 28", "os error 122"),
    "PytorchStreamWriter failed writing",
)


class DiskFullError(StudyError):
    """Nothing more can be written where the study lies."""

    @classmethod
    def of(cls, error: BaseException, path: Path) -> DiskFullError:
        """Returns the error to raise for what a writer raised."""
        return cls(
            f"nothing more can be written into {str(path)!r} ({first_line(_first(error))}); make "
            "room and start the study again: it repeats nothing that was finished"
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that there is no room to write.

    Example:
        >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
        True
        >>> is_disk_full(RuntimeError("CUDA out of memory"))
        False
    """
    return any(_says_so(cause) for cause in _causes(error))


def _first(error: BaseException) -> Exception:
    found = next(cause for cause in _causes(error) if _says_so(cause))
    return found if isinstance(found, Exception) else OSError(str(found))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return any(words in str(error) for words in WORDS)
