"""The built-in metrics: each a function of completions and their references, from 0 to 1.

The figures are those of the well-known implementations: sacrebleu for BLEU and chrF, rouge-score
for ROUGE, the rules of the official SQuAD script for F1 and exact match. Libraries are imported
when a metric is first made: they are slow to load, and only some tasks use them.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version

PairFunction = Callable[[str, str], float]
TextFunction = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(completions, their references) -> a score for each."""
Builder = Callable[[], tuple[str, TextFunction]]
"""Makes (signature, function)."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SQUAD = "norm:squad|version:2.0"


def one_by_one(function: PairFunction) -> TextFunction:
    """Of a function of one completion and its reference, one of many."""
    return lambda completions, references: list(map(function, completions, references))


def squad_f1(completion: str, reference: str) -> float:
    """Token F1 of SQuAD, 0 to 1: harmonic mean of precision and recall over normalised words.

    Source: the official SQuAD 2.0 evaluation script, where two texts of no words agree.
    """
    ours, theirs = squad_words(completion), squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def squad_exact_match(completion: str, reference: str) -> float:
    """1 where both texts are the same after SQuAD's normalisation, else 0."""
    return float(squad_words(completion) == squad_words(reference))


def squad_words(text: str) -> list[str]:
    """A text's words without case, punctuation and articles, as the official script has them."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


@cache
def _bleu() -> tuple[str, TextFunction]:
    """BLEU by sacrebleu on one sentence.

    Effective order: a text of fewer than four words is judged by the n-grams that it has, so that
    two identical short answers score 1.
    """
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)

    def function(completion: str, reference: str) -> float:
        score: float = bleu.sentence_score(completion, [reference]).score
        return min(score / 100, 1.0)  # sacrebleu gives 100.00000000000004 for a perfect match.

    function("warm", "up")  # The signature knows the number of references only after a score.
    return f"bleu|{bleu.get_signature()}", one_by_one(function)


@cache
def _chrf() -> tuple[str, TextFunction]:
    """chrF2 by sacrebleu on one sentence: character n-grams up to six."""
    from sacrebleu.metrics import CHRF

    chrf = CHRF()

    def function(completion: str, reference: str) -> float:
        score: float = chrf.sentence_score(completion, [reference]).score
        return min(score / 100, 1.0)

    function("warm", "up")
    return f"chrf|{chrf.get_signature()}", one_by_one(function)


def _rouge(name: str) -> Builder:
    """An F-measure by rouge-score, without stemming (the default there and in `evaluate`)."""

    @cache
    def build() -> tuple[str, TextFunction]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([name], use_stemmer=False)

        def function(completion: str, reference: str) -> float:
            return float(scorer.score(reference, completion)[name].fmeasure)

        signature = f"{name}|measure:f1|stem:no|version:{version('rouge-score')}"
        return signature, one_by_one(function)

    return build


BUILT_IN: dict[str, Builder] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "exact_match": lambda: (f"exact_match|{_SQUAD}", one_by_one(squad_exact_match)),
    "f1": lambda: (f"f1|{_SQUAD}", one_by_one(squad_f1)),
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
}
