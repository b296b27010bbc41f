"""What is the mean of the path? Stochastic weight averaging and exponential moving averages.

    swa, ema      which weights are averaged, and how
    lifecycle     when it all happens
    weights       which weights the model shows, the raw ones or their mean
    checkpoints   what lies beside the model, so that resuming is bit-exact
    export        the mean, or the raw weights, as an ordinary model folder
    rates         how fast the path moves while it is averaged
    conflicts     what it cannot be combined with

The mean is what the model shows, scores and saves; the raw weights are what is trained.
"""

from __future__ import annotations

from hf_stabilizer.averaging.checkpoints import AVERAGING_FILE
from hf_stabilizer.averaging.ema import EMACallback
from hf_stabilizer.averaging.export import export_model
from hf_stabilizer.averaging.lifecycle import AveragingCallback
from hf_stabilizer.averaging.rates import Anneal, swa_rate, swa_targets
from hf_stabilizer.averaging.swa import SWACallback

__all__ = [
    "AVERAGING_FILE",
    "Anneal",
    "AveragingCallback",
    "EMACallback",
    "SWACallback",
    "export_model",
    "swa_rate",
    "swa_targets",
]
