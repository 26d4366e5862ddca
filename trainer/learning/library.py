"""The rollouts of other runs, and which of them speak for the policy of the moment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.config import Config
from trainer.config_sections.learning import Policy
from trainer.errors import ConfigError
from trainer.learning import reuse
from trainer.learning.prepared import PreparedExample, chunk_counts, chunk_owners
from trainer.learning.recorded import RecordedGroup, put_recorded
from trainer.learning.recording import Recording, read_recording
from trainer.policy.sampling import IndependentWords, MaskPolicy
from trainer.types import Source

_SAME = {
    "task": None,
    "hyperparams": (
        "compression_rate",
        "compression_relaxation_tokens",
        "max_seq_len",
        "target_token",
        "force_tokens",
        "drop_consecutive",
        "force_reserve_digit",
    ),
    "policy": ("sampler",),
    "reward": ("compression_tolerance", "length_penalty"),
}
"""What must be as it was when rollouts were recorded: it decides texts, answers and masks."""


class _Nearest(NamedTuple):
    """The recorded group of an example that is nearest to a policy."""

    group: RecordedGroup | None
    kl: float
    """Nats per word; infinite where there is no group."""
    covers: bool
    """Whether it is near enough."""


@dataclass(frozen=True, slots=True)
class Library:
    """Recorded rollouts to learn from."""

    recordings: tuple[Recording, ...]
    max_kl: float
    """Nats per word between the policy that drew a group and the one that learns."""
    min_effective_share: float
    """Of a group's rollouts, by the geometric mean of each one's ratios."""
    max_asked: float
    """The share of a process's examples of which the teacher may be asked; those beyond it are
    learnt from the nearest group, however far that is."""

    def covering(
        self, policy: MaskPolicy, batch: Sequence[PreparedExample], before: int
    ) -> list[RecordedGroup | None]:
        """For each example the recorded group nearest to the policy; None: the teacher is asked.

        Args:
            policy: of the moment, over the batch.
            batch: of one process.
            before: how many examples the process has had before these.
        """
        nearest = self._nearest(policy, batch)
        far = [index for index, near in enumerate(nearest) if not near.covers]
        # The farthest first, those without any group before all.
        far.sort(key=lambda index: -nearest[index].kl)
        quota = reuse.quota(self.max_asked, before, len(batch))
        unknown = sum(near.group is None for near in nearest)
        asked = set(far[: max(quota, unknown)])
        return [None if index in asked else near.group for index, near in enumerate(nearest)]

    def _nearest(self, policy: MaskPolicy, batch: Sequence[PreparedExample]) -> list[_Nearest]:
        candidates = [self._groups_of(prepared) for prepared in batch]
        nearest = [_Nearest(None, math.inf, False)] * len(batch)
        for turn in range(max(map(len, candidates))):
            tried = [groups[turn] if turn < len(groups) else None for groups in candidates]
            kl_B, share_B = _distances(policy, batch, tried)
            covers_B = reuse.covers(
                kl_B,
                share_B,
                max_kl=self.max_kl,
                min_effective_share=self.min_effective_share,
            )
            figures = zip(tried, kl_B.tolist(), covers_B.tolist(), strict=True)
            for index, (group, kl, covers) in enumerate(figures):
                # One that covers comes before any that does not.
                if group and (covers, -kl) > (nearest[index].covers, -nearest[index].kl):
                    nearest[index] = _Nearest(group, kl, covers)
        return nearest

    def group(self, example_id: str, source: Source) -> RecordedGroup:
        """The group that was recorded there."""
        groups = self.recordings[source.run].groups[example_id]
        return next(group for group in groups if group.source == source)

    def _groups_of(self, prepared: PreparedExample) -> list[RecordedGroup]:
        sizes = [len(chunk.words) for chunk in prepared.prompt.chunks]
        groups = [
            group
            for recording in self.recordings
            for group in recording.groups.get(prepared.example.id, ())
            if group.target_rate == prepared.target_rate
        ]
        for group in groups:
            if group.sizes != sizes:
                folder = self.recordings[group.source.run].folder
                raise ConfigError(
                    "reuse.runs",
                    [
                        f"{folder}: example {prepared.example.id!r} has chunks of {group.sizes} "
                        f"words there, and of {sizes} here; reuse runs whose base has the same "
                        "tokenizer"
                    ],
                )
        return groups


def open_library(config: Config, inputs: Mapping[str, Any]) -> Library | None:
    """The rollouts of `reuse.runs`; None where there are none.

    Args:
        config: of the run that is to learn from them.
        inputs: its description, without what it reuses.

    Raises:
        ConfigError: a run's rollouts say nothing about this one; with every reason.
        ReplayError: a run is unfinished, kept too little, or was changed.
    """
    settings = config.reuse
    if not settings.runs:
        return None
    recordings = tuple(
        read_recording(Path(folder), number) for number, folder in enumerate(settings.runs)
    )
    if problems := [each for one in recordings for each in _differences(one, inputs)]:
        raise ConfigError("reuse.runs", problems)
    return Library(recordings, settings.max_kl, settings.min_effective_share, settings.max_asked)


def describe_library(library: Library | None) -> dict[str, list[dict[str, str]]]:
    """What a run's description and lock say of the runs of `reuse.runs`, in their order."""
    if library is None:
        return {}
    return {
        "reused": [
            {"lock_root": one.lock.root, "behaviour_digest": one.digest}
            for one in library.recordings
        ]
    }


def _differences(recording: Recording, inputs: Mapping[str, Any]) -> list[str]:
    """What differs between the run that recorded and the one that is to learn."""
    then, now = dict(_decisive(recording.lock.header)), dict(_decisive(inputs))
    return [
        f"{recording.folder}: {name} was {then[name]!r} when its rollouts were recorded, and is "
        f"{now[name]!r} here; reuse runs that agree in it"
        for name in now
        if then[name] != now[name]
    ]


def _decisive(header: Mapping[str, Any]) -> Mapping[str, Any]:
    config = header["config"]
    return {
        "the teacher": header["teacher"],
        "the training data": header["data_digests"]["train"],
        "the length tokenizer": header["length_tokenizer"],
        "the number of rollouts per example": Policy.model_validate(config["policy"]).samples,
        **{
            f"{section}.{key}": config[section].get(key)
            for section, keys in _SAME.items()
            for key in keys or config[section]
        },
    }


def _distances(
    policy: MaskPolicy, batch: Sequence[PreparedExample], groups: Sequence[RecordedGroup | None]
) -> tuple[Tensor, Tensor]:
    """KL per word and effective share of each example's group; of no meaning where it has none."""
    assert isinstance(policy, IndependentWords)  # The config refuses any other sampler.
    example_C, B = torch.tensor(chunk_owners(batch), device=policy.free_CW.device), len(batch)
    now = policy.detach()
    samples = next(len(group.masks) for group in groups if group)
    nothing_SCW = now.forced_CW.expand(samples, *now.forced_CW.shape)
    drew, keep_mask_SCW = put_recorded(now, nothing_SCW, chunk_counts(batch), groups)
    kl_B = reuse.kl_per_word(drew, now, example_C, B)
    weight_SB = reuse.geometric_weight(
        now.word_log_probs(keep_mask_SCW),
        drew.word_log_probs(keep_mask_SCW),
        now.free_CW,
        example_C,
        B,
    )
    return kl_B, reuse.effective_share(weight_SB)
