"""What should the model card of a study's model say? Over how many seeds, and which weights.

---                                              YAML: the rest of it stays as it is
model-index: the metric's mean over the seeds, and the score of these weights
---
<!-- hf-stabilizer: study, begin -->             replaced whenever the card is written again
## Results over 12 seeds
<!-- hf-stabilizer: study, end -->
... whatever else stands in the card stays
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import StudyError, check_choice
from hf_stabilizer.records import Run, write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.cards.card_metadata import (
    MEAN,
    THESE,
    as_yaml,
    check_card,
    is_hub_id,
    put_results,
    read_metadata,
    split_card,
)
from hf_stabilizer.studies.cards.markdown import (
    between,
    bullets,
    code_block,
    escaped,
    mean_and_std,
    table,
)
from hf_stabilizer.studies.findings import chosen_by_validation
from hf_stabilizer.studies.formats import typographic
from hf_stabilizer.studies.page.charts import which_run
from hf_stabilizer.studies.scored_on import scored_on
from hf_stabilizer.studies.statistics import RecipeSummary, final_score
from hf_stabilizer.studies.study import run_folder
from hf_stabilizer.studies.verdict import study_decimals, verdict

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from hf_stabilizer.studies.study import Study

logger = logging.getLogger(__name__)

BEGIN = "<!-- hf-stabilizer: study, begin -->"
END = "<!-- hf-stabilizer: study, end -->"

Settings = Mapping[str, Any]  # Any in this module: whatever YAML can say


def model_card_section(study: Study, *, recipe: str | None = None) -> str:
    """Returns a section for a model card: seeds, mean and spread, and which weights these are.

    The weights are those of the recipe's best run by validation, which is the model that a study
    keeps. Their score is one of the best of n; the section says by how much that is too good.

    Args:
        study: Finished or under way.
        recipe: Whose model it is; None: the one with the best mean score.

    Raises:
        StudyError: No run of the recipe has a final score.
        ConfigurationError: The study has no such recipe.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> runs = tuple(
        ...     Run("plain", {"seed": s}, "finished", best_score=v, test_score=t)
        ...     for s, v, t in [(1, 0.70, 0.70), (2, 0.80, 0.75), (3, 0.90, 0.72)]
        ... )
        >>> text = model_card_section(Study("demo", ("plain",), runs, "f1", True))
        >>> print(text.partition("The weights")[2].partition(".")[0])
         in this repository** are those of the run with the best validation f1 of 3: seed 3
    """
    row = _row(study, recipe)
    decimals = study_decimals(study)
    parts = [
        f"## Results over {row.scored} run{'s with other seeds' if row.scored > 1 else ''}",
        _lead(study, row),
        _scores(row, decimals),
        escaped(scored_on(study.of(row.recipe))),
        " ".join(_weights(study, row, decimals)),
        bullets(_training(study, row.recipe)),
        *_again(study),
    ]
    return "\n\n".join(part for part in parts if part)


def write_model_card(study: Study, path: str | Path, *, recipe: str | None = None) -> Path:
    """Writes the section into a model card, and the scores into its metadata; returns the path.

    In a card that is there the section between the two marks is replaced, or added at the end, and
    the results of an earlier call leave the model index; all else stays, comments in the YAML too.
    Written twice it is the same. A card that is not there is made, with the metadata that the
    study's configuration tells. Works without a network.

    Args:
        study: As for `model_card_section`.
        path: The card, such as "README.md" beside the weights.
        recipe: As for `model_card_section`.

    Raises:
        StudyError: `path` is a folder, its metadata cannot be read, one of the two marks stands
            alone, or no run of the recipe has a final score.
        ConfigurationError: The study has no such recipe.

    Example:
        >>> import tempfile
        >>> from hf_stabilizer import Run, Study
        >>> runs = tuple(Run("plain", {"seed": s}, "finished", best_score=0.7) for s in (1, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     card = write_model_card(Study("demo", ("plain",), runs, "f1", True),
        ...                             f"{folder}/README.md")
        ...     card.read_text(encoding="utf-8").splitlines()[:2]
        ['---', 'library_name: transformers']
    """
    path = Path(path)
    if path.is_dir():
        example = str(path / "README.md")
        raise StudyError(f"{str(path)!r} is a folder; name the file to write, such as {example!r}")
    row = _row(study, recipe)
    section = model_card_section(study, recipe=row.recipe)
    old = _text_of(path) if path.exists() else ""
    line_break = "\r\n" if "\r\n" in old else "\n"
    name = path.absolute().parent.name or study.name
    head, body = split_card(old.replace("\r\n", "\n"))
    data = read_metadata(head, path) if old.strip() else _new_metadata(study, row.recipe)
    if head:
        check_card(old, path)  # first, so that what is wrong in it is not blamed on us
    put_results(data, _results(study, row), name)
    body = _with_section(body if old.strip() else f"\n# {name}\n", section, path)
    text = f"---\n{as_yaml(data)}---\n{body}"
    check_card(text, path)
    write_atomically(path, text.replace("\n", line_break))
    _compare_weights(study, row.recipe, path)
    return path


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{str(path)!r} is not text in UTF-8 ({error}); save it as that, or name another file"
        ) from error


def chosen_run(study: Study, recipe: str) -> Run | None:
    """Returns the run whose weights are the recipe's: the best by validation of those kept.

    None where no run that is over has a validation score.

    Example:
        >>> from hf_stabilizer import Study
        >>> def run(seed, score, status="finished"):
        ...     return Run("plain", {"seed": seed}, status, best_score=score)
        >>> runs = (run(1, 0.7), run(2, 0.9, "stopped"), run(3, 0.8))
        >>> chosen_run(Study("demo", ("plain",), runs, "f1", True), "plain").seeds
        {'seed': 3}
    """
    runs = [run for run in study.of(recipe) if run.status != "stopped"]
    scored = [(run, score) for run in runs if (score := _finite(run.best_score)) is not None]
    kept = [pair for pair in scored if pair[0].checkpoint] or scored
    better = max if study.greater_is_better else min
    return better(kept, key=lambda pair: pair[1])[0] if kept else None


def configuration_digest(study: Study, recipe: str) -> str:
    """Returns twelve characters that change with any setting of a recipe.

    Example:
        >>> from hf_stabilizer import Study
        >>> first = Study("a", ("plain",), (), "f1", True, configuration={"lr": 1, "bf16": True})
        >>> other = Study("b", ("plain",), (), "f1", True, configuration={"bf16": True, "lr": 1})
        >>> configuration_digest(first, "plain") == configuration_digest(other, "plain")
        True
    """
    text = json.dumps(_settings(study, recipe), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _row(study: Study, recipe: str | None) -> RecipeSummary:
    rows = {row.recipe: row for row in study.summary()}
    if recipe is not None:
        check_choice(recipe, tuple(rows), name="recipe")
    known = [row for row in rows.values() if row.mean is not None and recipe in (None, row.recipe)]
    if not known:
        of = "the study" if recipe is None else repr(recipe)
        raise StudyError(f"no run of {of} has a final score, so a model card has nothing to say")
    better = max if study.greater_is_better else min
    return better(known, key=lambda row: row.mean or 0.0)


def _settings(study: Study, recipe: str) -> dict[str, Any]:
    return {**study.configuration, **study.recipe_settings.get(recipe, {})}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _lead(study: Study, row: RecipeSummary) -> str:
    often = "once" if row.runs == 1 else f"{row.runs} times"
    text = f"Trained {often} with the recipe {escaped(row.recipe)}"
    text += ", each time under other seeds" if row.runs > 1 else ""
    counted = f"{row.ended} runs" if not row.stopped else f"the {row.ended} runs not stopped"
    text += f"; {row.failed} of {counted} failed" if row.failed else "; no run failed"
    if row.stopped:
        were = "was" if row.stopped == 1 else "were"
        text += f", {row.stopped} {were} stopped early, without a final score"
        if row.lost_when_stopped:
            text += f" ({row.lost_when_stopped} collapsed by then)"
    if len(study.recipes) > 1:
        text += f". Against the other recipes of the study: {escaped(typographic(verdict(study)))}"
    return text if text.endswith(".") else f"{text}."


def _scores(row: RecipeSummary, decimals: int) -> str:
    heads = ["Runs", "Mean ± std", "95 % interval of the mean", "Median", "Worst", "Best", "Failed"]
    single = (row.median, row.worst, row.best)
    cells = [
        str(row.scored),
        mean_and_std(row, decimals),
        between(row.interval, decimals),
        *(typographic(formats.number(value, decimals)) for value in single),
        f"{row.failed} of {row.ended}",
    ]
    return table(heads, [cells])


def _weights(study: Study, row: RecipeSummary, decimals: int) -> Iterator[str]:
    run = chosen_run(study, row.recipe)
    metric = escaped(study.metric)
    if run is None:
        yield "The runs do not tell validation scores, so not which weights these are."
        return
    scores = [s for one in study.of(row.recipe) if (s := _finite(one.best_score)) is not None]
    scored, best = len(scores), (max if study.greater_is_better else min)(scores)
    of = str(scored) if run.best_score == best else "those whose weights are kept"
    yield (
        f"**The weights in this repository** are those of the run with the best validation "
        f"{metric} of {of}: {escaped(which_run(run))}."
    )
    test = _finite(run.test_score)
    own = f"Validation {metric} {formats.number(run.best_score, decimals)}"
    own += f", test {metric} {formats.number(test, decimals)}" if test is not None else ""
    yield typographic(f"{own}.")
    if run.status == "failed":
        yield f"That run counts as failed: {escaped(run.reason)}."
    if scored > 1:
        yield typographic(_optimism(study, row, decimals))


def _optimism(study: Study, row: RecipeSummary, decimals: int) -> str:
    mean = f"expect the mean, {formats.number(row.mean, decimals)}, of a run of your own"
    if row.stopped:
        mean = f"the mean is that of {row.scored} runs; those that went on were chosen, too"
    found = chosen_by_validation.find(study)
    mine = {one.recipe: one for one in found.recipes} if found else {}
    if row.recipe not in mine:
        return f"A single number of the best of several runs is optimistic; {mean}."
    one = mine[row.recipe]
    gains = [
        formats.number(gain, decimals, signed=True) for gain in (one.validation_gain, one.test_gain)
    ]
    return (
        f"A single number of the best of {one.optimism.runs} runs is optimistic: choosing it "
        f"changed the score by {gains[0]} on the validation rows and by {gains[1]} on the test "
        f"rows; {mean}."
    )


def _training(study: Study, recipe: str) -> Iterator[str]:
    settings = _settings(study, recipe)
    averaging = settings.get("averaging", "none")
    if study.configuration:
        yield (
            "Averaging of weights: none"
            if averaging in (None, "none")
            else f"Averaging of weights: {escaped(str(averaging)).upper()}"
        )
        yield f"Digest of the configuration: `{configuration_digest(study, recipe)}`"
    if study.versions:
        known = ", ".join(f"{name} {number}" for name, number in study.versions.items())
        yield f"Versions: {escaped(known)}"


def _again(study: Study) -> Iterator[str]:
    if study.command:
        yield "The study is made again by:"
        yield code_block(study.command, "bash")


def _new_metadata(study: Study, recipe: str) -> dict[str, Any]:
    settings = _settings(study, recipe)
    base, task = str(settings.get("model_name_or_path", "")), settings.get("task")
    known = {
        "library_name": "transformers",
        "base_model": base if is_hub_id(base) else None,
        "pipeline_tag": _task_type(task) if task else None,
        "metrics": [study.metric],
    }
    return {key: value for key, value in known.items() if value}


def _task_type(task: Any) -> str:
    """The Hub's name of a task; it files regression over texts with their classification."""
    return {"text-regression": "text-classification"}.get(str(task), str(task or "other"))


def _results(study: Study, row: RecipeSummary) -> list[EvalResult]:
    """The mean over the seeds first, then the score of the weights themselves."""
    from huggingface_hub import EvalResult

    settings = _settings(study, row.recipe)
    data = str(settings.get("train_file") or study.name)
    runs = study.of(row.recipe)
    chosen = chosen_run(study, row.recipe)
    values = {MEAN: row.mean, THESE: final_score(chosen) if chosen else None}
    is_test = all(run.test_score is not None for run in runs if final_score(run) is not None)
    return [
        EvalResult(
            task_type=_task_type(settings.get("task")),
            dataset_type=str(settings.get("dataset_name") or Path(data).stem),
            dataset_name=str(settings.get("dataset_name") or Path(data).stem),
            dataset_split="test" if is_test else "validation",
            metric_type=study.metric,
            metric_name=f"{study.metric}, {which}",
            metric_value=round(value, max(6, study_decimals(study))),
        )
        for which, value in values.items()
        if value is not None
    ]


def _with_section(body: str, section: str, path: Path) -> str:
    marked = f"{BEGIN}\n{section}\n{END}"
    counts = body.count(BEGIN), body.count(END)
    if counts == (0, 0):
        return f"{body.rstrip()}\n\n{marked}\n"
    before, _, rest = body.partition(BEGIN)
    _, end, after = rest.partition(END)
    if counts != (1, 1) or not end:
        raise StudyError(
            f"{path} holds {counts[0]} times {BEGIN!r} and {counts[1]} times {END!r}; leave one of "
            "each, in this order, or none"
        )
    return f"{before}{marked}{after}"


def _compare_weights(study: Study, recipe: str, path: Path) -> None:
    """Says so where the weights beside the card are others than it tells."""
    run = chosen_run(study, recipe)
    if run is None or study.folder is None or not run.checkpoint:
        return
    kept = run_folder(study.folder, recipe, run.name) / run.checkpoint / "model.safetensors"
    beside = path.parent / "model.safetensors"
    if kept.is_file() and beside.is_file() and not filecmp.cmp(kept, beside, shallow=False):
        logger.warning("%s is not the model that %s tells of, which is %s", beside, path, kept)
