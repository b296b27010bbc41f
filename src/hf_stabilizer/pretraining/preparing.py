"""Is everything there that a pre-training needs? Text, rows, model and options, checked together.

Whatever can be wrong is told here, before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.data import load_splits, resolve_location
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.models import load_tokenizer
from hf_stabilizer.pretraining.hand_over import TaskModel, load_task_model
from hf_stabilizer.pretraining.language_model import (
    LanguageModel,
    check_tokenizer,
    choose_objective,
    load_language_model,
    read_model_config,
)
from hf_stabilizer.pretraining.masking import LanguageModelingCollator
from hf_stabilizer.pretraining.options import (
    Objective,
    PretrainingOptions,
    row_length,
    training_arguments,
)
from hf_stabilizer.pretraining.rows import (
    Frame,
    as_dataset,
    encode_texts,
    make_pair_rows,
    make_rows,
)
from hf_stabilizer.pretraining.sentences import sentence_pairs
from hf_stabilizer.pretraining.texts import Corpus, Document, collect_texts

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# Any in this module: values of configuration keys, and cells of rows of tokens.


@dataclass(frozen=True)
class Work:
    """What is to be trained on what."""

    configuration: Configuration
    """The task; `data.split_seed` divides the text, too."""
    values: Mapping[str, Any]
    """The Trainer's options."""
    objective: Objective
    """What is learnt."""
    corpus: Corpus
    """The texts."""
    train: Dataset
    """Rows that are learnt from."""
    held_out: Dataset
    """Rows on which perplexity is measured, their masks in them."""
    tokenizer: PreTrainedTokenizerBase
    """Of the checkpoint."""
    collator: LanguageModelingCollator
    """Makes batches of the rows."""
    language_model: LanguageModel
    """Body and head, as loaded."""
    before: TaskModel
    """The task's model as the checkpoint makes it."""
    max_length: int
    """Tokens of a row at the most."""
    packing: bool
    """Whether rows are packed."""
    notes: tuple[str, ...]
    """What is worth knowing, a sentence each."""

    @property
    def tokens(self) -> int:
        """Tokens in the rows that are learnt from, special ones included."""
        return sum(map(len, self.train["input_ids"]))


def prepare(
    configuration: Configuration, options: PretrainingOptions, values: Mapping[str, Any]
) -> Work:
    """Reads the text, makes rows of it, and loads the model.

    Raises:
        ConfigurationError: Options, model and tokenizer do not fit.
        DataError: There is no text, or too little of it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "further pre-training runs in one process, which uses all GPUs that it sees; start it "
            "without accelerate launch or torchrun"
        )
    training_arguments(values, Path("unused"))
    name = resolve_location(configuration.model.model_name_or_path)
    config = read_model_config(name)
    objective = choose_objective(config, options.objective)
    options.check_against(objective)
    tokenizer = load_tokenizer(name)
    check_tokenizer(tokenizer, name, objective, whole_words=options.whole_word_masking)
    length = row_length(options, configuration.model.max_length, int(tokenizer.model_max_length))
    packing = objective != "mlm+nsp" if options.packing is None else options.packing
    splits = load_splits(configuration.data, task=configuration.model.task)
    corpus = collect_texts(
        splits,
        include_validation=options.include_validation_text,
        include_test=options.include_test_text,
        held_out=options.held_out,
        seed=configuration.data.split_seed,
    )
    collator = LanguageModelingCollator(
        tokenizer,
        objective=objective,
        mlm_probability=options.mask_share,
        seed=int(values["seed"]),
    )
    maker = _RowMaker(tokenizer, objective, length, packing, options.whole_word_masking)
    train = as_dataset(maker.rows(corpus.train, seed=configuration.data.split_seed))
    if packing:
        _check_one_whole_row(train, length)
    language_model = load_language_model(name, objective, seed=int(values["seed"]))
    return Work(
        configuration=configuration,
        values=values,
        objective=objective,
        corpus=corpus,
        train=train,
        held_out=_held_out(maker, collator, corpus, options, configuration.data.split_seed),
        tokenizer=tokenizer,
        collator=collator,
        language_model=language_model,
        before=load_task_model(name, configuration.model.task),
        max_length=length,
        packing=packing,
        notes=tuple(note for note in (language_model.note, _included(options)) if note),
    )


def _included(options: PretrainingOptions) -> str:
    parts = {
        "validation": options.include_validation_text,
        "test": options.include_test_text,
    }
    included = " and ".join(part for part, is_in in parts.items() if is_in)
    if not included:
        return ""
    return f"the texts of the {included} rows are learnt from: their scores are not of unseen text"


@dataclass(frozen=True)
class _RowMaker:
    """Makes rows of documents, of those to learn from and of the others alike."""

    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    max_length: int
    packing: bool
    whole_words: bool

    def rows(self, documents: Sequence[Document], *, seed: int) -> list[dict[str, Any]]:
        if self.objective == "mlm+nsp":
            return make_pair_rows(
                sentence_pairs(documents, seed=seed),
                self.tokenizer,
                max_length=self.max_length,
                whole_words=self.whole_words,
            )
        texts = [text for document in documents for text in document]
        encoded = encode_texts(texts, self.tokenizer, whole_words=self.whole_words)
        frame = Frame.of(self.tokenizer)
        rows: list[dict[str, Any]] = []
        rows += make_rows(encoded, frame, max_length=self.max_length, packing=self.packing)
        return rows


def _check_one_whole_row(rows: Dataset, length: int) -> None:
    if len(rows) == 1 and len(rows[0]["input_ids"]) < length:
        raise DataError(
            f"the text to learn from has {len(rows[0]['input_ids'])} tokens, special ones "
            f"included, too few for one row of {length}; give more text, a smaller max_length, or "
            "packing: false"
        )


def _held_out(
    maker: _RowMaker,
    collator: LanguageModelingCollator,
    corpus: Corpus,
    options: PretrainingOptions,
    seed: int,
) -> Dataset:
    few = (
        f"held_out={options.held_out!r} leaves {len(corpus.held_out)} of "
        f"{len(corpus.held_out) + len(corpus.train)} documents to measure perplexity on, too few "
        "for one predicted token; set a larger share"
    )
    try:
        rows = as_dataset(maker.rows(corpus.held_out, seed=seed))
    except DataError as error:
        raise DataError(f"{few} ({error})") from error
    fixed = collator.fix_masks(rows)
    if not len(fixed):
        raise DataError(few)
    return fixed
