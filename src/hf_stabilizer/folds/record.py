"""What came of a cross-validation? Scores per fold, over all folds, and where the rows lie.

    FOLDER/procedure.json             settings and scores
    FOLDER/folds.parquet              row, fold, label, texts
    FOLDER/out_of_fold.parquet        row, fold, label, prediction, probabilities; runs averaged
    FOLDER/out_of_fold_runs.parquet   the same for each run by itself, with its seed
    FOLDER/test_predictions.parquet   row, label, prediction, probabilities; all runs averaged
    FOLDER/report.html                all of it on one page (`folds.page`)
    FOLDER/study/                     the runs, one member for each fold

Imports neither torch nor transformers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.procedure import FILE, read_procedure

if TYPE_CHECKING:
    import pandas as pd

    from hf_stabilizer.studies.study import Study

# Any in this module: what JSON holds.
KIND = "cross-validate"
FOLDS_FILE = "folds.parquet"
OUT_OF_FOLD = "out_of_fold.parquet"
OUT_OF_FOLD_RUNS = "out_of_fold_runs.parquet"
TEST_PREDICTIONS = "test_predictions.parquet"
REPORT = "report.html"
STUDY = "study"
Scores = Mapping[str, float]


@dataclass(frozen=True)
class FoldScore:
    """What the models of one fold scored on the rows that it holds out."""

    name: str
    """Its name, also that of its runs."""
    rows: int
    """Rows that it holds out."""
    train_rows: int
    """Rows that its runs learnt from."""
    scores: Scores
    """Each metric, the mean over its runs."""
    by_seed: Mapping[str, Scores]
    """Each metric of each run, by seed."""


@dataclass(frozen=True)
class TestScore:
    """What the mean of all models scored on the test rows, and each of them by itself."""

    __test__ = False  # pytest would take it for tests

    rows: int
    """Test rows."""
    averaged: Scores
    """Each metric of the mean prediction of all runs."""
    single: Mapping[str, float]
    """The deciding metric of each run alone, by fold and seed: "fold1/1"."""


@dataclass(frozen=True)
class CrossValidation:
    """The scores of a configuration on rows that it did not learn from."""

    metric: str
    """Name of the metric that decides."""
    greater_is_better: bool
    """Whether a larger value of `metric` is the better one."""
    choose_on: str
    """What chose the weights of a fold: "nothing", "inner" or "fold"."""
    folds: tuple[FoldScore, ...]
    """One record for each fold."""
    pooled: Scores
    """Each metric on all out-of-fold rows at once, runs of a fold averaged."""
    pooled_by_seed: Mapping[str, Scores]
    """The same with one run per fold, by seed; seeds that failed in a fold are left out."""
    test: TestScore | None = None
    """None where there are no test rows."""
    notes: tuple[str, ...] = ()
    """What to keep in mind, a sentence each."""
    folder: Path | None = field(default=None, compare=False)
    """Where all of it lies."""

    def mean(self, metric: str | None = None) -> float:
        """Returns the mean of a metric over the folds, each counted once.

        Args:
            metric: Its name; None: the one that decides.
        """
        return statistics.fmean(self._over_folds(metric))

    def std(self, metric: str | None = None) -> float:
        """Returns the standard deviation of a metric over the folds (n - 1 in the denominator)."""
        return statistics.stdev(self._over_folds(metric))

    def _over_folds(self, metric: str | None) -> list[float]:
        return [fold.scores[metric or self.metric] for fold in self.folds]

    @property
    def out_of_fold(self) -> pd.DataFrame:
        """The prediction for each row by models that did not learn from it, runs averaged."""
        return self._table(OUT_OF_FOLD)

    @property
    def test_predictions(self) -> pd.DataFrame:
        """The mean prediction of all runs for each test row."""
        return self._table(TEST_PREDICTIONS)

    @property
    def study(self) -> Study:
        """The runs, one member for each fold."""
        from hf_stabilizer.studies.study import Study

        return Study.from_folder(self._folder() / STUDY)

    def to_records(self) -> dict[str, Any]:
        """Returns everything but the folder in plain values, mean and spread added."""
        values = asdict(self)
        del values["folder"]
        metrics = list(self.pooled)
        over_folds = {m: {"mean": self.mean(m), "std": self.std(m)} for m in metrics}
        return {**values, "over_folds": over_folds}

    @classmethod
    def from_folder(cls, folder: str | Path) -> CrossValidation:
        """Reads a cross-validation that is over.

        Raises:
            StudyError: There is none in the folder, or it is not over.

        Example:
            >>> CrossValidation.from_folder("nowhere")
            Traceback (most recent call last):
                ...
            hf_stabilizer.errors.StudyError: 'nowhere' holds no finished cross-validation; start it,
            or name the folder that was given as --output-dir
        """
        folder = Path(folder)
        record = read_procedure(folder)
        if record is None or record.kind != KIND or not record.is_over:
            raise StudyError(
                f"{str(folder)!r} holds no finished cross-validation; start it, or name the folder "
                "that was given as --output-dir"
            )
        try:
            return cls._read(record.outcome, folder)
        except (KeyError, TypeError) as error:
            raise StudyError(
                f"{folder / FILE} cannot be read ({error!r}); restore it from a copy"
            ) from error

    @classmethod
    def _read(cls, outcome: Mapping[str, Any], folder: Path) -> CrossValidation:
        values = {k: v for k, v in outcome.items() if k in cls.__dataclass_fields__}
        test = values.pop("test", None)
        return cls(
            **{
                **values,
                "folds": tuple(FoldScore(**fold) for fold in values["folds"]),
                "test": None if test is None else TestScore(**test),
                "notes": tuple(values["notes"]),
                "folder": folder,
            }
        )

    def _folder(self) -> Path:
        if self.folder is None:
            raise StudyError("this cross-validation lies in no folder; read it from one")
        return self.folder

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        path = self._folder() / name
        if not path.is_file():
            raise StudyError(f"there is no {name} in {str(self.folder)!r}: no rows of that kind")
        return pd.read_parquet(path)
