"""Inline SVG of a study's runs that needs no script and no network.

Colours, strokes and text sizes come from the page's style sheet by class name, so the same drawing
serves light and dark, screen and paper. Every mark carries a `<title>` that names its run, and the
run's key, by which a script may find it again in the other charts. Colour never stands alone:
recipes are labelled, failed runs are crosses, those stopped early are rings, losses are dashed.
"""

from hf_stabilizer.studies.page.charts.curves import (
    curve,
    curves_chart,
    halt_step,
    mean_curve,
    mean_curves,
    who_was_cut,
)
from hf_stabilizer.studies.page.charts.pairs import pairs_chart
from hf_stabilizer.studies.page.charts.runs import (
    COLOURS,
    colour,
    key_of,
    run_key,
    run_text,
    score_of,
    scores_of,
    seed_names,
    seeds_text,
    short,
    which_run,
    which_runs,
)
from hf_stabilizer.studies.page.charts.strip import strip_chart

__all__ = [
    "COLOURS",
    "colour",
    "curve",
    "curves_chart",
    "halt_step",
    "key_of",
    "mean_curve",
    "mean_curves",
    "pairs_chart",
    "run_key",
    "run_text",
    "score_of",
    "scores_of",
    "seed_names",
    "seeds_text",
    "short",
    "strip_chart",
    "which_run",
    "which_runs",
    "who_was_cut",
]
