"""The factor over time: transformers' own schedules, and which of them keep the layers' ratios."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import SchedulerType

from hf_stabilizer import ConfigurationError, create_scheduler, layerwise_decay, param_groups
from hf_stabilizer.recipes import load_recipe
from hf_stabilizer.schedules import complete_schedule
from tests import reference
from tests.tiny import tiny_bert, training_arguments

REFUSED = {"reduce_lr_on_plateau", "greedy"}
OPTIONS = {
    "cosine_with_restarts": [{"num_cycles": 2}],
    "polynomial": [{}, {"lr_end": 1e-4, "power": 2.0}],
    "inverse_sqrt": [{}, {"timescale": 7}],
    "cosine_with_min_lr": [{"min_lr": 1e-4}, {"min_lr_rate": 0.1}],
    "cosine_warmup_with_min_lr": [{"min_lr": 1e-4}, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2}],
    "warmup_stable_decay": [
        {"num_decay_steps": 10},
        {"num_decay_steps": 18, "decay_type": "linear", "min_lr_ratio": 1 / 32},
    ],
}
KEPT = [
    (choice.value, options)
    for choice in SchedulerType
    if choice.value not in REFUSED
    for options in OPTIONS.get(choice.value, [{}])
]


def two_layers(top=1e-3, bottom=2e-4):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (top, bottom)]
    return torch.optim.SGD(groups, lr=top)


@pytest.mark.parametrize(("name", "options"), KEPT)
def test_every_other_schedule_of_transformers_keeps_the_ratios(name, options, tmp_path):
    args = training_arguments(
        tmp_path, lr_scheduler_type=name, warmup_steps=4, lr_scheduler_kwargs=options
    )
    optimizer = two_layers()
    schedule = create_scheduler(optimizer, args, 22)
    seen = set()
    for _ in range(22):
        top, bottom = (group["lr"] for group in optimizer.param_groups)
        assert bottom == pytest.approx(top * 0.2, rel=1e-12)
        seen.add(top)
        optimizer.step()
        schedule.step()
    assert len(seen) > 1 or name == "constant"


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize(
    "enter",
    [
        lambda args: create_scheduler(two_layers(), args, 10),
        lambda args: param_groups(tiny_bert(), args, layerwise_decay(0.9)),
    ],
)
def test_schedules_that_watch_the_loss_are_refused(name, enter, tmp_path):
    args = training_arguments(tmp_path, lr_scheduler_type=name, eval_strategy="epoch")
    with pytest.raises(
        ConfigurationError,
        match=f"lr_scheduler_type='{name}' changes each rate on its own.*choose .* 'linear'",
    ):
        enter(args)


def test_linear_with_warmup_by_hand(tmp_path):
    args = training_arguments(tmp_path, warmup_steps=2)
    optimizer = two_layers(top=1.0, bottom=0.5)
    schedule = create_scheduler(optimizer, args, 6)
    used = []
    for _ in range(6):
        used.append(optimizer.param_groups[1]["lr"])
        optimizer.step()
        schedule.step()
    assert used == [0.0, 0.25, 0.5, 0.375, 0.25, 0.125]
    assert used == [0.5 * reference.linear_schedule(step, 2, 6) for step in range(1, 7)]


def test_it_is_the_schedule_that_the_trainer_makes(tmp_path):
    args = training_arguments(tmp_path, lr_scheduler_type="cosine", warmup_steps=0.25)
    trainer = Trainer(model=tiny_bert(), args=args)
    trainer.create_optimizer_and_scheduler(16)
    ours = create_scheduler(two_layers(), args, 16)
    assert [ours.lr_lambdas[0](i) for i in range(17)] == [
        trainer.lr_scheduler.lr_lambdas[0](i) for i in range(17)
    ]


def test_an_absolute_floor_is_the_top_blocks(tmp_path):
    args = training_arguments(
        tmp_path, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 1e-4}
    )
    schedule = create_scheduler(two_layers(), args, 10)
    assert 1e-3 * schedule.lr_lambdas[0](10) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine_with_min_lr", {}, r"'cosine_with_min_lr' cannot be made .*One of min_lr"),
        ("linear", {"power": 2}, r"'linear' cannot be made with lr_scheduler_kwargs={'power': 2}"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message, tmp_path):
    args = training_arguments(tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs=options)
    with pytest.raises(ConfigurationError, match=message):
        create_scheduler(two_layers(), args, 10)


@pytest.mark.parametrize("steps", [0, -1, True])
def test_a_run_of_no_steps_is_refused(steps, tmp_path):
    with pytest.raises(ConfigurationError, match="num_training_steps must be from 1 up"):
        create_scheduler(two_layers(), training_arguments(tmp_path), steps)


SLANTED = {"num_stable_steps": 0, "decay_type": "linear", "min_lr_ratio": 1 / 32}


def factors(args, steps):
    schedule = create_scheduler(two_layers(), args, steps)
    return [schedule.lr_lambdas[0](step) for step in range(steps)]


def test_slanted_triangular_by_hand(tmp_path):
    args = training_arguments(
        tmp_path,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=0.2,
        lr_scheduler_kwargs={**SLANTED, "min_lr_ratio": 0.2},
    )
    # Up from .2 in two steps, then down to .2 in eight.
    assert factors(args, 10) == pytest.approx([0.2, 0.6, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


@pytest.mark.parametrize("steps", [20, 130])
def test_the_ulmfit_recipe_has_the_schedule_of_the_paper(steps, tmp_path):
    settings = load_recipe("ulmfit").for_task(None)
    names = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps")
    args = training_arguments(tmp_path, **{name: settings[name] for name in names})
    expected = [reference.slanted_triangular(step, steps) for step in range(1, steps + 1)]
    assert factors(args, steps) == pytest.approx(expected, rel=1e-12)


def test_the_decay_takes_what_the_stable_steps_leave(tmp_path):
    args = training_arguments(
        tmp_path,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=1,
        lr_scheduler_kwargs={"num_stable_steps": 2, "decay_type": "linear"},
    )
    assert factors(args, 5) == [0, 1, 1, 1, 0.5]
    assert factors(args, 3) == [0, 1, 1]
    args.lr_scheduler_kwargs = complete_schedule(args, 5)
    assert factors(args, 7) == [0, 1, 1, 1, 0.75, 0.5, 0.25]  # of a longer run, from the same
    args.lr_scheduler_kwargs = {"num_decay_steps": 3}
    assert complete_schedule(args, 10) == {"num_decay_steps": 3}
    args.lr_scheduler_kwargs = {"num_stable_steps": "2"}
    with pytest.raises(ConfigurationError, match="num_stable_steps must be a whole number of"):
        factors(args, 5)
