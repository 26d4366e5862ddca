"""Training runs of seconds: few short meetings, a compressor of one layer, a step every 50 ms."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.policy.fresh import make_fresh_compressor
from trainer.tasks.data import load_examples, write_records
from trainer.tasks.meetings import generate_meetings

TEMPLATE = "Transcript:\n{transcript}\n\nQuestion: {question}\nAnswer:"
QUESTIONS_PER_MEETING = 2


def write_meetings(path: Path, count: int, seed: int = 0) -> Path:
    """A data file whose answers on the originals are the generator's own."""
    records = {}
    for index, meeting in enumerate(generate_meetings(count, seed, "train")):
        questions = meeting["questions"][:QUESTIONS_PER_MEETING]
        records[str(index)] = {
            "original_prompt": meeting["original_prompt"],
            "questions": [{**question, "gpt_output": question["answer"]} for question in questions],
        }
    write_records(path, records)
    return path


def make_tiny_compressor(folder: Path, data: Path, *, seed: int = 0, layers: int = 1) -> Path:
    """An untrained compressor that knows the data's words."""
    texts = [example.original_prompt for example in load_examples(data)]
    return make_fresh_compressor(
        folder, texts, vocab_size=600, layers=layers, hidden=32, heads=2, seed=seed
    )


def tiny_document(data: Path, base: Path, /, **sections: dict[str, Any]) -> dict[str, Any]:
    """The config of a run of eight steps, as plain data; sections are changed key by key."""
    document: dict[str, Any] = {
        "data": {"train_file_path": str(data)},
        "model": {"model_load_path": str(base), "trained_model_output_dir_hf": "model"},
        "task": {"prompt": TEMPLATE, "gpt_model": "builtin", "max_tokens": 32},
        "hyperparams": {
            "epochs": 2,
            "train_batch_size": 3,
            "policy_lr": 1e-3,
            "compression_rate": 0.4,
            "drop_consecutive": False,
        },
        "logging": {"log_dir": "logs", "log_interval": 2, "save_interval": 3},
        "device": {"use_cuda": False, "device_map": "cpu"},
        "policy": {"rollouts_per_example": 3, "length_tokenizer": "policy"},
        "reward": {"metric": "f1", "compression_tolerance": 0.15},
        "evaluation": {"val_share": 0.0},
        "run": {"seed": 0, "threads": 1},
    }
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    return document


def tiny_config(data: Path, base: Path, /, **sections: dict[str, Any]) -> Config:
    """See `tiny_document`."""
    return Config.model_validate(tiny_document(data, base, **sections))


def rows_of(csv_file: Path) -> list[list[str]]:
    """A CSV file's rows, header included."""
    return [line.split(",") for line in csv_file.read_text(encoding="utf-8").splitlines()]


def phases(rows: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """(Train/Val, Step) of each row below the header."""
    return [(row[0], int(row[2])) for row in rows[1:]]


def go_on_training(config: Config, teacher_url: str, runs: Path) -> None:
    """Train to the end in `runs/trial`: from its last checkpoint, or from the start without one."""
    from trainer.learning.launch import resume, train_new

    folder = runs / "trial"
    if list(folder.glob("checkpoints/step-*.pt")):
        resume(folder, teacher_url=teacher_url, report=_silent)
        return
    shutil.rmtree(folder, ignore_errors=True)
    train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=_silent)


def _silent(_line: str) -> None:
    """What such a run reports."""
