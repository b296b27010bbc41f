"""fit_head: the last linear layer at the scaled optimum on what it sees; nothing else moves."""

from __future__ import annotations

import copy
import math

import datasets
import numpy as np
import peft
import pytest
import torch
import transformers
from torch import nn

from hf_stabilizer import ConfigurationError, DataError, fit_head
from tests import reference
from tests.tiny import SIZES, Rows, same_weights, tiny_bert, training_arguments

collate = transformers.default_data_collator


class Padded:
    """Rows of unequal length, each a mapping of plain lists, as a tokenizer makes them."""

    def __init__(self, labels, choices=0, seed=0):
        self.labels, self.choices = labels, choices
        self.random = torch.Generator().manual_seed(seed)
        self.rows = [self.row(label) for label in labels]

    def tokens(self):
        length = int(torch.randint(3, 9, (), generator=self.random))
        return torch.randint(5, 64, (length,), generator=self.random).tolist()

    def row(self, label):
        ids = [self.tokens() for _ in range(self.choices)] if self.choices else self.tokens()
        return {"input_ids": ids, "label": label}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def pad(rows):
    """A collator that pads on the right with token 0, choices too."""
    nested = isinstance(rows[0]["input_ids"][0], list)
    texts = [row["input_ids"] if nested else [row["input_ids"]] for row in rows]
    width = max(len(text) for row in texts for text in row)
    ids = torch.tensor([[t + [0] * (width - len(t)) for t in row] for row in texts])
    ids = ids if nested else ids[:, 0]
    labels = torch.tensor([row["label"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def one_by_one(model, rows, features):
    """The features of each row alone, so without padding, and the labels."""
    model.eval()
    with torch.no_grad():
        seen = [features(pad([rows[k]])) for k in range(len(rows))]
    return np.stack([x.double().numpy() for x in seen]), np.array([row["label"] for row in rows])


def check(layer, problem, inputs, targets, l2, scale=0.3, atol=2e-4):
    weight, bias = reference.linear_optimum(
        problem, inputs, targets, l2, layer.out_features, layer.bias is not None
    )
    np.testing.assert_allclose(layer.weight.detach(), scale * weight, atol=atol)
    if layer.bias is not None:
        bias = bias - bias.mean() if problem == "single_label_classification" else bias
        np.testing.assert_allclose(layer.bias.detach(), scale * bias, atol=atol)


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("num_labels", [2, 3])
def test_the_layer_is_the_scaled_optimum_on_its_own_inputs(num_labels, scale):
    model = tiny_bert(num_labels=num_labels)
    rows = Padded([k % num_labels for k in range(70)])
    before = copy.deepcopy(model)
    assert fit_head(model, rows, data_collator=pad, l2=0.01, scale=scale) is model

    def features(batch):
        batch.pop("labels")
        return before.bert(**batch).pooler_output[0]

    inputs, targets = one_by_one(before, rows, features)
    check(model.classifier, "single_label_classification", inputs, targets, 0.01, scale)
    with torch.no_grad():
        model.classifier.weight.copy_(before.classifier.weight)
        model.classifier.bias.copy_(before.classifier.bias)
    assert same_weights(model, before)


def test_by_hand_on_a_head_that_sees_one_number():
    """Regression, x = -1, 1 and y = 1, 5, l2 = 1: W = 1, b = 3 (see test_linear_fit), times 0.3."""

    class Number(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body
            self.config = body.config
            self.score = nn.Linear(1, 1)

        def forward(self, input_ids):
            body = self.body(input_ids)[0][:, 0, :1]
            return {"logits": self.score(body * 0 + (2 * input_ids[:, :1] - 1).float())}

    model = Number(tiny_bert().bert)
    rows = [{"input_ids": [0, 7], "labels": 1.0}, {"input_ids": [1, 7], "labels": 5.0}]
    fit_head(model, rows, data_collator=collate, l2=1.0)
    assert model.score.weight.item() == pytest.approx(0.3)
    assert model.score.bias.item() == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_of_a_decoder_the_token_that_is_scored_counts(name):
    cls = getattr(transformers, f"{name}ForSequenceClassification")
    sizes = {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}
    torch.manual_seed(0)
    model = cls(cls.config_class(**sizes))
    rows = Padded([k % 3 for k in range(45)])
    fit_head(model, rows, data_collator=pad, l2=0.01)

    def features(batch):
        batch.pop("labels")
        return model.base_model(**batch).last_hidden_state[0, -1]

    inputs, targets = one_by_one(model, rows, features)
    assert model.score.bias is None
    check(model.score, "single_label_classification", inputs, targets, 0.01, atol=2e-3)


def test_of_a_multiple_choice_head_every_choice_counts():
    torch.manual_seed(0)
    model = transformers.BertForMultipleChoice(transformers.BertConfig(**SIZES))
    rows = Padded([k % 3 for k in range(40)], choices=3)
    fit_head(model, rows, data_collator=pad, l2=0.001)

    def features(batch):
        return torch.stack(
            [
                model.bert(choice[choice != 0][None]).pooler_output[0]
                for choice in batch["input_ids"][0]
            ]
        )

    inputs, targets = one_by_one(model, rows, features)
    check(model.classifier, "multiple_choice", inputs, targets, 0.001)
    assert model.classifier.bias.item() == 0.0


def test_of_a_tagger_every_labelled_token_counts():
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(transformers.BertConfig(**SIZES, num_labels=3))
    ids = torch.randint(5, 64, (40, 6))
    labels = torch.where(torch.arange(6) % 2 == 0, ids % 3, -100)
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    fit_head(model, rows, data_collator=collate, l2=0.01)
    model.eval()
    with torch.no_grad():
        inputs = model.bert(ids).last_hidden_state[:, ::2].reshape(-1, 16).double().numpy()
    targets = labels[:, ::2].reshape(-1).numpy()
    check(model.classifier, "single_label_classification", inputs, targets, 0.01)


@pytest.mark.parametrize(
    ("problem", "stated", "num_labels", "label"),
    [
        ("regression", False, 1, math.sin),
        ("regression", True, 1, math.sin),
        ("regression", True, 2, lambda k: [math.sin(k), math.cos(k)]),
        (
            "multi_label_classification",
            False,
            3,
            lambda k: [float(k & bit > 0) for bit in (1, 2, 4)],
        ),
        ("multi_label_classification", True, 2, lambda k: [float(k & bit > 0) for bit in (1, 2)]),
    ],
)
def test_the_other_problems_stated_or_deduced(problem, stated, num_labels, label):
    model = tiny_bert(num_labels=num_labels, problem_type=problem if stated else None)
    rows = Padded([label(k) for k in range(40)])
    fit_head(model, rows, data_collator=pad, l2=0.001)
    assert model.config.problem_type == (problem if stated else None)

    def features(batch):
        batch.pop("labels")
        return model.bert(**batch).pooler_output[0]

    inputs, targets = one_by_one(model, rows, features)
    check(model.classifier, problem, inputs, targets.reshape(40, num_labels), 0.001)


def test_no_better_head_exists_by_the_models_own_loss():
    model = fit_head(tiny_bert(), Rows(64), data_collator=collate, l2=0.01, scale=1.0).eval()
    batch = collate([Rows(64)[k] for k in range(64)])
    weight, bias = model.classifier.weight, model.classifier.bias
    (model(**batch).loss + 0.01 / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-5
    assert bias.grad.abs().max() < 1e-5


def rows_of(task, count=36):
    """Random tokens with labels that depend on them, in the shape of a task; each ends in token 1,
    by which T5 and BART find the end of a text."""
    shape = (count, 3, 6) if task == "choices" else (count, 6)
    ids = torch.randint(5, 64, shape, generator=torch.Generator().manual_seed(1))
    first = ids[..., 0]
    labels = {
        "classes": lambda: first % 3,
        "flags": lambda: torch.stack([first % 2, first % 3 > 0], dim=1).float(),
        "number": lambda: first / 10.0,
        "numbers": lambda: torch.stack([first / 10.0, ids[..., 1] / 20.0], dim=1),
        "tags": lambda: torch.where(torch.arange(6) % 2 == 0, ids % 3, -100),
        "choices": lambda: first.argmax(dim=1),
    }[task]()
    ids[..., -1] = 1
    return [
        {"input_ids": i, "attention_mask": torch.ones_like(i), "labels": y}
        for i, y in zip(ids, labels, strict=True)
    ]


NARROW = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}  # DistilBERT's own names
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "pad_token_id": 0}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2}
BART |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
BART |= {"eos_token_id": 1, "decoder_start_token_id": 2}


@pytest.mark.parametrize(
    ("name", "options", "task"),
    [
        ("BertForSequenceClassification", {"num_labels": 3}, "classes"),
        ("BertForSequenceClassification", {"num_labels": 2}, "flags"),
        ("BertForSequenceClassification", {"num_labels": 1}, "number"),
        (
            "BertForSequenceClassification",
            {"num_labels": 2, "problem_type": "regression"},
            "numbers",
        ),
        ("RobertaForSequenceClassification", {"num_labels": 3}, "classes"),
        ("DistilBertForSequenceClassification", {"num_labels": 3, **NARROW}, "classes"),
        (
            "DebertaV2ForSequenceClassification",
            {"num_labels": 3, "pooler_hidden_size": 16},
            "classes",
        ),
        ("ModernBertForSequenceClassification", {"num_labels": 3, "pad_token_id": 0}, "classes"),
        ("GPT2ForSequenceClassification", {"num_labels": 3, **GPT2}, "classes"),
        ("LlamaForSequenceClassification", {"num_labels": 2, "pad_token_id": 0}, "flags"),
        ("T5ForSequenceClassification", {"num_labels": 3, **T5}, "classes"),
        ("BartForSequenceClassification", {"num_labels": 3, **BART}, "classes"),
        ("BertForTokenClassification", {"num_labels": 3}, "tags"),
        ("RobertaForTokenClassification", {"num_labels": 3}, "tags"),
        ("DebertaV2ForTokenClassification", {"num_labels": 3}, "tags"),
        ("GPT2ForTokenClassification", {"num_labels": 3, **GPT2}, "tags"),
        ("BertForMultipleChoice", {}, "choices"),
        ("RobertaForMultipleChoice", {}, "choices"),
        ("DistilBertForMultipleChoice", NARROW, "choices"),
        ("DebertaV2ForMultipleChoice", {"pooler_hidden_size": 16}, "choices"),
    ],
)
# transformers 5.4 scripts a part of DeBERTa when it is imported.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_of_every_task_and_family_no_better_head_exists(name, options, task):
    """By the model's own loss on its own logits: with the penalty, its gradient is zero."""
    cls = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(**{**SIZES, **options})).double()
    rows, before = rows_of(task), copy.deepcopy(model)
    fit_head(model, rows, data_collator=collate, l2=0.01, scale=1.0)
    changed = {
        n for n, p in model.named_parameters() if not torch.equal(p, before.get_parameter(n))
    }
    head = {n.rpartition(".")[0] for n in changed}
    assert len(head) == 1
    layer = model.get_submodule(head.pop())
    batch = collate(rows)
    if batch["labels"].is_floating_point():
        batch["labels"] = batch["labels"].double()
    half = 0.5 if task in ("number", "numbers") else 1.0
    loss = model.eval()(**batch).loss * half + 0.01 / 2 * layer.weight.square().sum()
    loss.backward()
    assert layer.weight.grad.abs().max() < 1e-7
    assert layer.bias is None or layer.bias.grad.abs().max() < 1e-7


def test_of_an_image_classifier_no_better_head_exists():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, num_labels=3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    pixels = torch.randn(40, 3, 8, 8)
    labels = (pixels.mean(dim=(1, 2, 3)) * 10).long() % 3
    rows = [{"pixel_values": x, "labels": y} for x, y in zip(pixels, labels, strict=True)]
    fit_head(model, rows, data_collator=collate, l2=0.01, scale=1.0)
    loss = model.eval()(**collate(rows)).loss
    (loss + 0.01 / 2 * model.classifier.weight.square().sum()).backward()
    assert model.classifier.weight.grad.abs().max() < 1e-6


def test_half_precision_is_fitted_in_double_and_cast_at_the_end():
    model = tiny_bert(num_labels=3).to(torch.bfloat16)
    rows = rows_of("classes")
    model.eval()
    with torch.no_grad():
        batch = collate(rows)
        labels = batch.pop("labels").numpy()
        inputs = model.bert(**batch).pooler_output.double().numpy()
    weight, _ = reference.linear_optimum(
        "single_label_classification", inputs, labels, 0.01, 3, True
    )
    fit_head(model, rows, data_collator=collate, l2=0.01, scale=1.0)
    # Seven binary digits, and a batch's other shape rounds otherwise.
    ours = model.classifier.weight.detach().double().numpy()
    np.testing.assert_allclose(ours, weight, atol=0.05 * np.abs(weight).max())


def test_the_penalty_is_chosen_with_each_text_in_one_fold():
    """Every token of a text bears one random tag, which it would be easy to learn by heart."""
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(transformers.BertConfig(**SIZES, num_labels=2))
    ids = torch.randint(5, 64, (24, 1), generator=torch.Generator().manual_seed(0)).expand(24, 6)
    rows = [{"input_ids": i, "labels": torch.full((6,), k % 2)} for k, i in enumerate(ids)]
    fitted = fit_head(copy.deepcopy(model), rows, data_collator=collate)
    strong = fit_head(copy.deepcopy(model), rows, data_collator=collate, l2=1.0)
    ratio = fitted.classifier.weight.norm() / strong.classifier.weight.norm()
    weak = fit_head(copy.deepcopy(model), rows, data_collator=collate, l2=1e-4)
    assert ratio < 0.1 * weak.classifier.weight.norm() / strong.classifier.weight.norm()


def test_deterministic_whatever_the_random_state_and_the_head_before():
    one, two = tiny_bert(), tiny_bert()
    nn.init.normal_(two.classifier.weight)
    one.bert.encoder.eval()
    modes = [module.training for module in one.modules()]
    fit_head(one, Rows(), data_collator=collate)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    fit_head(two, Rows(), data_collator=collate)
    assert torch.equal(state, torch.get_rng_state())
    assert same_weights(one, two)
    assert [module.training for module in one.modules()] == modes


def test_training_starts_from_the_fitted_head_and_goes_on_from_there(tmp_path):
    losses = []
    for fitted in (True, False):
        model = tiny_bert()
        if fitted:
            fit_head(model, Rows(), data_collator=collate, l2=1e-4, scale=1.0)
        head = model.classifier.weight.detach().clone()
        trainer = transformers.Trainer(
            model=model,
            args=training_arguments(tmp_path),
            train_dataset=Rows(),
            eval_dataset=Rows(),
        )
        losses.append(trainer.evaluate()["eval_loss"])
        trainer.train()
        assert not torch.equal(model.classifier.weight, head)
    assert losses[0] < losses[1] - 0.05


def test_columns_that_the_model_does_not_take_are_left_out():
    rows = [
        {**row, "text": "some words", "label": row["label"]} for row in Padded([0, 1] * 10).rows
    ]
    one = fit_head(tiny_bert(), rows, data_collator=pad, l2=0.1)
    two = fit_head(tiny_bert(), Padded([0, 1] * 10), data_collator=pad, l2=0.1)
    assert same_weights(one, two)


def test_a_collator_that_tokenises_gets_the_whole_row():
    def tokenise(rows):
        return pad(
            [{"input_ids": [ord(c) % 50 + 5 for c in r["text"]], "label": r["label"]} for r in rows]
        )

    rows = [{"text": f"words {k}", "label": k % 2} for k in range(20)]
    before = tiny_bert()
    assert not same_weights(fit_head(tiny_bert(), rows, data_collator=tokenise, l2=0.1), before)


def test_a_frozen_model_and_half_precision_weights_are_no_obstacle():
    model = tiny_bert().to(torch.bfloat16).requires_grad_(False)
    fit_head(model, Rows(), data_collator=collate, l2=0.1)
    assert model.classifier.weight.dtype == torch.bfloat16
    assert not model.classifier.weight.requires_grad
    assert model.classifier.weight.any()


# peft asks transformers 5 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_of_a_model_with_adapters_the_head_that_trains_is_fitted():
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    model = peft.get_peft_model(tiny_bert(), config)
    fit_head(model, Rows(), data_collator=collate, l2=0.1)
    plain = fit_head(tiny_bert(), Rows(), data_collator=collate, l2=0.1)
    head = model.base_model.model.classifier
    torch.testing.assert_close(head.modules_to_save["default"].weight, plain.classifier.weight)
    assert torch.equal(head.original_module.weight, tiny_bert().classifier.weight)


def test_a_datasets_dataset_will_do():
    rows = datasets.Dataset.from_list(Padded([0, 1] * 10).rows)
    one = fit_head(tiny_bert(), rows, data_collator=pad, l2=0.1)
    two = fit_head(tiny_bert(), Padded([0, 1] * 10), data_collator=pad, l2=0.1)
    assert same_weights(one, two)


class Head(nn.Module):
    """A body with a head of one's own: what becomes of the last layer's outputs is `after`."""

    def __init__(self, after):
        super().__init__()
        self.body = tiny_bert().bert
        self.score = nn.Linear(16, 2)
        self.after = after

    def forward(self, input_ids, attention_mask=None):
        return (self.after(self.score, self.body(input_ids, attention_mask)),)


def test_multi_sample_dropout_is_one_layer_seen_five_times():
    def average(score, output):
        return torch.stack([score(output.pooler_output) for _ in range(5)]).mean(dim=0)

    one = fit_head(Head(average), Rows(), data_collator=collate, l2=0.1)
    two = fit_head(tiny_bert(), Rows(), data_collator=collate, l2=0.1)
    torch.testing.assert_close(one.score.weight, two.classifier.weight)


@pytest.mark.parametrize(
    "after",
    [
        lambda score, output: score(output.last_hidden_state).mean(dim=1),
        lambda score, output: 30 * torch.tanh(score(output.pooler_output) / 30),
        lambda score, output: score(output.pooler_output) + score(output.last_hidden_state[:, 0]),
        lambda score, output: score(output.pooler_output)[:, :1],
    ],
    ids=["averaged over tokens", "capped", "of two vectors", "cut"],
)
def test_refuses_logits_that_are_not_the_last_layers_outputs(after):
    model = Head(after)
    before = copy.deepcopy(model.score)
    with pytest.raises(ConfigurationError, match="logits are not, or not only, the outputs"):
        fit_head(model, Rows(), data_collator=collate, l2=0.1)
    assert same_weights(model.score, before)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)), "language model"),
        (lambda: transformers.BertModel(transformers.BertConfig(**SIZES)), "has none"),
        (
            lambda: transformers.BertForQuestionAnswering(transformers.BertConfig(**SIZES)),
            "question-answering model, which scores every token twice",
        ),
    ],
)
def test_refuses_models_without_a_head_to_fit(model, reason):
    with pytest.raises(ConfigurationError, match=reason):
        fit_head(model(), Rows(), data_collator=collate, l2=0.1)


