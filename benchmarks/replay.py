"""What a second run costs: the demo's training against a cold store, then replayed from it.

overhead_share  of a replayed step's wall time, the part outside the compressor's forward pass,
                backward pass and optimiser: segmenting texts (prepare), holding the rate, drawing
                masks and joining words (sample), asking the service (every completion is cached)
                and scoring (teacher), credit and log-probs (loss), writing lock, logs and
                checkpoints (record, save), and whatever lies between (other)
"""

import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.results import publish, show
from benchmarks.workbench import (
    configure,
    make_demo_base,
    make_examples,
    overhead_share,
    recording_service,
    seconds_by_phase,
)
from taco.demo import RECORDS
from taco.own_service import own_service
from trainer.config import Config
from trainer.learning.launch import Result, train_new
from trainer.learning.lockfile import Lock

CONTEXTS = RECORDS["train"]

_console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Train, replay, compare; print where the replayed step's time goes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with recording_service(folder) as url:
            make_examples(folder / "train.json", CONTEXTS, 0, "train", url)
            config = _config(folder, make_demo_base(folder / "base", 0))
            first, seconds_first = _timed_run(config, folder, url)
        with own_service(mode="replay", store=folder / "completions.sqlite") as url:
            lock = Lock(Path(str(first.lock)))
            replayed, seconds_replay = _timed_run(config, folder, url, lock)
        seconds = seconds_by_phase(Path(replayed.folder) / config.logging.log_dir, warm_up=10)
    total = sum(seconds.values())
    show(
        "A replayed training step",
        ("phase", "ms", "share"),
        [
            (phase, f"{1000 * spent:.1f}", f"{spent / total:.0%}")
            for phase, spent in sorted(seconds.items(), key=lambda entry: -entry[1])
        ],
    )
    figures = {
        "backend_calls": replayed.backend_calls,
        "same_weights": replayed.weights_digest == first.weights_digest,
        "teacher_calls": replayed.teacher_calls,
        "seconds_first": round(seconds_first, 2),
        "seconds_replay": round(seconds_replay, 2),
        "overhead_share": round(overhead_share(seconds), 4),
        "step_milliseconds": {name: round(1000 * spent, 2) for name, spent in seconds.items()},
    }
    _console.print(
        f"first run {seconds_first:.1f} s, replay {seconds_replay:.1f} s, "
        f"{figures['backend_calls']} backend calls, overhead {figures['overhead_share']:.0%}"
    )
    publish("replay", figures)


def _config(folder: Path, base: str) -> Config:
    return configure(
        data={"train_file_path": str(folder / "train.json"), "val_file_path": None},
        model={"model_load_path": base},
        evaluation={"val_share": 0.0},
    )


def _timed_run(
    config: Config, folder: Path, url: str, lock: Lock | None = None
) -> tuple[Result, float]:
    start = time.perf_counter()
    result = train_new(
        config,
        "run",
        teacher_url=url,
        runs=folder / "runs",
        replay=lock,
        report=lambda _line: None,
    )
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
