"""The whole comparison: ways to compress the same examples, at several rates, by every metric.

For each requested rate: nothing dropped, random drop, stop words dropped first, the first words,
the rarest words, the base, and the trained compressors. Compressors work as deployed; a rule gets,
example by example, as many tokens as the last compressor used, so that no row wins by length.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import rows
from trainer.evaluation.costs import Latency, rate_deviation, time_prompts
from trainer.evaluation.intervals import Interval, paired_bootstrap
from trainer.evaluation.metrics import Scores, score_replies
from trainer.evaluation.retention import entities, kept_share, numbers
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import ContextFilter, Target
from trainer.policy.inference import Compression
from trainer.policy.words import CompressionOptions
from trainer.rollouts.judge import Comparison
from trainer.rollouts.scoring import Scorer
from trainer.types import Ask, Example, Question, TeacherReply

NONE = "none"
RESAMPLES = 2_000
CONFIDENCE = 0.95
TIMED_PROMPTS = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how texts are compressed."""

    rates: tuple[float, ...]
    scorers: tuple[Scorer, ...]
    options: CompressionOptions
    context_filter: ContextFilter | None
    exact: bool
    """Cut at the exact rate; otherwise by the stock package's percentile."""
    thresholds: Mapping[str, Mapping[float, float]] | None
    """Compressor -> rate -> the threshold on all texts by which to cut; overrides `exact`."""
    frequencies: Mapping[str, int]
    """In how many training texts each word occurs, for the row of the rarest words."""
    seed: int
    """Of the rows that draw words, and of the bootstrap."""


