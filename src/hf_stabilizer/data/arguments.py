"""Which options say what the rows are? One field per configuration key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_stabilizer.errors import LAST_SEED, ConfigurationError, check_whole


@dataclass(frozen=True)
class DataArguments:
    """Where the rows are, which columns count, and how they are divided.

    Rows come either from files (`train_file` and its fellows) or from a data set
    (`dataset_name`). A *location* is a path, `~` allowed, or `pkg://package/path` for a file
    inside an installed Python package.

    Example:
        >>> DataArguments(train_file="reviews.csv", validation_size=0.1).split_seed
        0
    """

    dataset_name: str | None = None
    """A Hub id, a folder written by `save_to_disk`, or a folder of data files; its own splits
    (train, validation, test) are used as they are."""
    dataset_config_name: str | None = None
    """The configuration of a Hub data set, e.g. "mrpc" of "nyu-mll/glue"."""
    train_file: str | None = None
    """Location of the training rows: CSV, TSV (.tsv, .tab), JSON, JSON lines or Parquet, all but
    the last also compressed (.gz, .bz2, .xz, .zip), or a folder written by `save_to_disk`."""
    validation_file: str | None = None
    """Location of the validation rows; None: they are taken from the training rows."""
    test_file: str | None = None
    """Location of the test rows; None: there are none unless `test_size` is given."""
    unlabelled_file: str | None = None
    """Location of rows that need no label; `filter` does not apply to them."""
    text_columns: list[str] | None = None
    """One column, or two that the model reads as a pair; None: guessed from the usual names. For
    token-classification a column of lists of tokens (in CSV written as JSON: ["New", "York"])."""
    choice_columns: list[str] | None = None
    """The columns of the answers, for multiple-choice; None: guessed (A, B, ...; ending0, ...)."""
    label_column: str | None = None
    """The column of the right answer; None: guessed from the usual names. Classes are numbers or
    names, several per row as a list; a choice is its column's name, a letter, its index from 0,
    or its text (where all labels are texts, and one nothing else, all are read so). For
    token-classification a list of tags, one per token; for seq2seq the text to write; causal-lm
    and masked-lm have none."""
    label_names: list[str] | None = None
    """The classes in the order of their ids, where the training rows need not show all of them;
    None: the classes of the training rows, by number or by name. For tags, too."""
    soft_label_column: str | None = None
    """A column of the training rows with a list of probabilities, one per class in the order of
    the ids (`label_names`), that are learnt in place of the label; a row without one keeps its
    label, which every row has. Only for text-classification with one label per row."""
    group_column: str | None = None
    """Rows that share a value of this column stay on one side of every split that is made."""
    filter: str | None = None
    """Expression over the columns that keeps the rows for which it is true, with the meaning of
    `pandas.DataFrame.query`, e.g. "category != 'plot' and text.str.len() > 20"."""
    reader_options: dict[str, Any] | None = None  # Any: whatever the pandas reader takes
    """Keyword arguments for the pandas reader of every file, e.g. {"sep": "\\t", "quoting": 3}."""
    max_train_rows: int | None = None
    """At most so many training rows, a seeded subset with the shares of the labels kept, taken
    after the splits, which do not depend on it."""
    max_validation_rows: int | None = None
    """The same for the validation rows."""
    max_test_rows: int | None = None
    """The same for the test rows."""
    validation_size: float | int | None = None
    """Rows taken from the training rows for validation: below 1 a fraction of what was read, from
    1 up a number; None: a fifth, at most 1000 rows. Only where no validation rows are given."""
    test_size: float | int | None = None
    """The same for test rows; None: none are taken."""
    split_seed: int = 0
    """Seed of every split and subset; no other seed touches them."""

    def __post_init__(self) -> None:
        self._check_source()
        self._check_sizes()

    def _check_source(self) -> None:
        if self.dataset_name is None and self.train_file is None:
            return  # Said when rows are asked for: a configuration may be read without its data.
        if self.dataset_name is not None:
            for key in ("train_file", "validation_file", "test_file"):
                if getattr(self, key) is not None:
                    raise ConfigurationError(
                        f"dataset_name={self.dataset_name!r} and {key}={getattr(self, key)!r} "
                        "both say where rows are; remove one of them"
                    )
        for key in ("validation", "test"):
            size, file = getattr(self, f"{key}_size"), getattr(self, f"{key}_file")
            if size is not None and file is not None:
                raise ConfigurationError(
                    f"{key}_size={size!r} takes {key} rows from the training rows, but "
                    f"{key}_file={file!r} brings its own; remove one, or set max_{key}_rows"
                )

    def _check_sizes(self) -> None:
        for key in ("validation_size", "test_size"):
            size = getattr(self, key)
            if size is not None and not (0 < size < 1 or (size >= 1 and float(size).is_integer())):
                raise ConfigurationError(
                    f"{key} must be a fraction in (0, 1) or a whole number of rows, got {size!r}"
                )
        for key in ("max_train_rows", "max_validation_rows", "max_test_rows"):
            rows = getattr(self, key)
            if rows is not None and rows < 1:
                raise ConfigurationError(
                    f"{key} must be 1 or more, got {rows!r}; leave it out to keep every row"
                )
        check_whole(self.split_seed, "in [0, 2^32)", name="split_seed", most=LAST_SEED)
        if self.text_columns is not None and len(self.text_columns) not in (1, 2):
            raise ConfigurationError(
                f"text_columns must name one column or two, got {self.text_columns!r}"
            )
        names = self.label_names
        if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
            raise ConfigurationError(
                f"label_names must name two different classes or more, got {names!r}"
            )
        if self.choice_columns is not None and len(self.choice_columns) < 2:
            raise ConfigurationError(
                f"choice_columns must name two columns or more, got {self.choice_columns!r}"
            )
