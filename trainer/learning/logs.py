"""What a run writes as it goes: append-only files, each of which a resume can cut back.

`reinforce_logs_updated.csv` and `rewards_logs_updated.csv` keep the reference's names, headers and
meaning; `metrics.jsonl` has everything else, with keys of the form area/name; `validation.jsonl`
has what validation gave, `rollouts.jsonl` every compressed text.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from trainer.learning.writing import written
from trainer.types import Rollout

LOSS_HEADER = ("Train/Val", "Epoch", "Step", "Policy Loss", "LR")
REWARD_HEADER = ("Train/Val", "Epoch", "Step", "Rewards", "Comp Ratio")


class AppendedFile:
    """A text file that only grows, but for `cut_back`.

    Raises:
        WriteError: it cannot be written, whichever method finds out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", newline="")

    def write_line(self, line: str) -> None:
        """Add one line; the newline is added here."""
        with written(self.path):
            self._file.write(line + "\n")

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        with written(self.path):
            self._file.flush()

    def size(self) -> int:
        """Bytes written so far."""
        self.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        """Write the rest and give the file back."""
        with written(self.path):
            self._file.close()


class CsvLog:
    """A CSV file with a header, written once."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._file = AppendedFile(path)
        if self._file.size() == 0:
            self.write(header)

    def write(self, row: Sequence[object]) -> None:
        """Add one row, at once visible to readers."""
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        self._file.write_line(line.getvalue())
        self._file.flush()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


class RunLogs:
    """The five log files of a run."""

    def __init__(self, log_dir: Path) -> None:
        self._loss = CsvLog(log_dir / "reinforce_logs_updated.csv", LOSS_HEADER)
        self._rewards = CsvLog(log_dir / "rewards_logs_updated.csv", REWARD_HEADER)
        self._metrics = AppendedFile(log_dir / "metrics.jsonl")
        self._validation = AppendedFile(log_dir / "validation.jsonl")
        self._rollouts = AppendedFile(log_dir / "rollouts.jsonl")

    def loss(self, phase: str, epoch: int, step: int, loss: float, lr: float) -> None:
        """One row a step; phase is Train or Val."""
        self._loss.write((phase, epoch, step, loss, lr))

    def rewards(self, phase: str, epoch: int, step: int, reward: float, ratio: float) -> None:
        """One row an interval; phase is TrainR or ValR, ratio original / compressed tokens."""
        self._rewards.write((phase, epoch, step, reward, ratio))

    def metrics(self, values: Mapping[str, Any]) -> None:
        """One line a step."""
        self._metrics.write_line(json.dumps(values))
        self._metrics.flush()

    def validation(self, values: Mapping[str, Any]) -> None:
        """One line a validation."""
        self._validation.write_line(json.dumps(values))
        self._validation.flush()

    def rollouts(self, phase: str, step: int, rollouts: Iterable[Rollout]) -> None:
        """One line a rollout."""
        for rollout in rollouts:
            self._rollouts.write_line(json.dumps(_describe_rollout(phase, step, rollout)))
        self._rollouts.flush()

    def close(self) -> None:
        """Give the files back."""
        for log in (self._loss, self._rewards, self._metrics, self._validation, self._rollouts):
            log.close()


def log_files(run_folder: Path, log_dir: str, *beside: Path) -> list[Path]:
    """Every file that a resume cuts back to its checkpoint."""
    folder = run_folder / log_dir
    names = ("reinforce_logs_updated.csv", "rewards_logs_updated.csv", "metrics.jsonl")
    return [*(folder / name for name in (*names, "validation.jsonl", "rollouts.jsonl")), *beside]


def _describe_rollout(phase: str, step: int, rollout: Rollout) -> Mapping[str, Any]:
    return {
        "phase": phase,
        "step": step,
        "example": rollout.example_id,
        "sample": rollout.sample_index,
        "outcome": rollout.outcome,
        "reward": rollout.reward,
        "original_tokens": rollout.original_tokens,
        "compressed_tokens": rollout.compressed_tokens,
        "compressed_text": rollout.compressed_text,
        "completions": [reply.text for reply in rollout.replies],
        "fingerprints": [reply.fingerprint for reply in rollout.replies],
        "judgements": [judgement.text for judgement in rollout.judgements],
        "served": [reply.served for reply in rollout.replies],
        "reused": astuple(rollout.source) if rollout.source else None,
    }
