"""How are the weights of the path averaged with equal weight? Stochastic weight averaging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim.swa_utils import get_swa_multi_avg_fn
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.averaging.lifecycle import AveragingCallback
from hf_stabilizer.averaging.rates import Anneal, swa_rate, swa_targets
from hf_stabilizer.averaging.weights import Update
from hf_stabilizer.checkpoint_notes import Settings
from hf_stabilizer.errors import ConfigurationError, check_switch, check_whole
from hf_stabilizer.rate_override import RateOverride

# Any in this module: what the Trainer hands to every callback.


class SWACallback(AveragingCallback):
    """Averages the weights that training passes through, each with the same weight.

        mean = (w_start + w_(start+every) + w_(start+2 every) + ... [+ w_last]) / n

    w_s are the weights after optimizer step s. The last step of the run, planned or early, is in
    the mean that is left in the model even when it is off the grid. In mid-run, evaluations use
    the mean over the grid so far; the evaluation and the checkpoint of the planned last step
    include that step. Before `start`, and in a run that ends before it, nothing is changed.
    `start` at the last step leaves the plain Trainer's weights.

    Evaluations and predictions measure the mean; from `start` on each checkpoint's
    `model.safetensors` holds it, and `averaging.safetensors` beside it holds what resuming needs.
    The weights that are trained are those of a run without averaging, bit for bit, unless
    `learning_rate` is given. With it, step start + k uses (1 - a) times the schedule's rate + a
    times the SWA rate, a = min(1, k / anneal_steps), or (1 - cos(pi a)) / 2 for "cosine".

    Optimizer steps that changed nothing (a GradScaler's overflow, one that DivergenceGuardCallback
    emptied) are not averaged. Buffers are left to the model: those of batch norm belong to the raw
    weights, and a warning says so. `export_model` writes either kind of weights of a checkpoint as
    an ordinary model folder. `trainer.save_model()` in a callback writes what the model shows then:
    at the end of a step the raw weights, or the mean after `trainer.optimizer.eval()`.

    Resuming is exact to the last bit wherever the plain Trainer's is: an evaluation at the end of
    an epoch comes after the save of its last step and draws random numbers, so with
    `eval_strategy="epoch"` and `save_strategy="steps"` add EvaluationsPerEpochCallback(0), which
    puts them back.

    Cannot be combined with a second averaging, schedule-free optimizers, DeepSpeed ZeRO-3 and
    FSDP 1; `learning_rate` not with schedules that follow a metric, nor with another callback that
    sets the rate. Costs one fp32 copy of the trained weights. While the mean is shown, it changes
    places with the raw weights; weights that are not fp32 need a second copy of their own type
    then, as does the mean with the last step, where that is off the grid. An update takes about
    as long as reading and writing those bytes once, for half precision twice as long. Under FSDP2
    the first process gathers the whole of raw weights and mean in its CPU memory for each save.

    Args:
        start: First step of the grid: a share of the run in [0, 1), or from 1 up an optimizer
            step; 0 means 1.
        every: Optimizer steps between two weights that are averaged, from 1 up.
        learning_rate: The SWA rate of the top block (the first parameter group), above 0; None
            leaves the schedule alone.
        anneal_steps: Optimizer steps from the schedule's rate to the SWA rate; 0 jumps.
        anneal: "linear" or "cosine".
        keep_ratios: Every group keeps its ratio to the first; False: all end at `learning_rate`,
            as with torch's SWALR.

    Raises:
        ConfigurationError: A value out of its range, here or in `on_train_begin`.
        ResumeError: In `on_train_begin`: the checkpoint was averaged with other settings, or its
            `averaging.safetensors` is missing though averaging had begun.

    Example:
        >>> import tempfile, torch, transformers
        >>> from hf_stabilizer import SWACallback
        >>> config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
        >>> row = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = transformers.TrainingArguments(folder, max_steps=4, use_cpu=True,
        ...         report_to="none", disable_tqdm=True, save_steps=4, dataloader_pin_memory=False)
        ...     trainer = transformers.Trainer(
        ...         transformers.BertForSequenceClassification(config), args,
        ...         train_dataset=[row] * 8, callbacks=[SWACallback(start=0.5)])
        ...     _ = trainer.train()  # the mean of steps 2, 3 and 4 is left in trainer.model
        {'train_runtime': ...}

    Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, Averaging Weights Leads to Wider
    Optima and Better Generalization, section 3.2, algorithm 1 (arXiv:1803.05407). There the mean
    is over the ends of cycles; here over any grid, with the last step added.
    """

    _adds_last_step = True

    def __init__(
        self,
        start: float = 0.75,
        every: int = 1,
        learning_rate: float | None = None,
        anneal_steps: int = 10,
        anneal: Anneal = "linear",
        keep_ratios: bool = True,
    ):
        super().__init__(start=start, every=every)
        check_whole(anneal_steps, "of optimizer steps from 0 up", name="anneal_steps")
        if learning_rate is not None and not _is_rate(learning_rate):
            raise ConfigurationError(
                f"learning_rate must be a number above 0, got {learning_rate!r}; use None for the "
                "schedule's own rate"
            )
        if anneal not in ("linear", "cosine"):
            raise ConfigurationError(f'anneal must be "linear" or "cosine", got {anneal!r}')
        check_switch(keep_ratios, name="keep_ratios")
        self.learning_rate = learning_rate
        self.anneal_steps = anneal_steps
        self.anneal: Anneal = anneal
        self.keep_ratios = keep_ratios
        self._override: RateOverride | None = None
        self._targets: list[float] = []

    def _update(self) -> Update:
        swa_multi_avg_fn: Callable[[], Update] = get_swa_multi_avg_fn
        return swa_multi_avg_fn()

    def _settings(self) -> Settings:
        if self.learning_rate is None:
            return {}
        names = ("learning_rate", "anneal_steps", "anneal", "keep_ratios")
        return {name: getattr(self, name) for name in names}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets up, and works out each group's SWA rate."""
        self._lift_rates()
        self._take_options()
        if self.learning_rate is not None:
            self._override = RateOverride(
                kwargs["optimizer"],
                kwargs["lr_scheduler"],
                owner="SWACallback's learning_rate",
                run=state,
            )
            self._targets = swa_targets(
                self._override.base_rates, self.learning_rate, keep_ratios=self.keep_ratios
            )
        super().on_train_begin(args, state, control, **kwargs)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives the step its SWA rate."""
        super().on_step_begin(args, state, control, **kwargs)
        step = state.global_step + 1
        if self._override is None or step < self._first_step:
            return
        self._override.lift()  # of a step that was begun and broken off
        self._override.apply(
            [
                swa_rate(
                    step,
                    start=self._first_step,
                    scheduled=scheduled,
                    target=target,
                    anneal_steps=self.anneal_steps,
                    anneal=self.anneal,
                )
                for scheduled, target in zip(self._override.scheduled, self._targets, strict=True)
            ]
        )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the weights into the mean, and gives the schedule its own rates back."""
        super().on_optimizer_step(args, state, control, **kwargs)
        if self._override is not None:
            self._override.lift()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the mean in the model, and the schedule's rates in the optimizer."""
        self._lift_rates()
        super().on_train_end(args, state, control, **kwargs)

    def _lift_rates(self) -> None:
        if self._override is not None:
            self._override.lift()
        self._override = None


def _is_rate(value: object) -> bool:
    """Whether it is a number above 0: YAML reads 1e-4 as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < float("inf")
