"""How do heads and data orders look in a picture? The grid, its analysis, and the densities.

One row for each study and recipe, with the pictures of Dodge et al. 2020 (arXiv 2002.06305,
section 4): the scores of all cells, heads and data orders sorted by their means; the share of the
variance that each explains, with its p-value; densities of the scores of the best and the worst
head and data order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_stabilizer.errors import MissingDependencyError, StudyError
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.statistics import density, final_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_stabilizer.studies.seeds.seed_effects import SeedEffects

# Colours that people with colour blindness tell apart (Okabe, Ito 2008).
_BEST, _WORST, _BARS = "#0072B2", "#D55E00", "#009E73"


def plot_seeds(effects: Sequence[SeedEffects]) -> Figure:
    """Draws what the seeds decide; `savefig` writes it.

    Args:
        effects: What `seed_effects` returned; those where only one seed varies are left out.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        StudyError: Nowhere do two seeds vary that can be told apart.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "a picture of the seeds needs matplotlib, which is not installed; "
            "run: pip install 'hf_stabilizer[plots]'"
        ) from error
    drawn = [one for one in effects if one.analysis is not None]
    if not drawn:
        raise StudyError(
            "there is no grid of seeds to draw: two seeds must vary, and not together; run "
            "`hf-stabilizer study ... --head-seeds 6 --data-seeds 6`"
        )
    figure = Figure(figsize=(13, 3.8 * len(drawn)), layout="constrained")
    rows = figure.subplots(len(drawn), 3, squeeze=False)
    for one, (grid, bars, curves) in zip(drawn, rows, strict=True):
        _draw_grid(grid, one)
        _draw_shares(bars, one)
        _draw_densities(curves, one)
    return figure


def _draw_grid(axes: Axes, one: SeedEffects) -> None:
    assert one.pair is not None
    first, second = one.pair
    heads = {mean.seed: place for place, mean in enumerate(one.heads)}
    others = {mean.seed: place for place, mean in enumerate(one.others)}
    sums, counts = (np.zeros((len(others), len(heads))) for _ in range(2))
    for run in one.runs:
        place = others[run.seeds[second]], heads[run.seeds[first]]
        sums[place] += final_score(run) or 0.0
        counts[place] += 1
    with np.errstate(invalid="ignore"):
        cells = sums / counts  # a hole is not drawn
    image = axes.imshow(cells, aspect="auto", cmap="viridis")
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label=one.metric)
    axes.set_xticks(range(len(heads)), [str(seed) for seed in heads], fontsize="small")
    axes.set_yticks(range(len(others)), [str(seed) for seed in others], fontsize="small")
    axes.set(
        xlabel=f"{one.words[first]} seed, best first",
        ylabel=f"{one.words[second]} seed, best first",
        title=f"{one.data_set}, {one.recipe}",
    )


def _draw_shares(axes: Axes, one: SeedEffects) -> None:
    assert one.analysis is not None
    factors = one.analysis.factors[::-1]
    bars = axes.barh([f.name for f in factors], [100 * f.share for f in factors], color=_BARS)
    notes = [
        formats.p_value(f.p_value if f.shuffled_p is None else f.shuffled_p).strip("-")
        for f in factors
    ]
    axes.bar_label(bars, notes, padding=4, fontsize="small")
    axes.set(xlabel="share of the variance in %", xlim=(0, 125), title="Where the spread is from")
    axes.set_xticks(range(0, 101, 25))


def _draw_densities(axes: Axes, one: SeedEffects) -> None:
    """Solid: heads; dashed: data orders."""
    scores = [s for run in one.runs if (s := final_score(run)) is not None]
    room = 0.15 * (max(scores) - min(scores)) or 0.01
    low, high = min(scores) - room, max(scores) + room
    for name, means, line in zip(one.varied, (one.heads, one.others), ("-", "--"), strict=False):
        for mean, colour, word in ((means[0], _BEST, "best"), (means[-1], _WORST, "worst")):
            mine = [final_score(r) or 0.0 for r in one.runs if r.seeds[name] == mean.seed]
            curve = density(mine, low=low, high=high)
            label = f"{word} {one.words[name]} seed ({mean.seed}), {len(mine)} runs"
            if curve is not None:
                axes.plot(curve.x, curve.y, line, color=colour, label=label)
            else:
                axes.axvline(math.fsum(mine) / len(mine), linestyle=line, color=colour, label=label)
    axes.legend(fontsize="x-small", frameon=False)
    axes.set(xlabel=one.metric, ylabel="density", title="Best and worst seeds", ylim=(0, None))
