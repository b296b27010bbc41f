"""How does a model score on the rows that choose, and on those that judge? By its folder alone.

Rows are tokenised once for all members: they share the checkpoint that they began with. Every
model is loaded with `from_pretrained`, so that what is scored is what a folder holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.ensembling.candidates import Candidate
from hf_stabilizer.ensembling.combining import Array, probabilities
from hf_stabilizer.ensembling.gathering import kind_of, label_array, read_members
from hf_stabilizer.ensembling.judging import Judge, judge_of, paired_interval
from hf_stabilizer.ensembling.origins import check_origins
from hf_stabilizer.ensembling.same_rows import check_scored_rows
from hf_stabilizer.ensembling.voices import rows_of_runs
from hf_stabilizer.ensembling.weight_means import check_alike
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.prediction import Member, loaded, outputs_of, tokenise
from hf_stabilizer.studies.statistics import Interval
from hf_stabilizer.tasks import PreparedTask


@dataclass(frozen=True)
class Judgement:
    """A soup beside the best of its members, on the test rows."""

    score: float
    """Of the soup."""
    best: float
    """Of the member."""
    interval: Interval | None
    """Of the difference."""


@dataclass(frozen=True)
class Taster:
    """The members, and the rows that they are scored on."""

    members: tuple[Member, ...]
    """Models of one architecture that began with the same weights."""
    names: tuple[str, ...]
    """What people call them."""
    metric: str
    """Name of the score."""
    judge: Judge
    """Computes it."""
    prepared: dict[str, tuple[PreparedTask, Array]]
    """Tokenised rows and their labels, by "validation" and "test"."""
    mark: str
    """Of all these rows: others have another."""
    batch_size: int
    """Rows per forward pass."""

    @classmethod
    def of(cls, candidates: Sequence[Candidate], *, batch_size: int) -> Taster:
        """Reads members and rows, and sees that they go together.

        Raises:
            ConfigurationError: They do not.
        """
        members = read_members(candidates)
        names = tuple(candidate.name for candidate in candidates)
        first = members[0]
        check_alike([member.model_folder for member in members], names)
        check_origins(members)
        if first.configuration is None:
            raise ConfigurationError(
                f"{names[0]!r} is no run, so the rows that choose are not known; name runs, or "
                "checkpoints in their folders"
            )
        splits = rows_of_runs(names, members)
        prepared = {}
        for part in ("validation", "test"):
            rows = getattr(splits, part)
            if rows is not None:
                tokenised = tokenise(
                    first,
                    rows,
                    text_columns=splits.text_columns,
                    choice_columns=splits.choice_columns,
                )
                labels = label_array(rows[splits.label_column][:], first)
                prepared[part] = (tokenised, labels)
        tokenised, labels = prepared["validation"]
        places = tokenised.validation_rows or range(len(labels))
        check_scored_rows(names, members, labels, places)
        metric = first.configuration.metric
        judge = judge_of(metric, kind_of(first))
        mark = mark_of_rows(splits.validation, splits.test)
        return cls(tuple(members), names, metric, judge, prepared, mark, batch_size)

    def rows(self, part: str) -> int:
        """Returns how many rows a part has."""
        return len(self.prepared[part][1]) if part in self.prepared else 0

    def score(self, model_folder: Path) -> float:
        """Returns the score of a model on the validation rows."""
        return self.judge(self._said(model_folder, "validation"), self.prepared["validation"][1])

    def judged(self, folder: Path, *, best: int) -> Judgement | None:
        """Scores a soup and its best member on the test rows, None if there are none."""
        if "test" not in self.prepared:
            return None
        labels = self.prepared["test"][1]
        soup = self._said(folder, "test")
        member = self._said(self.members[best].model_folder, "test")
        return Judgement(
            self.judge(soup, labels),
            self.judge(member, labels),
            paired_interval(soup, member, labels, self.judge),
        )

    def _said(self, model_folder: Path, part: str) -> Array:
        member = replace(self.members[0], model_folder=model_folder)
        with loaded(member) as model:
            outputs = outputs_of(model, self.prepared[part][0], member, batch_size=self.batch_size)
        return probabilities(outputs, kind_of(member))
