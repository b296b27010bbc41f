"""Which score is meant by a name? Names come in several spellings; some hold a number K."""

from __future__ import annotations

import re

from hf_stabilizer.errors import ConfigurationError, did_you_mean
from hf_stabilizer.scores import SCORES
from hf_stabilizer.scores.probabilities import BINS
from hf_stabilizer.scores.texts import has_synonyms

_NUMBERED = {
    r"map(?:@|_at_|_|)([1-9]\d*)": "map_at_K",
    r"top_?([1-9]\d*)(?:_accuracy|_acc|)": "top_K_accuracy",
    r"(?:calibration_error|ece)_?([1-9]\d*)": "calibration_error_K",
}
_ALIASES = {
    "acc": "accuracy",
    "macro_f1": "f1_macro",
    "micro_f1": "f1_micro",
    "mcc": "matthews_correlation",
    "matthews": "matthews_correlation",
    "matthews_corrcoef": "matthews_correlation",
    "pearsonr": "pearson",
    "spearmanr": "spearman",
    "pearson_correlation": "pearson",
    "spearman_correlation": "spearman",
    "root_mean_squared_error": "rmse",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "nll": "negative_log_likelihood",
    "brier": "brier_score",
    "ece": "calibration_error",
    "expected_calibration_error": "calibration_error",
    "entity_f1": "seqeval_f1",
    "seqeval": "seqeval_f1",
    "ppl": "perplexity",
    "sacrebleu": "bleu",
    "rouge1": "rouge_1",
    "rouge2": "rouge_2",
    "rougel": "rouge_l",
    "rouge": "rouge_l",
}


def parse_name(name: str) -> tuple[str, int | None]:
    """Splits a name into its family, as `SCORES` has it, and its number K.

    Raises:
        ConfigurationError: There is no such score.

    Example:
        >>> parse_name("MAP@3"), parse_name("macro F1")
        (('map_at_K', 3), ('f1_macro', None))
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    for pattern, family in _NUMBERED.items():
        if match := re.fullmatch(pattern, plain):
            k = int(match[1])
            # One name for one number.
            is_plain = family == "calibration_error_K" and k == BINS
            return ("calibration_error", None) if is_plain else (family, k)
    family = _ALIASES.get(plain, plain)
    if family not in SCORES or SCORES[family].has_k:
        known = [family.replace("K", "3") for family in SCORES]
        hint = did_you_mean(plain, [*known, *_ALIASES]) or f"; known are {', '.join(known)}"
        raise ConfigurationError(f"there is no metric {name!r}{hint}")
    if family == "meteor" and not has_synonyms():
        return "meteor_exact_stem", None
    return family, None
