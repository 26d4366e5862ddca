"""Metrics: what an answer on a compressed text is worth beside its reference completion.

A built-in one (`bleu`, `f1`, `rougeL` ...), `your_package.module:function`, or a weighted sum of
them, such as `0.7*f1 + 0.3*rougeL`. Every metric takes (completion, reference) and gives a number,
normally between 0 and 1; each carries the signature that its figures travel with.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

from trainer.errors import ConfigError
from trainer.rollouts.text_metrics import BUILT_IN


@dataclass(frozen=True, slots=True)
class Metric:
    """A named function of (completion, reference)."""

    name: str
    """As in the config: `bleu`, `your_package.module:function`, `0.7*f1 + 0.3*rougeL`."""
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
    if "*" in name:
        return _weighted(name, _terms(name))
    if name in BUILT_IN:
        return Metric(name, *BUILT_IN[name]())
    return Metric(name, name, _import_function(name))


def is_built_in(metric: str) -> bool:
    """Whether a config's metric is ours, and no function of somebody else's package."""
    names = [name for _, name in _terms(metric)] if "*" in metric else [metric]
    return all(name in BUILT_IN for name in names)


def _weighted(name: str, terms: Sequence[tuple[float, str]]) -> Metric:
    """A sum; the weights are taken as they stand, so that those of 1 in all stay within 0 to 1."""
    parts = [(weight, load_metric(term)) for weight, term in terms]

    def function(completion: str, reference: str) -> float:
        return sum(weight * metric(completion, reference) for weight, metric in parts)

    signature = " + ".join(f"{weight:g}*[{metric.signature}]" for weight, metric in parts)
    return Metric(name, signature, function)


def _terms(text: str) -> list[tuple[float, str]]:
    """(weight, metric) of each term of a weighted sum."""
    terms = []
    for term in text.split("+"):
        weight_text, _, name = (part.strip() for part in term.partition("*"))
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0 and name):
            raise _no_such_metric(text, f"{term.strip()!r} is no positive weight * metric")
        terms.append((weight, name))
    return terms


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
    expected = ", ".join([*BUILT_IN, "your_package.module:function"])
    return ConfigError(
        "reward.metric",
        [f"expected one of {expected}, or a sum 0.7*f1 + 0.3*rougeL; got {path!r}: {why}"],
    )
