"""What the training benchmarks share: generated meetings, a teacher service, a base compressor."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taco.demo import CONFIG, TEXTS
from taco.own_service import own_service
from taco.prepare import fill_references
from trainer.config import Config, resolved
from trainer.config_file import load_config
from trainer.learning.base import make_base
from trainer.tasks.data import load_examples, write_records
from trainer.tasks.meetings import Split, generate_meetings
from trainer.types import Example

MODEL_PHASES = ("forward", "update")
"""The compressor's forward passes; its backward passes, clipping and optimiser steps."""


MEETINGS_PER_LONG_TEXT = 13
"""75 words and more each."""


def configure(**sections: dict[str, Any]) -> Config:
    """The demo's config with some values changed, section by section."""
    plain = dict(resolved(load_config(CONFIG)))
    for section, values in sections.items():
        plain[section] = {**plain[section], **values}
    return Config.model_validate(plain)


@contextmanager
def recording_service(folder: Path) -> Iterator[str]:
    """A teacher service with a store of its own in `folder`."""
    with own_service(store=folder / "completions.sqlite") as url:
        yield url


def make_examples(path: Path, count: int, seed: int, split: Split, url: str) -> list[Example]:
    """Generate meetings into a data file, and fill in the teacher's answers."""
    records = generate_meetings(count, seed, split)
    write_records(path, {str(index): record for index, record in enumerate(records)})
    fill_references(path, path, configure(), url)
    return load_examples(path)


def make_long_examples(path: Path, count: int, seed: int, split: Split, url: str) -> list[Example]:
    """Texts of 13 meetings in a row, 1,000 words and more, each with three of their questions."""
    meetings = generate_meetings(count * MEETINGS_PER_LONG_TEXT, seed, split)
    records = {}
    for index in range(count):
        part = meetings[index * MEETINGS_PER_LONG_TEXT : (index + 1) * MEETINGS_PER_LONG_TEXT]
        # From the first, the middle and the last: what is asked about lies in every chunk.
        asked = [part[place]["questions"][0] for place in (0, len(part) // 2, -1)]
        text = " ".join(meeting["original_prompt"] for meeting in part)
        records[str(index)] = {"original_prompt": text, "questions": asked}
    write_records(path, records)
    fill_references(path, path, configure(), url)
    return load_examples(path)


def base_texts(seed: int) -> list[str]:
    """What the demo's base of a seed is made from: its training meetings, and more like them."""
    return [record["original_prompt"] for record in generate_meetings(TEXTS, seed, "train")]


def make_demo_base(folder: Path, seed: int) -> str:
    """The demo's base compressor, labelled under the demo's token budget."""
    rate = configure().hyperparams.compression_rate
    made = make_base(folder, base_texts(seed), rate=rate, seed=seed, report=lambda _line: None)
    return str(made)


def seconds_by_phase(log_dir: Path, *, warm_up: int) -> dict[str, float]:
    """Mean seconds of a step by phase, the first steps left out; they add up to its wall time."""
    lines = (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps: list[dict[str, Any]] = [json.loads(line) for line in lines[warm_up:]]
    phases = dict.fromkeys(key for step in steps for key in step if key.startswith("seconds/"))
    return {
        phase.removeprefix("seconds/"): sum(step.get(phase, 0.0) for step in steps) / len(steps)
        for phase in phases
    }


def overhead_share(seconds: Mapping[str, float]) -> float:
    """The share of a step's wall time outside the compressor's forward, backward and optimiser."""
    return 1 - sum(seconds[phase] for phase in MODEL_PHASES) / sum(seconds.values())
