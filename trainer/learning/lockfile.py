"""The lock file: what a run did, rollout by rollout, so that it can be done again bit for bit.

One JSON document a line. The first line is the header (config, data, base model, environment); then
one leaf per rollout in the order of step, example and sample, never in order of arrival; the last
line is the trailer with the number of leaves and the root of RFC 6962's hash tree over their bytes.
A run that was stopped has no trailer: resuming cuts the file back to its checkpoint and goes on.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.errors import ReplayError
from trainer.learning.logs import AppendedFile
from trainer.learning.merkle import MerkleTree
from trainer.types import Outcome, Rollout, Source, TeacherReply

LOCK_FORMAT = 1


def encode_leaf(phase: str, step: int, rollout: Rollout) -> bytes:
    """One rollout as the bytes that are hashed: a line of JSON without its newline."""
    leaf = {
        "phase": phase,
        "step": step,
        "example": rollout.example_id,
        "sample": rollout.sample_index,
        "mask": [base64.b64encode(bits).decode() for bits in rollout.keep_mask],
        "length": rollout.length_case,
        "outcome": rollout.outcome,
        "replies": [_encode_reply(reply) for reply in rollout.replies],
        **_encode_judgements(rollout.judgements),
        **({"reused": astuple(rollout.source)} if rollout.source else {}),
    }
    return json.dumps(leaf, separators=(",", ":")).encode()


def _encode_judgements(judgements: Sequence[TeacherReply]) -> dict[str, Any]:
    """Left out where nothing was judged, so that such a run's lock is what it always was."""
    return {"judgements": [_encode_reply(each) for each in judgements]} if judgements else {}


def _encode_reply(reply: TeacherReply) -> list[str | None]:
    return [reply.outcome, reply.fingerprint, reply.content_digest]


class LockWriter:
    """Writes the lock file as the run goes."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Start a lock, or go on with one that was cut back to a checkpoint."""
        self._file = AppendedFile(path)
        self._tree = MerkleTree()
        for leaf in _leaf_lines(path):
            self._tree.append(leaf)
        if self._file.size() == 0:
            self._file.write_line(json.dumps({"lock": LOCK_FORMAT, **header}))

    def append(self, phase: str, step: int, rollout: Rollout) -> None:
        """Add one rollout; the caller keeps the order."""
        leaf = encode_leaf(phase, step, rollout)
        self._tree.append(leaf)
        self._file.write_line(leaf.decode())

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._file.flush()

    def finish(self) -> str:
        """Write the trailer; returns the root, 64 hex digits."""
        root = self._tree.root().hex()
        self._file.write_line(json.dumps({"leaves": self._tree.size, "root": root}))
        self._file.flush()
        return root

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class RecordedRollout:
    """One leaf of a lock file that is being replayed."""

    line: bytes
    mask: tuple[bytes, ...]
    length_case: str | None
    replies: tuple[TeacherReply, ...]
    """Outcome, fingerprint and content digest of each question's reply; no texts."""
    judgements: tuple[TeacherReply, ...]
    """The same of the judge's."""
    source: Source | None
    """Where it was learnt from, if the run did not draw it itself."""


@dataclass(frozen=True, slots=True)
class LockSummary:
    """What a finished lock file says of the whole run."""

    header: Mapping[str, Any]
    leaves: int
    root: str
    """64 hex digits."""


def check_lock(path: Path) -> LockSummary:
    """Hash a finished lock file again, leaf by leaf.

    Raises:
        ReplayError: no such file, or it is no lock, or unfinished, or was changed.
    """
    try:
        with path.open("rb") as file:
            header = _parse_header(path, file.readline())
            tree, last = MerkleTree(), b""
            for number, line in enumerate(file):
                if number:
                    tree.append(last)
                last = line.removesuffix(b"\n")
    except OSError as error:
        raise ReplayError(f"{path}: expected a lock file: {error.strerror}") from error
    _check_trailer(path, last, tree)
    return LockSummary(header, tree.size, tree.root().hex())


