"""An evaluation as JSON, for programs, and as Markdown, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.evaluation.costs import break_even_tokens
from trainer.evaluation.evaluate import (
    CONFIDENCE,
    NONE,
    RESAMPLES,
    Deployment,
    Difference,
    Evaluation,
    RowFigures,
)
from trainer.evaluation.intervals import Interval
from trainer.evaluation.metrics import Scores


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost; None: not known, and no money is reported."""

    usd_per_million: float | None
    """A million of the teacher's prompt tokens."""
    usd_per_hour: float | None
    """The machine that compresses."""


def as_json(evaluation: Evaluation, signature: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    """Every figure, and what reproduces it.

    Args:
        evaluation: the figures.
        signature: what was evaluated: models, data, template, teacher, how texts were compressed.
        prices: for the money.
    """
    first = evaluation.rows[0]
    return {
        "signature": {
            **signature,
            "metrics": {scores.metric: scores.signature for scores in first.agreement},
            "intervals": f"paired bootstrap, {RESAMPLES} resamples, {CONFIDENCE:.0%}",
        },
        "rows": [_row(row, prices) for row in evaluation.rows],
        "differences": [asdict(difference) for difference in evaluation.differences],
        "deployment": [asdict(deployment) for deployment in evaluation.deployments],
        "break_even": _break_even(evaluation, prices),
    }


def _row(row: RowFigures, prices: Prices) -> dict[str, Any]:
    price = prices.usd_per_million
    return {
        "row": row.name,
        "requested_rate": row.requested_rate,
        "achieved_rate": row.achieved_rate,
        "tokens_saved_per_prompt": row.tokens_saved,
        # Per thousand prompts, tokens per prompt / 1000 are millions of tokens.
        "usd_saved_per_1000_prompts": None if price is None else row.tokens_saved * price / 1000,
        "numbers_kept": row.numbers_kept,
        "entities_kept": row.entities_kept,
        "agreement": as_means(row.agreement, row.agreement_intervals),
        "correctness": as_means(row.correctness, row.correctness_intervals) or None,
    }


def as_means(all_scores: Sequence[Scores], intervals: Sequence[Interval | None]) -> dict[str, Any]:
    """By metric: the mean with its interval, and how many of the answers have a score."""
    return {
        scores.metric: {
            "mean": scores.mean,
            "interval": interval and [interval.low, interval.high],
            "scored": scores.answered,
            "of": len(scores.values),
        }
        for scores, interval in zip(all_scores, intervals, strict=True)
    }


def _break_even(evaluation: Evaluation, prices: Prices) -> list[dict[str, Any]] | None:
    """For each compressor and rate; None where the prices are not known."""
    if prices.usd_per_million is None or prices.usd_per_hour is None:
        return None
    latency = {deployment.name: deployment.latency for deployment in evaluation.deployments}
    return [
        {
            "row": row.name,
            "requested_rate": row.requested_rate,
            "prompt_tokens": break_even_tokens(
                latency[row.name], row.achieved_rate, prices.usd_per_million, prices.usd_per_hour
            ),
        }
        for row in evaluation.rows
        if row.name in latency
    ]


def as_markdown(evaluation: Evaluation, document: Mapping[str, Any]) -> str:
    """Tables: one for each rate, then the differences, then what deployment takes.

    Args:
        evaluation: the figures.
        document: the same as `as_json` gave it.
    """
    rates = list(dict.fromkeys(difference.requested_rate for difference in evaluation.differences))
    parts = ["# Evaluation", _signature_lines(document["signature"])]
    per_rate = len(evaluation.rows) // max(len(rates), 1)
    for index, rate in enumerate(rates):
        part = slice(index * per_rate, (index + 1) * per_rate)
        saved = [row["usd_saved_per_1000_prompts"] for row in document["rows"][part]]
        parts += [f"## Requested rate {rate:g}", _rows_table(evaluation.rows[part], saved)]
    parts += ["## Differences", _differences_table(evaluation.differences)]
    parts += ["## Deployment", _deployment_table(evaluation.deployments)]
    if document["break_even"] is not None:
        parts += ["## Break-even", _break_even_table(document["break_even"])]
    return "\n\n".join(parts) + "\n"


def _signature_lines(signature: Mapping[str, Any]) -> str:
    lines = []
    for name, value in signature.items():
        items = value.items() if isinstance(value, Mapping) else [("", value)]
        lines += [
            f"- {name} {key}: `{item}`" if key else f"- {name}: `{item}`" for key, item in items
        ]
    return "\n".join(lines)


def _rows_table(at_rate: Sequence[RowFigures], usd_saved: Sequence[float | None]) -> str:
    first, priced = at_rate[0], None not in usd_saved
    header = [
        "row",
        "achieved rate",
        "tokens saved",
        *(["USD saved per 1,000 prompts"] if priced else []),
        *(f"{scores.metric}, teacher" for scores in first.agreement),
        *(f"{scores.metric}, human" for scores in first.correctness),
        "numbers kept",
        "names kept",
    ]
    body = [
        [
            row.name,
            f"{row.achieved_rate:.3f}",
            f"{row.tokens_saved:.1f}",
            *([f"{usd:.4g}"] if priced else []),
            *(_shown(scores.mean) for scores in (*row.agreement, *row.correctness)),
            _shown(row.numbers_kept),
            _shown(row.entities_kept),
        ]
        for row, usd in zip(at_rate, usd_saved, strict=True)
    ]
    return table(header, body)


def _differences_table(differences: Sequence[Difference]) -> str:
    header = ["rate", "ours", "beside", "measured by", "difference", "95 % interval", "examples"]
    return table(
        header,
        [
            [
                f"{each.requested_rate:g}",
                each.ours,
                each.theirs,
                f"{each.metric}, {'teacher' if each.measure == 'agreement' else 'human'}",
                f"{each.interval.difference:+.3f}",
                f"{each.interval.low:+.3f} to {each.interval.high:+.3f}",
                str(each.examples),
            ]
            for each in differences
            if each.theirs != NONE
        ],
    )


def _deployment_table(deployments: Sequence[Deployment]) -> str:
    header = ["compressor", "median ms", "rate", "off by, stock rule", "off by, exact rule"]
    return table(
        header,
        [
            [
                each.name,
                f"{each.latency.median_ms:.1f}",
                f"{rate:g}",
                f"{points:.2f} points",
                f"{each.exact_deviation[rate]:.2f} points",
            ]
            for each in deployments
            for rate, points in each.stock_deviation.items()
        ],
    )


def _break_even_table(lines: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["compressor", "rate", "pays from a prompt of"],
        [
            [
                line["row"],
                f"{line['requested_rate']:g}",
                "never" if line["prompt_tokens"] is None else f"{line['prompt_tokens']:.0f} tokens",
            ]
            for line in lines
        ],
    )


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right of the first column."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
