"""How good is the configuration on rows that it did not learn from? One page that says so.

It has the look, the style sheet and the script of a study's report, holds no date and no random
part, and loads nothing.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from hf_stabilizer.errors import StudyError
from hf_stabilizer.folds.page import confusion, mistakes
from hf_stabilizer.folds.page.answers import Answers
from hf_stabilizer.folds.page.scores import fold_section, seeds_section
from hf_stabilizer.folds.record import REPORT, CrossValidation
from hf_stabilizer.folds.view import CHOSEN, sentence_on_test_rows
from hf_stabilizer.procedure import Procedure, read_procedure
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.data_links import file_stem
from hf_stabilizer.studies.page.facts import Fact
from hf_stabilizer.studies.page.report import setting_text
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.markup import Cell, folded, number, remark, table
from hf_stabilizer.studies.page.shell import facts_list, header, section_part, whole_page
from hf_stabilizer.studies.page.svg import element
from hf_stabilizer.studies.study import Study


def write_fold_report(
    found_or_folder: CrossValidation | str | os.PathLike[str], path: str | Path | None = None
) -> Path:
    """Writes a cross-validation as one self-contained HTML file and returns its path.

    Fold scores with their spread, the pooled score, folds by seeds, what is taken for what (or the
    residuals of numbers), the rows that the models are most wrong about, and the test rows.

    Args:
        found_or_folder: What `cross_validate` returned, or its folder.
        path: Where to write; None: `report.html` in the folder.

    Raises:
        StudyError: The folder holds no finished cross-validation, or `path` is a folder.

    Example:
        >>> write_fold_report("nowhere")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.StudyError: 'nowhere' holds no finished cross-validation; start it,
        or name the folder that was given as --output-dir
    """
    found = found_or_folder
    if not isinstance(found, CrossValidation):
        found = CrossValidation.from_folder(Path(found))
    if found.folder is None:
        raise StudyError("this cross-validation lies in no folder; read it from one")
    path = found.folder / REPORT if path is None else Path(path)
    if path.is_dir():
        example = str(path / REPORT)
        raise StudyError(f"{str(path)!r} is a folder; name the file to write, such as {example!r}")
    write_atomically(path, render(found))
    return path


def render(found: CrossValidation) -> str:
    """Returns the page as text."""
    folder = found.folder or Path()
    study, procedure = found.study, read_procedure(folder)
    name = folder.resolve().name
    stem = file_stem(name)
    decimals = formats.decimals_for(fold.scores[found.metric] for fold in found.folds)
    parts = [_header(found, study, name, decimals), facts_list(_facts(found, study, decimals))]
    sections = _sections(found, study, Answers.of(found), decimals)
    parts += [section_part(one, stem=stem) for one in sections]
    parts += [_failed(study), _settings(procedure), _again(study, procedure), _method(found)]
    return whole_page(
        f"{name} - a cross-validation",
        [part for part in parts if part],
        stem=stem,
        style=confusion.STYLE + mistakes.STYLE,
        version=study.versions.get("hf_stabilizer", ""),
    )


def _header(found: CrossValidation, study: Study, name: str, decimals: int) -> Markup:
    rows, runs = sum(fold.rows for fold in found.folds), len(study.runs)
    better = "higher" if found.greater_is_better else "lower"
    about = (
        f"{len(found.folds)} folds, {runs} runs, {rows} rows, {found.metric}, {better} is better"
    )
    eyebrow = Markup("Cross-validation <b>{}</b> <span>{}</span>").format(name, about)
    score = formats.number(found.pooled[found.metric], decimals)
    headline = f"{found.metric} {score} on rows that the models did not learn from"
    mean, std = (formats.number(value, decimals) for value in (found.mean(), found.std()))
    over = f"Over {len(found.folds)} folds {mean} on average, with a standard deviation of {std}."
    return header(eyebrow, headline, f"{over} Scored: {CHOSEN[found.choose_on]}.")


def _facts(found: CrossValidation, study: Study, decimals: int) -> Iterator[Fact]:
    metric = found.metric

    def shown(value: float) -> str:
        return formats.number(value, decimals)

    seeds = [scores[metric] for scores in found.pooled_by_seed.values()]
    averaged = ", runs averaged" if any(len(fold.by_seed) > 1 for fold in found.folds) else ""
    yield Fact("Pooled", shown(found.pooled[metric]), f"{metric} on all rows at once{averaged}")
    yield Fact("Mean over folds", shown(found.mean()), f"std {shown(found.std())} over folds")
    better = min if found.greater_is_better else max
    weakest = better(found.folds, key=lambda fold: fold.scores[metric])
    yield Fact("Weakest fold", shown(weakest.scores[metric]), weakest.name)
    if len(seeds) > 1:
        note = f"pooled, std {shown(statistics.stdev(seeds))} over {len(seeds)} seeds"
        yield Fact("One model per fold", shown(statistics.fmean(seeds)), note)
    if found.test is not None:
        note = f"mean of {len(found.test.single)} models on {found.test.rows} rows"
        yield Fact("Test rows", shown(found.test.averaged[metric]), note)
    failed = sum(run.status == "failed" for run in study.runs)
    yield Fact("Failed runs", f"{failed} of {len(study.runs)}", "those with predictions count")
    seconds = sum(run.seconds for run in study.runs)
    yield Fact("Cost", formats.duration(seconds), "all runs added up")


def _sections(
    found: CrossValidation, study: Study, answers: Answers, decimals: int
) -> Iterator[Section]:
    named = {f"{run.recipe}, seed {run.seeds['seed']}: {run.reason}" for run in study.runs}
    notes = [note for note in found.notes if note not in named]  # failures have their own part
    if notes:
        body = Markup("").join(remark(f"{note[0].upper()}{note[1:]}.") for note in notes)
        yield Section("notes", "Take care", "", body)
    yield fold_section(found, study, answers, decimals)
    for part in (
        seeds_section(found, decimals),
        confusion.confusion_section(answers),
        mistakes.mistakes_section(answers),
        _test_rows(found, decimals),
    ):
        if part is not None:
            yield part


def _test_rows(found: CrossValidation, decimals: int) -> Section | None:
    if found.test is None:
        return None
    single = found.test.single.items()
    rows: list[list[Cell]] = [[name, number(score, decimals)] for name, score in single]
    return Section(
        anchor="test",
        title="Test rows",
        lead=sentence_on_test_rows(found, decimals),
        body=Markup("").join(
            [
                remark(
                    "The mean prediction for each test row is in test_predictions.parquet. Test "
                    "rows lie in no fold: none was learnt from or chosen by."
                ),
                folded(
                    f"Each of {len(rows)} models by itself",
                    table("Test scores", ["Fold and seed", found.metric], rows),
                ),
            ]
        ),
        records=tuple({"run": name, found.metric: score} for name, score in single),
    )


def _failed(study: Study) -> Markup:
    rows: list[list[Cell]] = [
        [run.recipe, str(run.seeds["seed"]), run.reason or "no reason was recorded"]
        for run in study.runs
        if run.status == "failed"
    ]
    if not rows:
        return Markup("")
    shown = table("Failed runs", ["Fold", "Seed", "Reason"], rows)
    note = remark("A collapsed run that left predictions is in every number.")
    return element("section", element("h2", "Failed runs"), element("div", shown, cls="told"), note)


def _settings(procedure: Procedure | None) -> Markup:
    settings = {} if procedure is None else procedure.settings
    rows: list[list[Cell]] = [
        [key, setting_text(value)] for key, value in sorted(settings.items()) if value is not None
    ]
    shown = element("div", table("Settings", ["Setting", "Value"], rows), cls="told")
    heading = element("h2", "What was run")
    return element("section", heading, folded(f"{len(rows)} settings", shown), id="settings")


def _again(study: Study, procedure: Procedure | None) -> Markup:
    versions = study.versions if procedure is None else procedure.versions
    listed = [element("li", f"{k} ", element("b", v)) for k, v in sorted(versions.items())]
    return element(
        "section",
        element("h2", "Make it again"),
        element("pre", element("code", study.command)),
        element("ul", *listed, cls="versions"),
        id="again",
    )


def _method(found: CrossValidation) -> Markup:
    said: list[tuple[str, str]] = [
        (
            "Pooled, and mean over folds",
            "Pooled is the metric on all out-of-fold rows at once, the probabilities (or numbers) "
            "of the runs of a fold averaged before; the mean counts each fold once, with the mean "
            "score of its runs. For metrics that are no means over rows the two differ.",
        ),
        (
            "Spread",
            "The standard deviation over folds (n - 1) tells how much the score depends on which "
            "rows are asked. Folds share training rows, so it is no standard error of the mean.",
        ),
        ("Weights", f"Scored are {CHOSEN[found.choose_on]}."),
    ]
    terms = [
        element(tag, words) for pair in said for tag, words in zip(("dt", "dd"), pair, strict=True)
    ]
    return element(
        "section",
        folded("How these numbers are made", element("dl", *terms, cls="method")),
        id="method",
    )