class Lock:
    """A finished lock file, read and checked against its root.

    Raises:
        ReplayError: no such file, or it is no lock, or unfinished, or was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # All of it before anything in it is believed.
        summary = check_lock(path)
        self.header, self.root = summary.header, summary.root
        self._rollouts = dict(map(_parse_leaf, islice(_leaf_lines(path), summary.leaves)))

    def rollout(self, phase: str, step: int, example_id: str, sample: int) -> RecordedRollout:
        """What the recorded run did at this place."""
        place = (phase, step, example_id, sample)
        try:
            return self._rollouts[place]
        except KeyError:
            raise ReplayError(
                f"{self.path}: the recorded run has no rollout at {describe(*place)}; "
                "replay with the config and the data that made the lock"
            ) from None

    def check(self, phase: str, step: int, rollout: Rollout) -> None:
        """Compare a replayed rollout with the recorded one.

        Raises:
            ReplayError: the first difference, by step, example and sample.
        """
        place = (phase, step, rollout.example_id, rollout.sample_index)
        recorded = self.rollout(*place)
        if encode_leaf(phase, step, rollout) == recorded.line:
            return
        if rollout.source != recorded.source:
            what = (
                f"it was {_describe_source(recorded.source)}, and is now "
                f"{_describe_source(rollout.source)}: the policy's probabilities are not the "
                "recorded ones. Train on the recorded masks (--locked-masks)"
            )
        elif rollout.keep_mask != recorded.mask:
            what = (
                "the keep mask differs: the policy's probabilities are not the recorded ones. "
                "Replay with the same config on the same machine, with the same thread count and "
                "torch version; on any other, train on the recorded masks (--locked-masks)"
            )
        elif rollout.length_case != recorded.length_case:
            what = (
                f"the length case differs: recorded {recorded.length_case}, "
                f"got {rollout.length_case}. Replay with the same length tokenizer"
            )
        elif not _same(recorded.replies, rollout.replies):
            what = (
                f"the completions differ: {_differing_reply(recorded.replies, rollout.replies)}. "
                "Replay against the store that the run filled"
            )
        elif not _same(recorded.judgements, rollout.judgements):
            differing = _differing_reply(recorded.judgements, rollout.judgements)
            what = (
                f"the judge's scores differ: {differing}. Replay against the store that the run "
                "filled, with the recorded version of taco-rewards"
            )
        else:
            what = (
                f"the outcome differs: the same answers come to {rollout.outcome} now. Replay with "
                "the recorded version of taco-rewards"
            )
        raise ReplayError(f"{self.path}: first divergence at {describe(*place)}: {what}")


def describe(phase: str, step: int, example_id: str, sample: int) -> str:
    """A rollout's place, in words."""
    return f"{phase} step {step}, example {example_id!r}, sample {sample}"


def _describe_source(source: Source | None) -> str:
    if source is None:
        return "drawn in this step"
    return f"taken from run {source.run} of reuse.runs, step {source.step}"


def _same(recorded: Sequence[TeacherReply], got: Sequence[TeacherReply]) -> bool:
    return list(map(_encode_reply, recorded)) == list(map(_encode_reply, got))


def _differing_reply(recorded: Sequence[TeacherReply], got: Sequence[TeacherReply]) -> str:
    """The first reply that is not the recorded one, in words."""
    for number, (before, now) in enumerate(zip(recorded, got, strict=False), start=1):
        if _encode_reply(before) == _encode_reply(now):
            continue
        expected = f"question {number}: expected {_describe_reply(before)}, got"
        if now.outcome is Outcome.FAILED:
            return f"{expected} no answer ({now.error})"
        if before.fingerprint != now.fingerprint:
            return f"{expected} another request, {now.fingerprint}"
        return f"{expected} {_describe_reply(now)}"
    return f"expected {len(recorded)} replies, got {len(got)}"


def _describe_reply(reply: TeacherReply) -> str:
    if reply.outcome is Outcome.FAILED:
        return "a failure"
    kind = "the answer" if reply.outcome is Outcome.SCORED else "the refusal"
    return f"{kind} {reply.content_digest} to {reply.fingerprint}"


def _leaf_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        next(file, None)
        for line in file:
            yield line.removesuffix(b"\n")


def _parse_header(path: Path, line: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(line)
        found = header["lock"]
    except (ValueError, KeyError, TypeError):
        raise ReplayError(f"{path}: expected a lock file; its first line is no header") from None
    if found != LOCK_FORMAT:
        raise ReplayError(
            f"{path}: expected lock format {LOCK_FORMAT}, got {found}; use the version of "
            "taco-rewards that wrote it"
        )
    return dict(header)


def _check_trailer(path: Path, line: bytes, tree: MerkleTree) -> None:
    try:
        trailer = json.loads(line)
        leaves, root = trailer["leaves"], trailer["root"]
    except (ValueError, KeyError, TypeError):
        raise ReplayError(
            f"{path}: the lock has no trailer: its run was stopped; resume the run first "
            "(taco train --resume RUN)"
        ) from None
    if (tree.size, tree.root().hex()) != (leaves, root):
        raise ReplayError(
            f"{path}: the leaves do not hash to the recorded root: expected {leaves} leaves and "
            f"{root}, got {tree.size} and {tree.root().hex()}; the file was changed or damaged"
        )


def _parse_leaf(line: bytes) -> tuple[tuple[str, int, str, int], RecordedRollout]:
    leaf = json.loads(line)
    place = (leaf["phase"], leaf["step"], leaf["example"], leaf["sample"])
    replies = _parse_replies(leaf["replies"])
    judgements = _parse_replies(leaf.get("judgements", ()))
    mask = tuple(base64.b64decode(bits) for bits in leaf["mask"])
    source = Source(*leaf["reused"]) if "reused" in leaf else None
    return place, RecordedRollout(line, mask, leaf["length"], replies, judgements, source)


def _parse_replies(encoded: Sequence[Sequence[Any]]) -> tuple[TeacherReply, ...]:
    return tuple(
        TeacherReply(Outcome(outcome), fingerprint=fingerprint, content_digest=digest)
        for outcome, fingerprint, digest in encoded
    )
