"""What do several models say together? Their mean as outputs, or as weights.

    members --outputs--> combining --> ensemble: scores of each and of all on the same rows
            --weights--> weight_means --> soup: one ordinary model
            --rows-----> predicting --> a file with labels and probabilities

Importing this package imports neither torch nor transformers; its functions do where weights are
needed.
"""

from __future__ import annotations

from hf_stabilizer.ensembling.ensemble_record import Ensemble, EnsembleMember
from hf_stabilizer.ensembling.ensembles import ensemble
from hf_stabilizer.ensembling.predicting import predict
from hf_stabilizer.ensembling.soup_record import Soup, SoupMember
from hf_stabilizer.ensembling.soups import greedy_soup, uniform_soup

__all__ = [
    "Ensemble",
    "EnsembleMember",
    "Soup",
    "SoupMember",
    "ensemble",
    "greedy_soup",
    "predict",
    "uniform_soup",
]
