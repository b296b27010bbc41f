"""What if the body waits until the head has learned something?"""

from __future__ import annotations

from collections.abc import Mapping

from hf_stabilizer.freezing.lifecycle import FreezingCallback
from hf_stabilizer.freezing.stages import FirstSteps, head_first


class HeadFirstCallback(FreezingCallback):
    """Trains the head alone for a while, then everything: linear probing, then fine-tuning.

        steps 1..D       the head (depth N + 1) learns, the body does not move by a bit
        steps D + 1..    everything learns

    D = `duration`; 0 is the plain Trainer, the whole run a linear probe. What was frozen before
    training stays frozen; of a model with adapters only the adapters are frozen and freed. The
    optimizer holds everything from the start; the moments of the body begin in step D + 1. Rates
    are left alone: the schedule goes on while the body waits. What is frozen follows from the step,
    so that resuming needs no state. At the end all is trainable that was.

    For a body in evaluation mode and data that fit in memory `fit_head` gives the optimum of the
    head in one pass; this callback is the form for a body in training mode, for streamed data, and
    for heads of more than one layer.

    Cannot be combined with gradual unfreezing, DeepSpeed and FSDP 1; under DDP not with
    `ddp_find_unused_parameters=False`, which gradient checkpointing means unless it is set.

    Args:
        duration: A share of the run in [0, 1), or from 1 up a number of optimizer steps.
        overrides: Depths for `LayerMap.from_model`; None: as found.
        eval_mode: Keep frozen modules in evaluation mode, so that the head sees the body without
            dropout and batch norm's statistics stay; False: only weights are frozen.

    Raises:
        ConfigurationError: A value out of its range, here or in `on_train_begin`; `duration`
            beyond the end of the run; a head in which nothing is trainable.
        LayerDiscoveryError: In `on_train_begin`: a parameter has no depth.
        ResumeError: In `on_train_begin`: the checkpoint was frozen otherwise, or not at all.

    Example:
        >>> from hf_stabilizer import HeadFirstCallback
        >>> HeadFirstCallback(duration=0.25).first_steps(num_layers=2, max_steps=40)
        {0: 11, 1: 11, 2: 11, 3: 1}

    Source: Kumar, Raghunathan, Jones, Ma, Liang 2022, Fine-Tuning can Distort Pretrained Features
    and Underperform Out-of-Distribution (arXiv 2202.10054), who call it LP-FT. There the probe is
    fitted to the end; here it is trained for a number of steps.
    """

    def __init__(
        self,
        duration: float,
        *,
        overrides: Mapping[str, int | str] | None = None,
        eval_mode: bool = False,
    ):
        super().__init__(duration, overrides=overrides, eval_mode=eval_mode)

    def first_steps(self, num_layers: int, max_steps: int) -> FirstSteps:
        """Returns step 1 for the head, step D + 1 for all below it."""
        return head_first(num_layers, self._steps(max_steps))
