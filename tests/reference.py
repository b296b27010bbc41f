"""The oracle: every formula of the package again, slow and obvious, in plain Python or numpy."""

from __future__ import annotations
