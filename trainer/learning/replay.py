"""A recorded run done again: what is taken from its lock, and what must come out the same.

Where the machine is as recorded, masks are drawn again and must be the recorded ones: that proves
the whole computation, bit for bit. Elsewhere probabilities differ in their last digits, and one
other word would make another run of it; there the recorded masks are trained on, so that texts,
completions and rewards are exactly the recorded ones and weights differ by rounding alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.errors import ReplayError
from trainer.learning.lockfile import Lock, describe
from trainer.learning.prepared import PreparedExample
from trainer.learning.recorded import KeepMask
from trainer.rollouts.collect import CompressedText, Place, Recorded
from trainer.types import Source


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded run that is being followed."""

    lock: Lock
    differences: tuple[str, ...]
    """What decides the bits and is not as recorded, in words; empty: the machine matches."""
    locked_masks: bool
    """Train on the recorded masks; otherwise draw them again, and meet them."""

    @property
    def announcement(self) -> str:
        """What this replay does, for people."""
        if self.differences:
            return (
                "this is not the recorded machine: training on the recorded masks (rewards are "
                f"exact, weights differ by rounding): {'; '.join(self.differences)}"
            )
        if self.locked_masks:
            return "training on the recorded masks, as asked (--locked-masks)"
        return "drawing the masks again: each must be the recorded one"

    def replies(
        self, phase: str, step: int, texts: Sequence[CompressedText]
    ) -> Mapping[Place, Recorded]:
        """What the recorded run got for these texts.

        Raises:
            ReplayError: it had no such rollout.
        """
        places = [(text.example.id, text.sample_index) for text in texts]
        rollouts = {place: self.lock.rollout(phase, step, *place) for place in places}
        return {
            place: Recorded(rollout.replies, rollout.judgements)
            for place, rollout in rollouts.items()
        }

    def masks(
        self, phase: str, step: int, batch: Sequence[PreparedExample], samples: int
    ) -> list[list[KeepMask]]:
        """The recorded masks of a batch: S for each of its B examples.

        Raises:
            ReplayError: the recorded run had no such rollout, or cut the text up another way.
        """
        return [
            [self._mask(phase, step, prepared, sample) for sample in range(samples)]
            for prepared in batch
        ]

    def sources(
        self, phase: str, step: int, batch: Sequence[PreparedExample]
    ) -> list[Source | None]:
        """Where the recorded run had each example's rollouts from; None: it drew them."""
        return [self.lock.rollout(phase, step, prepared.example.id, 0).source for prepared in batch]

    def _mask(self, phase: str, step: int, prepared: PreparedExample, sample: int) -> KeepMask:
        place = (phase, step, prepared.example.id, sample)
        recorded = self.lock.rollout(*place).mask
        sizes = [len(chunk.words) for chunk in prepared.prompt.chunks]
        if [len(bits) for bits in recorded] != [-(-size // 8) for size in sizes]:
            raise ReplayError(
                f"{self.lock.path}: first divergence at {describe(*place)}: the recorded mask does "
                f"not fit the text, which is cut into chunks of {sizes} words here. Replay with "
                "the recorded versions of transformers, tokenizers and llmlingua"
            )
        return tuple(
            np.unpackbits(np.frombuffer(bits, np.uint8), count=size).astype(bool)
            for bits, size in zip(recorded, sizes, strict=True)
        )


def start_replay(lock: Lock, environment: Mapping[str, Any], *, locked_masks: bool) -> Replay:
    """Follow a lock: on its masks where that is asked for, or where the machine is another.

    Args:
        lock: of the recorded run.
        environment: as `run_folder.environment` describes the machine at hand.
        locked_masks: in any case on the recorded masks.
    """
    differences = _differences(lock.header.get("environment", {}), environment)
    return Replay(lock, differences, locked_masks or bool(differences))


def _differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    before, now = _what_decides(recorded), _what_decides(here)
    return tuple(
        f"{name}: recorded {before[name]}, here {now[name]}"
        for name in now
        if before[name] != now[name]
    )


def _what_decides(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Everything on which the last digit of a weight may depend."""
    packages = environment.get("packages", {})
    names = ("threads", "processes", "cpu_capability", "device", "platform")
    return {
        "torch": packages.get("torch"),
        "transformers": packages.get("transformers"),
        **{name.replace("_", " "): environment.get(name) for name in names},
    }
