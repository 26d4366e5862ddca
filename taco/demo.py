"""`taco demo`: the whole of it on a machine without a GPU, a key or a download.

Generates meetings, starts the teacher service as a process of its own, makes a base compressor,
trains it with REINFORCE over HTTP, compares, and trains once more from the same base against a
service that serves the store alone. Only its two children import torch.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taco.errors import UserError
from taco.own_service import own_service
from taco.prepare import fill_references
from trainer.config import Config
from trainer.config_file import load_config
from trainer.tasks.data import write_records
from trainer.tasks.meetings import Split, generate_meetings

FOLDER = Path("runs/demo")
STORE = FOLDER / "completions.sqlite"
CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"
RECORDS = {"train": 625, "validation": 40, "test": 500}
TEXTS = 1250
"""What the base is made from: the training texts, and as many that the teacher never sees."""
SEED = 0

_console = Console(highlight=False, soft_wrap=True)


def run_demo(teacher_url: str | None = None) -> None:
    """Run the demo in `runs/demo` below the current folder.

    Args:
        teacher_url: a service that runs already; None starts one with an empty store.

    Raises:
        UserError: one of its processes failed, or the folder cannot be written.
    """
    if not CONFIG.exists():
        raise UserError(f"{CONFIG}: the demo's config is part of a checkout; run it from one")
    start = time.perf_counter()
    config = load_config(CONFIG)
    _make_folder()
    _heading("1. Data: generated meetings, and the teacher's answers on the originals")
    with _recording_service(teacher_url) as url:
        _make_data(config, url)
        _heading("2. A base compressor, REINFORCE over HTTP, and the comparison")
        _child("taco.demo_training", str(FOLDER), str(CONFIG), url, TACO_TEACHER_URL=url)
    _heading("3. The same training once more, served from the store alone")
    lock = str(FOLDER / "train" / "run.lock")
    if teacher_url:
        _child("taco", "train", "--replay", lock, TACO_TEACHER_URL=teacher_url)
    else:
        _child("taco", "train", "--replay", lock, "--store", str(STORE))
    rows = _read("rows.json")
    summary = summarize(rows, _read("train/result.json"), _read("train-replay/result.json"))
    summary["seconds"] = round(time.perf_counter() - start, 1)
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _show(rows, summary)


def summarize(
    rows: Sequence[Mapping[str, Any]], trained: Mapping[str, Any], replayed: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures of `summary.json`, from the table and the two runs' results."""
    f1 = {row["name"]: row["f1"] for row in rows}
    achieved = {row["name"]: row["achieved_rate"] for row in rows}
    return {
        "base_f1": f1["base"],
        "trained_f1": f1["trained"],
        "random_f1": f1["random"],
        "rule_f1": f1["rule"],
        "achieved_rate": achieved["trained"],
        "teacher_calls": trained["teacher_calls"],
        "replay_teacher_calls": replayed["backend_calls"],
        "weights_digest": trained["weights_digest"],
        "replay_weights_digest": replayed["weights_digest"],
        "model_path": trained["model_path"],
    }


def _make_folder() -> None:
    """An empty `runs/demo`; an earlier one is moved aside, so that call counts mean the same."""
    try:
        if FOLDER.exists():
            number = 1
            while (aside := FOLDER.with_name(f"{FOLDER.name}-earlier-{number}")).exists():
                number += 1
            FOLDER.rename(aside)
            _console.print(f"moved the earlier demo to {aside}")
        (FOLDER / "data").mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{FOLDER}: expected a folder that can be made and written to: {error.strerror}; "
            "run the demo where you may write"
        ) from error


@contextmanager
def _recording_service(teacher_url: str | None) -> Iterator[str]:
    if teacher_url:
        yield teacher_url
        return
    with own_service(store=STORE) as url:
        _console.print(f"teacher service: {url}, store {STORE}")
        yield url


def _make_data(config: Config, url: str) -> None:
    for name, count in RECORDS.items():
        split: Split = "test" if name == "test" else "train"
        # Validation meetings are drawn after the base's, from the same people and places.
        skip = TEXTS if name == "validation" else 0
        made = generate_meetings(skip + count, SEED, split)[skip:]
        path = FOLDER / "data" / f"{name}.json"
        write_records(path, {str(index): record for index, record in enumerate(made)})
        fill_references(path, path, config, url)


def _child(module: str, *arguments: str, **environment: str) -> None:
    # -P: the packages are the installed ones, whatever lies in the current folder.
    command = [sys.executable, "-P", "-m", module, *arguments]
    if code := subprocess.run(command, env={**os.environ, **environment}, check=False).returncode:
        raise UserError(f"the demo stopped: {module} ended with exit code {code}; see above")


def _read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def _heading(text: str) -> None:
    _console.print(f"\n[bold]{text}[/bold]")


def _show(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    table = Table(title="Question answering over 500 fresh meetings")
    for column in ("row", "F1", "requested", "achieved", "teacher calls", "seconds"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['f1']:.3f}",
            f"{row['requested_rate']:.2f}",
            f"{row['achieved_rate']:.3f}",
            f"{row['teacher_calls']:,}",
            f"{row['seconds']:.1f}",
        )
    same = summary["weights_digest"] == summary["replay_weights_digest"]
    _console.print()
    _console.print(table)
    _console.print(
        "F1 is against the teacher's own answer on the original. The built-in teacher is a "
        "rule-based simulator on generated text: this run proves the pipeline and the optimiser, "
        "not a gain on real models."
    )
    _console.print(
        f"The replayed run made {summary['replay_teacher_calls']} backend calls and gave "
        f"{'bit-identical' if same else 'DIFFERENT'} weights:\n"
        f"  trained  {summary['weights_digest']}\n"
        f"  replayed {summary['replay_weights_digest']}"
    )
    _console.print(f"trained compressor  {summary['model_path']}")
    if (report := FOLDER / "train" / "report.html").exists():
        _console.print(f"report              {report} (open it in a browser)")
    _console.print(f"figures             {FOLDER / 'summary.json'} ({summary['seconds']:.0f} s)")
