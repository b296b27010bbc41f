"""What do the scores of many runs say, and how sure can we be?

Numbers in, numbers out: no torch, no transformers. Three decisions shape the package.

Few runs are the rule, so tests are exact where they can be and drawn where they cannot, and
nothing is assumed to be normal (`pairs`, `correction`, `power`).

Failed runs are the point, so none is dropped in silence. A collapsed run keeps its score in every
mean and spread; a run without a score cannot be averaged, and is counted and shown instead. Runs
that a study stopped early have no final score: they are counted, never averaged (`summaries`).

Spread is a result of its own: `spread_p_value` tests it as strictly as the mean is tested.
"""

from hf_stabilizer.studies.statistics.agreement import (
    Agreement,
    ValueAgreement,
    row_agreement,
    seed_agreement,
    value_agreement,
)
from hf_stabilizer.studies.statistics.best_of import (
    BestOf,
    expected_best,
    expected_validation_performance,
)
from hf_stabilizer.studies.statistics.budgets import (
    Spent,
    StudySettings,
    cost,
    runs_to_keep,
    settings_for_budget,
    spent,
)
from hf_stabilizer.studies.statistics.correction import holm, max_t_p_values
from hf_stabilizer.studies.statistics.curves import Curves, curves_of
from hf_stabilizer.studies.statistics.densities import Density, density
from hf_stabilizer.studies.statistics.foretelling import EarlyRank, early_ranks
from hf_stabilizer.studies.statistics.good_seeds import SeedMean, seed_means, seed_means_of_runs
from hf_stabilizer.studies.statistics.intervals import (
    Interval,
    bootstrap_interval,
    percentile_interval,
    wilson_interval,
)
from hf_stabilizer.studies.statistics.looks import (
    expected_best_by_looks,
    score_curve,
    steps_in_epoch,
    thinned_score,
)
from hf_stabilizer.studies.statistics.pairs import (
    Superiority,
    pairs_needed,
    probability_of_superiority,
    sign_flip_interval,
    sign_flip_p_value,
    significance_words,
    smallest_p_value,
    spread_p_value,
)
from hf_stabilizer.studies.statistics.planning import (
    Option,
    Plan,
    plan_over_budgets,
    plan_study,
)
from hf_stabilizer.studies.statistics.power import SeedsNeeded, seeds_needed
from hf_stabilizer.studies.statistics.ranks import (
    RankAgreement,
    rank_agreement,
    rank_agreement_of_runs,
)
from hf_stabilizer.studies.statistics.seed_factors import (
    Factor,
    SeedFactors,
    two_way_analysis,
    two_way_analysis_of_runs,
)
from hf_stabilizer.studies.statistics.selection import Optimism, optimism, optimism_of_runs
from hf_stabilizer.studies.statistics.shared_seeds import SharedSeeds, shared_seeds
from hf_stabilizer.studies.statistics.spread import (
    interquartile_range,
    median_absolute_deviation,
    sample_std,
)
from hf_stabilizer.studies.statistics.summaries import (
    RecipeSummary,
    final_score,
    summary_rows,
)
from hf_stabilizer.studies.statistics.unpaired import (
    permutation_interval,
    permutation_p_value,
    smallest_unpaired_p_value,
    superiority_of_unpaired,
)

__all__ = [
    "Agreement",
    "BestOf",
    "Curves",
    "Density",
    "EarlyRank",
    "Factor",
    "Interval",
    "Optimism",
    "Option",
    "Plan",
    "RankAgreement",
    "RecipeSummary",
    "SeedFactors",
    "SeedMean",
    "SeedsNeeded",
    "SharedSeeds",
    "Spent",
    "StudySettings",
    "Superiority",
    "ValueAgreement",
    "bootstrap_interval",
    "cost",
    "curves_of",
    "density",
    "early_ranks",
    "expected_best",
    "expected_best_by_looks",
    "expected_validation_performance",
    "final_score",
    "holm",
    "interquartile_range",
    "max_t_p_values",
    "median_absolute_deviation",
    "optimism",
    "optimism_of_runs",
    "pairs_needed",
    "percentile_interval",
    "permutation_interval",
    "permutation_p_value",
    "plan_over_budgets",
    "plan_study",
    "probability_of_superiority",
    "rank_agreement",
    "rank_agreement_of_runs",
    "row_agreement",
    "runs_to_keep",
    "sample_std",
    "score_curve",
    "seed_agreement",
    "seed_means",
    "seed_means_of_runs",
    "seeds_needed",
    "settings_for_budget",
    "shared_seeds",
    "sign_flip_interval",
    "sign_flip_p_value",
    "significance_words",
    "smallest_p_value",
    "smallest_unpaired_p_value",
    "spent",
    "spread_p_value",
    "steps_in_epoch",
    "summary_rows",
    "superiority_of_unpaired",
    "thinned_score",
    "two_way_analysis",
    "two_way_analysis_of_runs",
    "value_agreement",
    "wilson_interval",
]
