"""What would go wrong in silence? One small pure function for each mistake, and a table of them."""

from hf_stabilizer.silent_mistakes.catalogue import preflight
from hf_stabilizer.silent_mistakes.finding import Finding, Severity

__all__ = ["Finding", "Severity", "preflight"]
