"""Metrics: what an answer on a compressed text is worth beside its reference completion.

A built-in one (`bleu`, `f1`, `rougeL` ...), `your_package.module:function`, or a weighted sum of
them, such as `0.7*f1 + 0.3*rougeL`. Every metric takes completions and their references, many at
once, and gives a number for each, normally between 0 and 1; each carries the signature that its
figures travel with.
"""

import importlib
import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from types import MappingProxyType

from trainer.config import Config
from trainer.errors import ConfigError
from trainer.rollouts.text_metrics import BUILT_IN, Builder, TextFunction, one_by_one

BERTSCORE = "bertscore"
JUDGE = "judge"
BATCHED = "batched"
"""A user's function with this attribute set takes two lists and gives one."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A named function of completions and their references."""

    name: str
    """As in the config: `bleu`, `your_package.module:function`, `0.7*f1 + 0.3*rougeL`."""
    signature: str
    """What reproduces a figure: name, options and version, in sacrebleu's form."""
    function: TextFunction

    def __call__(self, completion: str, reference: str) -> float:
        """Score one completion: see `score`."""
        return self.score([(completion, reference)])[0]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Score completions, each with its reference; an empty one scores 0 under every metric.

        Equal pairs are scored once.

        Raises:
            ConfigError: a function from outside gave something that is no finite number.
        """
        distinct = list(dict.fromkeys(pair for pair in pairs if pair[0].strip()))
        if not distinct:
            return [0.0] * len(pairs)
        completions, references = map(list, zip(*distinct, strict=True))
        scores = self.function(completions, references)
        if not isinstance(scores, Sized) or len(scores) != len(distinct):
            raise self._no_scores(f"a list of {len(distinct)} scores", repr(scores))
        for score in scores:
            if not isinstance(score, Real) or not math.isfinite(score):
                raise self._no_scores("a finite number", repr(score))
        score_of = dict(zip(distinct, map(float, scores), strict=True))
        return [score_of.get(pair, 0.0) for pair in pairs]

    def _no_scores(self, expected: str, got: str) -> ConfigError:
        problem = f"expected {expected} from {self.name}, got {got}; mend the function"
        return ConfigError("reward.metric", [problem])


def load_metric(name: str, more: Mapping[str, Builder] = MappingProxyType({})) -> Metric:
    """Find a metric by its name in the config; what is slow to make is made once.

    Args:
        name: of a metric, or a weighted sum.
        more: metrics beside the built-in ones, which depend on the config.

    Raises:
        ConfigError: there is no such metric, or its module cannot be imported.
    """
    if "*" in name:
        return _weighted(name, [(weight, load_metric(each, more)) for weight, each in terms(name)])
    if builder := {**BUILT_IN, **more}.get(name):
        return Metric(name, *builder())
    if name in (BERTSCORE, JUDGE):
        raise _no_such_metric(name, "it needs what only a run or an evaluation has")
    return Metric(name, name, _import_function(name))


def model_metrics(config: Config, device: str | None = None) -> Mapping[str, Builder]:
    """The metrics that depend on the config, for `load_metric`; a model is loaded when one is made.

    Args:
        config: of the run.
        device: where a model runs; None: as the config says.
    """

    def bertscore() -> tuple[str, TextFunction]:
        # Imported here: torch takes seconds, and no other metric needs it.
        from trainer.policy.compressor import available_device
        from trainer.rollouts.bertscore import load_bertscore

        wanted = config.device.device_map if config.device.use_cuda else "cpu"
        place = device or available_device(wanted)
        return load_bertscore(config.bertscore, config.data.train_file_path, place)

    return {BERTSCORE: bertscore}


def best_of(metric: Metric, answers: Sequence[tuple[str, Sequence[str]]]) -> list[float]:
    """Score completions, each against the nearest of its own references, of which it has some."""
    scores = iter(
        metric.score(
            [(completion, each) for completion, references in answers for each in references]
        )
    )
    return [max(islice(scores, len(references))) for _, references in answers]


def uses_model(metric: str) -> bool:
    """Whether a model of the config's measures it, or a part of it."""
    return any(name == BERTSCORE for _, name in terms(metric))


def is_built_in(metric: str) -> bool:
    """Whether a config's metric is ours, and no function of somebody else's package."""
    return all(":" not in name for _, name in terms(metric))


def _weighted(name: str, parts: Sequence[tuple[float, Metric]]) -> Metric:
    """A sum; the weights are taken as they stand, so that those of 1 in all stay within 0 to 1."""

    def function(completions: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = list(zip(completions, references, strict=True))
        scores = [[weight * score for score in metric.score(pairs)] for weight, metric in parts]
        return [sum(column) for column in zip(*scores, strict=True)]

    signature = " + ".join(f"{weight:g}*[{metric.signature}]" for weight, metric in parts)
    return Metric(name, signature, function)


def terms(text: str) -> list[tuple[float, str]]:
    """(weight, metric) of each term of a weighted sum; of one metric alone, 1 and its name.

    Raises:
        ConfigError: a term is no positive weight * metric.
    """
    if "*" not in text:
        return [(1.0, text)]
    found = []
    for term in text.split("+"):
        weight_text, _, name = (part.strip() for part in term.partition("*"))
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0 and name):
            raise _no_such_metric(text, f"{term.strip()!r} is no positive weight * metric")
        found.append((weight, name))
    return found


def _import_function(path: str) -> TextFunction:
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
    if getattr(function, BATCHED, False):
        return function  # type: ignore[no-any-return]
    return one_by_one(function)


def _no_such_metric(path: str, why: str) -> ConfigError:
    expected = ", ".join([*BUILT_IN, BERTSCORE, JUDGE, "your_package.module:function"])
    return ConfigError(
        "reward.metric",
        [f"expected one of {expected}, or a sum 0.7*f1 + 0.3*rougeL; got {path!r}: {why}"],
    )
