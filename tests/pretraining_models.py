"""Tiny models of several kinds with a tokenizer, and a text that a tiny model can learn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import transformers

NOUNS = ("film", "plot", "cast", "scene", "tone", "score", "actor", "story")
GOOD, BAD = ("good", "fine", "great"), ("bad", "poor", "weak")
WORDS = (*NOUNS, *GOOD, *BAD, "the", "was", "not", "and", "very", "un", "##able", "##ing", ".")
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer(**special: Any) -> Any:
    """A WordPiece tokenizer of BERT's shape that cuts "unable" and "acting" in two."""
    tokens = [*MARKS, *WORDS, "act"]
    made = transformers.BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}, **special)
    made.model_max_length = 32
    return made


def causal_tokenizer() -> Any:
    """A word-level one without special tokens around a text, padded with the end-of-text token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = ["<unk>", "</s>", *WORDS]
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", model_max_length=32
    )


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def configurations(vocab: int) -> dict[str, Any]:
    """One configuration for each kind of model."""
    small = {**SIZES, "vocab_size": vocab}
    plain = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return {
        "bert": transformers.BertConfig(**small),
        "roberta": transformers.RobertaConfig(**small, **plain),
        "distilbert": transformers.DistilBertConfig(
            vocab_size=vocab, dim=16, n_layers=2, n_heads=2, hidden_dim=24,
            max_position_embeddings=40,
        ),
        "modernbert": transformers.ModernBertConfig(
            **small, **plain, cls_token_id=2, sep_token_id=3, reference_compile=False,
            attn_implementation="eager",
        ),
        "gpt2": transformers.GPT2Config(
            vocab_size=vocab, n_embd=16, n_layer=2, n_head=2, n_positions=40,
            bos_token_id=1, eos_token_id=1,
        ),
        "llama": transformers.LlamaConfig(
            **small, num_key_value_heads=2, bos_token_id=1, eos_token_id=1
        ),
    }  # fmt: skip


def save_model(kind: str, folder: Path, *, head: str = "lm") -> Path:
    """Saves a tiny model with a language-model head, or its body alone, and its tokenizer."""
    causal = kind in ("gpt2", "llama")
    words = causal_tokenizer() if causal else tokenizer()
    config = configurations(len(words))[kind]
    auto: Any = transformers.AutoModel
    if head == "lm":
        masked, clm = transformers.AutoModelForMaskedLM, transformers.AutoModelForCausalLM
        auto = clm if causal else masked
    torch.manual_seed(0)
    auto.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sentences(count: int = 48) -> list[str]:
    """Different sentences of one pattern: what is said of a noun depends on the noun."""
    found = []
    for place in range(count):
        first, second = NOUNS[place % 8], NOUNS[place // 8 % 8]
        kind = GOOD if place % 2 else BAD
        said = kind[place // 16 % 3]
        found.append(f"the {first} was {said} and the {second} was {said} .")
    return found


def write_texts(path: Path, texts: list[str], *, labelled: bool = False) -> Path:
    """Writes a CSV of texts, with alternating labels where asked for."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"] if labelled else ["text"])
        writer.writerows(
            [text, place % 2] if labelled else [text] for place, text in enumerate(texts)
        )
    return path


def configuration(model: Path, folder: Path, texts: list[str] | None = None) -> dict[str, Any]:
    """Twelve labelled rows that share no text with the unlabelled ones."""
    rows = [f"very very {noun} {said} {said}" for noun in NOUNS[:6] for said in ("fine", "weak")]
    return {
        "model_name_or_path": str(model),
        "train_file": str(write_texts(folder / "train.csv", rows, labelled=True)),
        "validation_size": 4,
        "unlabelled_file": str(write_texts(folder / "text.csv", texts or sentences())),
        "max_length": 16,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


TRAINING = {"learning_rate": 5e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8}
