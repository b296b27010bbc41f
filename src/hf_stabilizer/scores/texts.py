"""How near are generated texts to the references? Over sacrebleu, rouge_score and nltk.

    bleu                      corpus BLEU, 0..100, tokenised as "13a"
    rouge_1, rouge_2, rouge_l mean over rows of F1 over words, pairs, longest common subsequence
    meteor, meteor_exact_stem mean over rows of METEOR

METEOR matches words that are equal, then those of one stem, then synonyms. Those come from WordNet,
data that nltk would have to download. Nothing is downloaded here: where WordNet is not
installed the last stage is left out, and the score is called `meteor_exact_stem`.

Sources: Papineni et al. 2002; Post 2018, arXiv 1804.08771 (sacrebleu); Lin 2004 (ROUGE); Banerjee,
Lavie 2005, with the parameters of Lavie, Agarwal 2007 (METEOR, as nltk has it).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hf_stabilizer.errors import MissingDependencyError

_INSTALLED_AS = {"sacrebleu": "sacrebleu", "rouge_score": "rouge-score", "nltk": "nltk"}


def check_packages(packages: Sequence[str], *, metric: str) -> None:
    """Raises MissingDependencyError if a package that a metric is computed with is absent."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"metric {metric!r} needs the package {_INSTALLED_AS[package]!r}, which is not "
                "installed; run: pip install 'hf_stabilizer[generation]'"
            )


def bleu(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Returns the BLEU of the whole corpus, 0 to 100, one reference per text.

    Example:
        >>> round(bleu(["the cat sat on a mat"], ["the cat sat on the mat"]), 2)
        53.73
    """
    from sacrebleu import corpus_bleu

    return float(corpus_bleu(list(predictions), [list(references)]).score)


def rouge(predictions: Sequence[str], references: Sequence[str], kind: str) -> float:
    """Returns the mean F1 of ROUGE-1, -2 or -L ("rouge1", "rouge2", "rougeL"), without stemming.

    Example:
        >>> rouge(["the cat"], ["the dog"], "rouge1")
        0.5
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind])
    pairs = zip(references, predictions, strict=True)
    scores = [scorer.score(reference, text)[kind].fmeasure for reference, text in pairs]
    return float(sum(scores) / max(len(scores), 1))


def meteor(predictions: Sequence[str], references: Sequence[str], *, with_synonyms: bool) -> float:
    """Returns the mean METEOR, words and punctuation marks taken as tokens, in lower case.

    Example:
        >>> round(meteor(["the cats sat"], ["the cat sat"], with_synonyms=False), 4)
        0.9815
    """
    from nltk.tokenize import wordpunct_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    synonyms = _wordnet() if with_synonyms else _NoSynonyms()
    scores = [
        single_meteor_score(
            wordpunct_tokenize(reference), wordpunct_tokenize(text), wordnet=synonyms
        )
        for reference, text in zip(references, predictions, strict=True)
    ]
    return float(sum(scores) / max(len(scores), 1))


@functools.cache
def has_synonyms() -> bool:
    """Whether nltk finds WordNet on this machine; nothing is downloaded."""
    if find_spec("nltk") is None:
        return False
    try:
        _wordnet().synsets("word")
    except LookupError:
        return False
    return True


class _NoSynonyms:
    """Stands in for WordNet: no word has synonyms."""

    def synsets(self, word: str) -> list[Any]:  # Any: nltk's entries, of which there are none
        return []


def _wordnet() -> Any:  # Any: nltk's reader, which is not typed
    from nltk.corpus import wordnet

    return wordnet
