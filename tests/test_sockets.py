from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

from hf_stabilizer import sockets


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_evaluation(self) -> None:
        self.heard.append("evaluation")

    def before_training(self) -> None:
        self.heard.append("training")


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def test_each_listener_hears_each_turn_once_and_hangs_up_in_any_order():
    sgd, first, second, run = optimizer(), Listener(), Listener(), object()
    sockets.connect(sgd, first, run=run)
    sockets.connect(sgd, second, run=run)
    sockets.connect(sgd, first, run=run)  # set up twice
    assert sockets.listeners(sgd, run=run) == (first, second)
    sgd.eval()
    sgd.train()
    assert first.heard == second.heard == ["evaluation", "training"]
    sockets.disconnect(sgd, first)
    sockets.disconnect(sgd, first)
    sgd.eval()
    assert len(first.heard) == 2
    assert second.heard[-1] == "evaluation"
    sockets.disconnect(sgd, second)
    assert not hasattr(sgd, "eval")


def test_listeners_of_a_run_that_broke_off_are_dropped():
    sgd, old, new = optimizer(), Listener(), Listener()
    run = object()
    sockets.connect(sgd, old, run=object())
    assert sockets.listeners(sgd, run=run) == ()
    sockets.connect(sgd, new, run=run)
    sgd.eval()
    assert not old.heard
    assert new.heard == ["evaluation"]


def test_methods_that_the_optimizer_had_are_called_first_and_put_back():
    sgd, listener = optimizer(), Listener()
    sgd.train = lambda: listener.heard.append("own")
    assert not sockets.has_modes_of_its_own(sgd)
    own = sgd.train
    sockets.connect(sgd, listener, run=None)
    sgd.train()
    assert listener.heard == ["own", "training"]
    sockets.disconnect(sgd, listener)
    assert sgd.train is own
    assert not hasattr(sgd, "eval")


def test_a_copy_of_the_model_calls_nobody():
    model, called = nn.Linear(1, 1), []
    sockets.before_state_dict(model, lambda: called.append("first"))
    handle = sockets.before_state_dict(model, lambda: called.append("second"))
    copy.deepcopy(model).state_dict()
    pickle.loads(pickle.dumps(model)).state_dict()
    assert not called
    model.state_dict()
    assert called == ["second"]
    handle.remove()
    model.state_dict()
    assert called == ["second"]