def test_refuses_a_model_without_values():
    with torch.device("meta"):
        model = tiny_bert()
    with pytest.raises(ConfigurationError, match="weights of classifier"):
        fit_head(model, Rows(), data_collator=collate, l2=0.1)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "0.1"])
@pytest.mark.parametrize("name", ["l2", "scale"])
def test_refuses_numbers_out_of_range(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} must be a finite number > 0, got"):
        fit_head(tiny_bert(), Rows(), data_collator=collate, **{name: value})


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "the dataset has no rows"),
        (iter([]), "collect a stream's rows in a list"),
        ([{"input_ids": [5, 6]}], 'must make "labels"'),
        (Padded([0, 0, 0]).rows, "every label is 0"),
        (Padded([0, 1, 2]).rows, r"labels must be in 0\.\.1, got 2"),
        (Padded([0, 1, -1]).rows, r"labels must be in 0\.\.1, got -1"),
        (Padded([-100, -100]).rows, "every label is -100"),
        (Padded([0.0, 1.0]).rows, "do not fit multi_label_classification with 2 outputs"),
        (Padded([[0.0, 0.5], [1.0, 0.0]]).rows, r"labels must be 0 or 1, got 0\.5"),
    ],
)
def test_refuses_rows_that_no_head_can_be_fitted_to(rows, reason):
    model = tiny_bert()
    before = copy.deepcopy(model)
    collator = pad if isinstance(rows, list) and rows and "label" in rows[0] else collate
    with pytest.raises(DataError, match=reason):
        fit_head(model, rows, data_collator=collator, l2=0.1)
    assert same_weights(model, before)


def test_refuses_values_that_are_not_finite():
    model = tiny_bert(num_labels=1)
    with pytest.raises(DataError, match="not finite"):
        fit_head(model, Padded([1.0, math.nan]), data_collator=pad, l2=0.1)
    with torch.no_grad():
        model.bert.pooler.dense.bias.fill_(math.nan)
    with pytest.raises(DataError, match="not finite"):
        fit_head(model, Padded([1.0, 2.0]), data_collator=pad, l2=0.1)
