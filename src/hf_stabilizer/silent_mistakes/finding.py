"""What was found before training began? A mistake, how bad it is, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that would go wrong, or that is worth knowing before a run.

    Example:
        >>> print(Finding("no-clipping", "warning", "max_grad_norm=0.0", "set max_grad_norm=1.0"))
        max_grad_norm=0.0; set max_grad_norm=1.0
    """

    code: str
    """Short name that stays the same between versions, e.g. "dead-pooler"."""
    severity: Severity
    """"error": the run would fail; "warning": it goes wrong without a word; "note": good to
    know."""
    message: str
    """What was found, in one sentence with the values."""
    remedy: str
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message
