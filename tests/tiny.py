"""Tiny real models and data for the tests: built from configs, no downloads."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.data import Dataset

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}

TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "dataloader_pin_memory": False,
    "seed": 7,
}


def tiny_bert(seed: int = 0, **overrides: Any) -> nn.Module:
    """A BertForSequenceClassification of three layers, sixteen wide."""
    torch.manual_seed(seed)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(**{**SIZES, **overrides})
    )


class Rows(Dataset):  # type: ignore[type-arg]
    """Rows of random tokens whose label depends on them: learnable, and the same every time."""

    def __init__(self, count: int = 32, length: int = 8, num_labels: int = 2, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.input_ids = torch.randint(5, 64, (count, length), generator=generator)
        self.labels = self.input_ids[:, 0] % num_labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.input_ids[index],
            "attention_mask": torch.ones_like(self.input_ids[index]),
            "labels": self.labels[index],
        }


def training_arguments(output_dir: Any, **overrides: Any) -> transformers.TrainingArguments:
    """TrainingArguments for two epochs of four steps on a CPU, quiet."""
    return transformers.TrainingArguments(str(output_dir), **{**TRAINING, **overrides})


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether every parameter and buffer of both is equal to the last bit."""
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


WORDS = ("the", "a", "film", "news", "was", "is", "very", "not", "good", "bad", "what", "who")


def tiny_tokenizer(**special: Any) -> transformers.PreTrainedTokenizerFast:
    """A word-level tokenizer of BERT's shape, `[CLS] a [SEP] b [SEP]`; the limit is 40 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: place for place, word in enumerate([*marks, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=inputs,
        **{"model_max_length": 40, **names, **special},
    )


def save_tiny(folder: Any, model: str, seed: int = 0) -> str:
    """Writes a model of two layers with its tokenizer: "bert" (a body), "gpt2", "t5" or "bart"."""
    torch.manual_seed(seed)
    marks: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    built: Any
    if model == "bert":
        built = transformers.BertModel(transformers.BertConfig(**{**SIZES, "num_hidden_layers": 2}))
    elif model == "gpt2":
        sizes = {"n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
        built = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=64, **sizes, **marks)
        )
    elif model == "t5":
        wide = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        built = transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=64, **wide, **marks, decoder_start_token_id=0)
        )
    else:
        tall = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        wide = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40}
        built = transformers.BartForConditionalGeneration(
            transformers.BartConfig(
                vocab_size=64, **tall, **heads, **wide, **marks, decoder_start_token_id=2
            )
        )
    built.save_pretrained(folder)
    # GPT-2 would take the type of a token for a token of its own.
    tokenizer = tiny_tokenizer(eos_token="[SEP]", bos_token="[CLS]")
    if model != "bert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_member(
    folder: Any,
    config: dict[str, Any],
    *,
    head: int = 0,
    path: int = 0,
    noise: float = 0.0,
    seed: int = 1,
    architecture: str = "BertForSequenceClassification",
    **model_options: Any,
) -> Any:
    """Writes what a run leaves that `predict_rows` and soups need: configuration and model.

    Its head is drawn with the seed `head`, which the configuration names; then all weights move by
    normal noise of the given size, drawn with the seed `path`, as training would move them.
    """
    from pathlib import Path

    from hf_stabilizer.configuration import load_configuration
    from hf_stabilizer.run import write_configuration

    folder = Path(folder)
    seeds = {"head_seed": head, "seed": seed}
    configuration = load_configuration({**config, **seeds, "output_dir": str(folder)})
    source = config["model_name_or_path"]
    model_config = transformers.AutoConfig.from_pretrained(source)
    for name, value in {"id2label": {0: "fresh", 1: "rotten"}, **model_options}.items():
        setattr(model_config, name, value)
    torch.manual_seed(head)
    model = getattr(transformers, architecture).from_pretrained(source, config=model_config)
    generator = torch.Generator().manual_seed(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder / "model")
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder / "model")
    write_configuration(configuration, folder)
    return folder
