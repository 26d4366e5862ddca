"""Metrics: what an answer on a compressed text is worth beside its reference completion.

`bleu`, `f1`, or `your_package.module:function`. Every metric takes (completion, reference) and
gives a number, normally between 0 and 1; each carries the signature that its figures travel with.
"""

import importlib
import math
import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Real

from trainer.errors import ConfigError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Metric:
    """A named function of (completion, reference)."""

    name: str
    """As in the config: `bleu`, `f1` or `your_package.module:function`."""
    signature: str
    """What reproduces a figure: name, options and version, in sacrebleu's form."""
    function: Callable[[str, str], float]

    def __call__(self, completion: str, reference: str) -> float:
        """Score one completion; an empty one scores 0 under every metric.

        Raises:
            ConfigError: a function from outside gave something that is no finite number.
        """
        if not completion.strip():
            return 0.0
        score = self.function(completion, reference)
        if not isinstance(score, Real) or not math.isfinite(score):
            raise ConfigError(
                "reward.metric",
                [f"expected a finite number from {self.name}, got {score!r}; mend the function"],
            )
        return float(score)


@cache
def load_metric(name: str) -> Metric:
    """Find a metric by its name in the config; it is made once and used again.

    Raises:
        ConfigError: there is no such metric, or its module cannot be imported.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    return Metric(name, name, _import_function(name))


def squad_f1(completion: str, reference: str) -> float:
    """Token F1 of SQuAD, 0 to 1: harmonic mean of precision and recall over normalised words.

    Source: the official SQuAD 2.0 evaluation script, where two texts of no words agree.
    """
    ours, theirs = _squad_words(completion), _squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _bleu() -> Metric:
    """BLEU by sacrebleu on one sentence, 0 to 1.

    Effective order: a text of fewer than four words is judged by the n-grams that it has, so that
    two identical short answers score 1.
    """
    from sacrebleu.metrics import BLEU  # Slow to import, and only some tasks use it.

    bleu = BLEU(effective_order=True)

    def function(completion: str, reference: str) -> float:
        score: float = bleu.sentence_score(completion, [reference]).score
        return min(score / 100, 1.0)  # sacrebleu gives 100.00000000000004 for a perfect match.

    function("warm", "up")  # The signature knows the number of references only after a score.
    return Metric("bleu", f"bleu|{bleu.get_signature()}", function)


def _f1() -> Metric:
    return Metric("f1", "f1|norm:squad|version:2.0", squad_f1)


_BUILT_IN: dict[str, Callable[[], Metric]] = {"bleu": _bleu, "f1": _f1}


def is_built_in(metric: str) -> bool:
    """Whether a config's metric is ours, and no function of somebody else's package."""
    return metric in _BUILT_IN


def _import_function(path: str) -> Callable[[str, str], float]:
    module_name, colon, function_name = path.partition(":")
    if not (module_name and colon and function_name):
        raise _no_such_metric(path, "it names no module and function")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise _no_such_metric(
            path, f"{error}; install the package or add it to PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise _no_such_metric(path, f"{module_name} has no {function_name}") from error
    if not callable(function):
        raise _no_such_metric(path, f"{function_name} is a {type(function).__name__}, no function")
    return function  # type: ignore[no-any-return]


def _no_such_metric(path: str, why: str) -> ConfigError:
    expected = ", ".join([*_BUILT_IN, "your_package.module:function"])
    return ConfigError("reward.metric", [f"expected one of {expected}; got {path!r}: {why}"])
