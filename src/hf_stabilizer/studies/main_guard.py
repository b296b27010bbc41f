"""Is this the import of a script by a worker process that the script itself has started?

    script.py                      worker process (spawn)
    run_study(...)  ── starts ──>  imports script.py to find its functions
                                   └── run_study(...) again, unless it stands under
                                       `if __name__ == "__main__":`

Such a worker ends without a word, with an exit code that tells the process which started it; that
one says what to do, once. Imports no torch.
"""

from __future__ import annotations

import multiprocessing
import sys

from hf_stabilizer.errors import StudyError

UNGUARDED = 86
"""Exit code of a worker in which the script would have started a study again."""


class UnguardedScriptError(StudyError):
    """Worker processes cannot import the script that started them: what it does has no guard."""

    @classmethod
    def of(cls, code: int) -> UnguardedScriptError:
        """Returns the error for the exit code of a worker that did not come up.

        Example:
            >>> print(str(UnguardedScriptError.of(1)).partition(", and ")[2])
            it ended there with exit code 1 (see above); put what it does under
            `if __name__ == "__main__":`, or give executor='in-process'
        """
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        named = "the script that starts them" if script is None else repr(script)
        what = (
            "it starts the study again there"
            if code == UNGUARDED
            else f"it ended there with exit code {code} (see above)"
        )
        return cls(
            f"the worker processes import {named}, and {what}; put what it does under "
            "`if __name__ == \"__main__\":`, or give executor='in-process'"
        )


def leave_if_imported_by_worker() -> None:
    """Ends a worker process in which a script starts a study while it is being imported.

    A worker that is up may start whatever it likes: only the import of the main module, which
    `multiprocessing` marks as it does for its own check, is meant.

    Raises:
        SystemExit: This is such an import.
    """
    # As `multiprocessing.spawn._check_not_importing_main` tells it (CPython 3.10 to 3.14).
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)
