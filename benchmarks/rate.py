"""How near the requested rate a compressed text lands: the exact rule beside the stock package's.

Texts of 50 to 3,000 tokens, cut from docstrings and functions of the running Python's standard
library and from generated meetings, compressed at four rates by a small base that was taught on
them. A text's deviation is the distance, in points, between the requested rate and the tokens of
the final text over those of the original; what is printed is the mean over the texts.

    bounds   of the exact rule: at most 2 points at 50 tokens, at most 1 from 400 tokens on

    python -m benchmarks.rate
"""

import ast
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.results import publish, show
from trainer.evaluation.costs import rate_deviation
from trainer.learning.base import make_base
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import compress_at
from trainer.policy.words import CompressionOptions
from trainer.tasks.meetings import generate_meetings
from trainer.tasks.stdlib_code import standard_library_functions

LENGTHS = {50: 40, 100: 40, 200: 40, 400: 30, 1000: 20, 3000: 6}
"""Tokens of a text: how many texts of each kind."""
RATES = (0.2, 0.3, 0.5, 0.7)
BOUNDS = {50: 2.0, 400: 1.0, 1000: 1.0, 3000: 1.0}
"""Points that the exact rule may be off on average, by tokens of a text; at every rate."""
READ = 1500
"""Documents of each kind, one after another, to cut texts from."""

_WORD = re.compile(r"\S+\s*")


def main() -> None:
    """Compress every text by both rules, and publish their deviations."""
    torch.set_num_threads(1)
    documents = {kind: list(islice(source(), READ)) for kind, source in SOURCES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        texts = [text for each in documents.values() for text in each]
        base = make_base(Path(scratch), texts, rate=0.5, seed=0, report=lambda _line: None)
        compressor = PromptCompressorReinforce(str(base), "cpu", length_tokenizer="auto")
    cells = [
        measure(compressor, kind, length, texts)
        for kind, each in documents.items()
        for length, texts in cut_texts(each, compressor.length_tokenizer.count, LENGTHS).items()
    ]
    show(
        f"Points off the requested rate, mean over rates {RATES}",
        ("text", "tokens", "texts", "stock rule", "exact rule", "exact, worst rate"),
        [
            (
                cell["kind"],
                str(cell["tokens"]),
                str(cell["texts"]),
                *(f"{fmean(cell[rule].values()):.2f}" for rule in ("stock", "exact")),
                f"{max(cell['exact'].values()):.2f}",
            )
            for cell in cells
        ],
    )
    figures = {
        "length_tokenizer": compressor.length_tokenizer.name,
        "cells": cells,
        "by_length": {
            length: {
                rule: fmean(
                    points
                    for cell in cells
                    if cell["tokens"] == length
                    for points in cell[rule].values()
                )
                for rule in ("stock", "exact")
            }
            for length in LENGTHS
        },
        "within_bounds": all(
            points <= BOUNDS[cell["tokens"]]
            for cell in cells
            if cell["tokens"] in BOUNDS
            for points in cell["exact"].values()
        ),
    }
    publish("rate", figures)


def measure(
    compressor: PromptCompressorReinforce, kind: str, length: int, texts: list[str]
) -> dict[str, Any]:
    """Mean deviation in points by rule and rate, of texts of one kind and length."""
    deviations = {}
    for rule in ("stock", "exact"):
        at_rates = compress_at(
            compressor,
            [[text] for text in texts],
            CompressionOptions(),
            RATES,
            exact=rule == "exact",
        )
        deviations[rule] = {
            rate: rate_deviation(compressions, rate)
            for rate, compressions in zip(RATES, at_rates, strict=True)
        }
    return {"kind": kind, "tokens": length, "texts": len(texts), **deviations}


def cut_texts(
    documents: list[str], count: Callable[[str], int], lengths: Mapping[int, int]
) -> dict[int, list[str]]:
    """Running text, cut at white space after so many tokens; the same for the same documents."""
    words = (word for document in documents for word in _WORD.findall(f"{document}\n"))
    return {
        length: [_next(words, count, length) for _ in range(n)] for length, n in lengths.items()
    }


def _next(words: Iterator[str], count: Callable[[str], int], length: int) -> str:
    text: list[str] = []
    tokens = 0
    while tokens < length:
        text.append(next(words))
        tokens += count(text[-1])
    return "".join(text).strip()


def _docstrings() -> Iterator[str]:
    """Of the standard library's modules, in a fixed order."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            if docstring := ast.get_docstring(node):
                yield docstring


def _functions() -> Iterator[str]:
    return (str(draft.record["original_prompt"]) for draft in standard_library_functions())


def _meetings() -> Iterator[str]:
    return (str(record["original_prompt"]) for record in generate_meetings(READ, 0, "test"))


SOURCES: dict[str, Callable[[], Iterator[str]]] = {
    "docstrings": _docstrings,
    "code": _functions,
    "meetings": _meetings,
}


if __name__ == "__main__":
    main()
