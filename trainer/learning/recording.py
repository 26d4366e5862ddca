"""A run's rollouts, kept so that other runs can learn from them.

The lock has their masks, outcomes and fingerprints. Beside it lies `behaviour.jsonl` with what else
it takes: a line for each group, with the log-odds by which its masks were drawn (float32, once for
all its rollouts) and the completions' texts. It grows with the lock, and is cut back with it.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import ReplayError
from trainer.learning.lockfile import Lock
from trainer.learning.logs import AppendedFile
from trainer.learning.recorded import RecordedGroup, digest_of
from trainer.learning.run_folder import BEHAVIOUR, LOCK
from trainer.types import Outcome, Rollout, Source, TeacherReply


class BehaviourWriter:
    """Writes `behaviour.jsonl` as the run goes."""

    def __init__(self, path: Path) -> None:
        self._file = AppendedFile(path)

    def append(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Add the groups of one step that were drawn in it, each from independent words."""
        for example_id, group in groupby(rollouts, key=lambda rollout: rollout.example_id):
            first, *rest = group
            if first.source is None and first.log_odds:
                line = _encode_group(step, example_id, [first, *rest])
                self._file.write_line(json.dumps(line, separators=(",", ":")))

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Recording:
    """The rollouts that a finished run drew."""

    folder: Path
    lock: Lock
    digest: str
    """SHA-256 of `behaviour.jsonl`, 64 hex digits."""
    groups: dict[str, list[RecordedGroup]]
    """By example, in the order of the run."""


def read_recording(folder: Path, number: int) -> Recording:
    """Read back what a run drew.

    Args:
        folder: of the run.
        number: by which its groups name it as their source.

    Raises:
        ReplayError: it is unfinished, kept no behaviour, or a file was changed.
    """
    lock, path = Lock(folder / LOCK), folder / BEHAVIOUR
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReplayError(
            f"{path}: expected what the run's masks were drawn by: {error.strerror}; runs of this "
            "version keep it, unless their sampler is exact_count"
        ) from error
    groups: dict[str, list[RecordedGroup]] = defaultdict(list)
    try:
        for line in content.splitlines():
            group = json.loads(line)
            groups[group["example"]].append(_decode_group(group, lock, number))
    except (ValueError, KeyError, TypeError) as error:
        raise ReplayError(
            f"{path}: expected groups of rollouts, one a line; the file was changed or damaged"
        ) from error
    return Recording(folder, lock, hashlib.sha256(content).hexdigest(), dict(groups))


def _encode_group(step: int, example_id: str, group: Sequence[Rollout]) -> dict[str, Any]:
    return {
        "step": step,
        "example": example_id,
        "rate": group[0].target_rate,
        "log_odds": [base64.b64encode(row).decode() for row in group[0].log_odds],
        "completions": [[reply.text for reply in rollout.replies] for rollout in group],
        "texts": digest_of(rollout.compressed_text for rollout in group),
    }


def _decode_group(group: dict[str, Any], lock: Lock, number: int) -> RecordedGroup:
    log_odds = tuple(base64.b64decode(row) for row in group["log_odds"])
    sizes = [len(row) // np.dtype(np.float32).itemsize for row in log_odds]
    place = ("train", group["step"], group["example"])
    recorded = [lock.rollout(*place, sample) for sample in range(len(group["completions"]))]
    return RecordedGroup(
        source=Source(number, group["step"]),
        target_rate=group["rate"],
        log_odds=log_odds,
        masks=tuple(tuple(_unpack(rollout.mask, sizes)) for rollout in recorded),
        replies=tuple(
            tuple(_with_text(rollout.replies, texts))
            for rollout, texts in zip(recorded, group["completions"], strict=True)
        ),
        texts_digest=group["texts"],
    )


def _unpack(mask: Sequence[bytes], sizes: Sequence[int]) -> Iterator[np.ndarray]:
    for bits, size in zip(mask, sizes, strict=True):
        yield np.unpackbits(np.frombuffer(bits, np.uint8), count=size).astype(bool)


def _with_text(replies: Sequence[TeacherReply], texts: Sequence[str]) -> Iterator[TeacherReply]:
    for reply, text in zip(replies, texts, strict=True):
        yield replace(reply, text=text) if reply.outcome is Outcome.SCORED else reply
