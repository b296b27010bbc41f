"""What reaches a layer, and what the layers below make of the same rows."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from hf_stabilizer import ConfigurationError
from hf_stabilizer.features import longest_first, observe_inputs
from tests.tiny import Rows, tiny_bert

collate = transformers.default_data_collator


def observe(model, rows, **options):
    options = {"keep": lambda batch: batch, **options}
    return observe_inputs(model, model.classifier, rows, collate, **options)


def test_one_pass_gives_the_heads_inputs_and_every_hidden_state():
    model, rows = tiny_bert(), Rows(40)
    first, second = observe(model, rows, indices=range(39, -1, -1), hidden_states=True)
    assert first.rows == tuple(range(39, 7, -1))
    assert second.rows == tuple(range(7, -1, -1))
    batch = collate([rows[k] for k in second.rows])
    with torch.no_grad():
        labels = batch.pop("labels")
        expected = model.eval().bert(**batch, output_hidden_states=True)
    torch.testing.assert_close(second.inputs, expected.pooler_output)
    assert len(second.hidden) == 4
    for ours, theirs in zip(second.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(second.labels, labels)
    assert torch.equal(second.mask, batch["attention_mask"])


def test_hidden_states_are_only_there_when_asked_for():
    (batch,) = observe(tiny_bert(), Rows(8))
    assert batch.hidden == ()


def test_the_pass_ends_when_enough_was_kept():
    seen = []

    def keep(batch):
        seen.append(batch.rows)
        return None if len(seen) == 2 else len(batch.rows)

    model = tiny_bert()
    assert observe(model, Rows(100), keep=keep) == [32]
    assert len(seen) == 2
    assert model.training


def test_the_longest_rows_come_first():
    rows = [{"input_ids": [5]}, {"input_ids": [[5, 6], [7]]}, {"input_ids": [5, 6]}]
    assert longest_first(rows, [0, 1, 2]) == [1, 2, 0]


class Mute(nn.Module):
    """Takes the wish for hidden states, and does not fulfil it."""

    def __init__(self):
        super().__init__()
        self.body, self.classifier = tiny_bert().bert, nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False):
        return {"logits": self.classifier(self.body(input_ids, attention_mask).pooler_output)}


class Deaf(Mute):
    """Does not take it."""

    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize("kind", [Mute, Deaf])
def test_refuses_hidden_states_that_are_not_there(kind):
    with pytest.raises(ConfigurationError, match="shows no hidden states"):
        observe(kind(), Rows(8), hidden_states=True)