@dataclass(frozen=True, slots=True)
class RowFigures:
    """One way to compress at one requested rate."""

    name: str
    requested_rate: float
    achieved_rate: float
    tokens_saved: float
    """Per prompt, on average."""
    numbers_kept: float | None
    """Mean share of a prompt's numbers that are still there; None where none has any."""
    entities_kept: float | None
    agreement: tuple[Scores, ...]
    """Against the teacher's answers on the originals: one for each metric."""
    correctness: tuple[Scores, ...]
    """Against humans' answers; () where the data has none."""
    agreement_intervals: tuple[Interval | None, ...]
    """Around the mean of each of `agreement`; None where nothing was scored."""
    correctness_intervals: tuple[Interval | None, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the trained compressors (or the base) are than another row."""

    requested_rate: float
    ours: str
    theirs: str
    measure: str
    """`agreement` or `correctness`."""
    metric: str
    interval: Interval
    examples: int
    """Those where both rows have a score."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a compressor takes, and how near the requested rates it lands."""

    name: str
    latency: Latency
    stock_deviation: dict[float, float]
    """Requested rate -> mean absolute deviation of a prompt's achieved rate, in points."""
    exact_deviation: dict[float, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures."""

    rows: tuple[RowFigures, ...]
    differences: tuple[Difference, ...]
    deployments: tuple[Deployment, ...]


def evaluate(
    compressors: Mapping[str, PromptCompressorReinforce],
    examples: Sequence[Example],
    ask: Ask,
    plan: Plan,
    report: Callable[[str], None] = print,
    ask_judge: Ask | None = None,
) -> Evaluation:
    """Measure.

    Args:
        compressors: by name, the base first; the trained ones are runs of one config that differ in
            their seed, and count as such in the intervals.
        examples: with reference completions.
        ask: the teacher.
        plan: what to measure.
        report: told of the progress.
        ask_judge: the teacher as a judge, where a scorer has one.
    """
    judged = partial(_figures, examples=examples, ask=ask, ask_judge=ask_judge, plan=plan)
    figures: list[RowFigures] = []
    differences: list[Difference] = []
    stock: dict[str, dict[float, float]] = {name: {} for name in compressors}
    exact: dict[str, dict[float, float]] = {name: {} for name in compressors}
    for rate in plan.rates:
        deployed = {}
        for name, compressor in compressors.items():
            by_rule = {
                is_exact: _deployed(compressor, examples, rate, plan, exact=is_exact)
                for is_exact in (False, True)
            }
            stock[name][rate] = rate_deviation(by_rule[False], rate)
            exact[name][rate] = rate_deviation(by_rule[True], rate)
            deployed[name] = by_rule[plan.exact]
            if plan.thresholds:
                threshold = plan.thresholds[name][rate]
                deployed[name] = _deployed(
                    compressor, examples, rate, plan, exact=False, threshold=threshold
                )
        at_rate = []
        for name, compressions in _all_rows(compressors, deployed, examples, plan).items():
            at_rate.append(judged(name, rate, compressions))
            report(f"rate {rate:g}: {name} judged")
        figures += at_rate
        differences += _differences(at_rate, list(compressors), examples, plan)
    deployments = tuple(
        Deployment(name, _latency(compressor, examples, plan), stock[name], exact[name])
        for name, compressor in compressors.items()
    )
    return Evaluation(tuple(figures), tuple(differences), deployments)


def _deployed(
    compressor: PromptCompressorReinforce,
    examples: Sequence[Example],
    rate: float,
    plan: Plan,
    *,
    exact: bool,
    threshold: float | None = None,
) -> list[Compression]:
    return rows.by_policy(
        compressor,
        examples,
        plan.options,
        Target(rate),
        exact=exact,
        threshold=threshold,
        context_filter=plan.context_filter,
    )


def _all_rows(
    compressors: Mapping[str, PromptCompressorReinforce],
    deployed: Mapping[str, list[Compression]],
    examples: Sequence[Example],
    plan: Plan,
) -> dict[str, list[Compression]]:
    """Name -> compressions, from nothing dropped to the trained compressors."""
    last = list(compressors)[-1]
    segmenter = compressors[last].segmenter(plan.options)
    budgets = [compression.compressed_tokens for compression in deployed[last]]
    rules = {
        "random": rows.random_words(plan.seed),
        "stop words": rows.no_stop_words(plan.seed),
        "rarest": rows.rarest_words(plan.frequencies),
    }
    return {
        NONE: rows.uncompressed(examples, segmenter),
        "first words": rows.by_beginning(examples, segmenter, budgets),
        **{name: rows.by_rule(r, examples, segmenter, budgets) for name, r in rules.items()},
        **deployed,
    }


def _figures(
    name: str,
    rate: float,
    compressions: Sequence[Compression],
    *,
    examples: Sequence[Example],
    ask: Ask,
    ask_judge: Ask | None,
    plan: Plan,
) -> RowFigures:
    replies = ask(rows.items_of(compressions, examples))
    agreement, correctness = (
        tuple(score_replies(scorer, replies, answers, ask_judge) for scorer in plan.scorers)
        if any(answers)
        else ()
        for answers in _answers(replies, examples)
    )
    originals = [example.original_prompt for example in examples]
    texts = [compression.text for compression in compressions]
    saved = [c.original_tokens - c.compressed_tokens for c in compressions]
    return RowFigures(
        name=name,
        requested_rate=1.0 if name == NONE else rate,
        achieved_rate=rows.achieved_rate(compressions),
        tokens_saved=fmean(saved),
        numbers_kept=_mean_kept(numbers, originals, texts),
        entities_kept=_mean_kept(entities, originals, texts),
        agreement=agreement,
        correctness=correctness,
        agreement_intervals=tuple(
            mean_interval(scores, examples, plan.seed) for scores in agreement
        ),
        correctness_intervals=tuple(
            mean_interval(scores, examples, plan.seed) for scores in correctness
        ),
    )


def _answers(
    replies: Sequence[TeacherReply], examples: Sequence[Example]
) -> tuple[list[list[Comparison]], list[list[Comparison]]]:
    """Each reply beside the teacher's own answer on the original, and beside people's answers."""
    asked = [(question, example) for example in examples for question in example.questions]

    def beside(references: Callable[[Question], Sequence[str]]) -> list[list[Comparison]]:
        return [
            [
                Comparison(reply.text, reference, question.question, example.original_prompt)
                for reference in references(question)
            ]
            for reply, (question, example) in zip(replies, asked, strict=True)
        ]

    return (
        beside(lambda question: [question.reference_completion]),
        beside(lambda question: question.answers),
    )


def _mean_kept(
    find: Callable[[str], set[str]], originals: Sequence[str], texts: Sequence[str]
) -> float | None:
    shares = [kept_share(find(o), text) for o, text in zip(originals, texts, strict=True)]
    present = [share for share in shares if share is not None]
    return fmean(present) if present else None


def _differences(
    at_rate: Sequence[RowFigures],
    compressors: Sequence[str],
    examples: Sequence[Example],
    plan: Plan,
) -> list[Difference]:
    """The trained compressors (all seeds at once), or the base alone, beside each other row."""
    ours = [row for row in at_rate if row.name in compressors[1:]] or [at_rate[-1]]
    others = [row for row in at_rate if row not in ours]
    return [
        difference
        for measure in ("agreement", "correctness")
        for index in range(len(getattr(ours[0], measure)))
        for other in others
        if (difference := _difference(ours, other, measure, index, examples, plan)) is not None
    ]


def _difference(
    ours: Sequence[RowFigures],
    theirs: RowFigures,
    measure: str,
    metric_index: int,
    examples: Sequence[Example],
    plan: Plan,
) -> Difference | None:
    """None where no question has a score in all of the rows."""
    scores = [getattr(row, measure)[metric_index] for row in (*ours, theirs)]
    mean_RN = example_means(scores, examples)
    if mean_RN is None:
        return None
    interval = paired_bootstrap(
        mean_RN[:-1],
        mean_RN[-1],
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        seed=plan.seed,
    )
    return Difference(
        requested_rate=ours[0].requested_rate,
        ours=ours[0].name,
        theirs=theirs.name,
        measure=measure,
        metric=scores[0].metric,
        interval=interval,
        examples=mean_RN.shape[1],
    )


def mean_interval(scores: Scores, examples: Sequence[Example], seed: int) -> Interval | None:
    """Around a row's mean, over other draws of examples; None where nothing was scored."""
    mean_RN = example_means([scores], examples)
    if mean_RN is None:
        return None
    return paired_bootstrap(
        mean_RN, np.zeros_like(mean_RN), resamples=RESAMPLES, confidence=CONFIDENCE, seed=seed
    )


def example_means(
    rows: Sequence[Scores], examples: Sequence[Example]
) -> NDArray[np.float64] | None:
    """(R, N): each example's mean over the questions that every row has a score of; None: none."""
    value_RQ = np.array([each.values for each in rows], dtype=float)  # None becomes NaN.
    example_Q = np.repeat(np.arange(len(examples)), [len(each.questions) for each in examples])
    scored_Q = np.isfinite(value_RQ).all(axis=0)
    return _means(value_RQ[:, scored_Q], example_Q[scored_Q]) if scored_Q.any() else None


def _means(value_RQ: NDArray[np.float64], example_Q: NDArray[np.int64]) -> NDArray[np.float64]:
    """(R, N): each example's mean over its questions; examples without any are left out."""
    _, place_Q, count_N = np.unique(example_Q, return_inverse=True, return_counts=True)
    return np.array([np.bincount(place_Q, row_Q) for row_Q in value_RQ]) / count_N


def _latency(
    compressor: PromptCompressorReinforce, examples: Sequence[Example], plan: Plan
) -> Latency:
    segmenter = compressor.segmenter(plan.options)
    tokens = [segmenter.count_tokens(example.contexts) for example in examples]
    rate = plan.rates[0]
    return time_prompts(
        lambda index: _deployed(compressor, [examples[index]], rate, plan, exact=plan.exact),
        tokens,
        TIMED_PROMPTS,
    )
