"""One training run: everything that the loop works with, and where it is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from trainer.config import Config
from trainer.learning.allowance import Allowance
from trainer.learning.checkpoint import (
    Progress,
    load_best,
    measure_logs,
    save_best,
    save_checkpoint,
)
from trainer.learning.library import Library
from trainer.learning.lockfile import LockWriter
from trainer.learning.logs import RunLogs, log_files
from trainer.learning.memory import Memory
from trainer.learning.recording import BehaviourWriter
from trainer.learning.replay import Replay
from trainer.learning.run_folder import BEHAVIOUR, CHECKPOINTS, LOCK
from trainer.learning.standing import Standing
from trainer.learning.stuck import StuckWatch
from trainer.learning.summary import StepTimes, compression_ratio, mean_reward
from trainer.learning.tracking import finish_trackers
from trainer.learning.trainable import MergeAdapters
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import ContextFilter, Target
from trainer.policy.words import Segmenter
from trainer.rollouts.collect import CompressedText, LengthRule, Place, Recorded
from trainer.rollouts.rewards import RewardConstants
from trainer.rollouts.scoring import Scorer
from trainer.rollouts.teacher_client import TeacherClient
from trainer.types import Example, Rollout, TeacherItem, TeacherReply

Watch = Callable[[int, int, Mapping[str, float]], None]
"""(step, steps in all, the step's figures)."""


@dataclass
class Run:
    """What the loop needs, made by `setup.prepare_run`."""

    folder: Path
    config: Config
    accelerator: Accelerator
    compressor: PromptCompressorReinforce
    model: torch.nn.Module
    """The compressor's model, as Accelerate prepared it: one and the same."""
    start: torch.nn.Module | None
    """The model as it was before training; None where no KL to it is asked for."""
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    segmenter: Segmenter
    target: Target
    context_filter: ContextFilter | None
    train_examples: Sequence[Example]
    val_examples: Sequence[Example]
    teacher: TeacherClient
    allowance: Allowance
    """What the run may still spend on it."""
    scorer: Scorer
    judge: TeacherClient | None
    """The teacher asked about answers; None where the reward needs no judge."""
    lengths: LengthRule
    constants: RewardConstants
    logs: RunLogs | None
    """None in every process but the main one, which writes for all."""
    lock: LockWriter | None
    """Likewise; None also where the teacher is not our service."""
    behaviour: BehaviourWriter | None
    """Wherever there is a lock: what else other runs need to reuse the rollouts."""
    library: Library | None
    """Other runs' rollouts to learn from."""
    replay: Replay | None
    """The recorded run that this one follows."""
    merge_adapters: MergeAdapters
    """Makes of the model what it is without LoRA's adapters."""
    memory: Memory
    """How many examples go through the model at once."""
    total_steps: int
    finished_steps: int = 0
    validated_steps: int = 0
    """The last step that was followed by a validation."""
    teacher_calls: int = 0
    """(text, question) pairs asked in training, cached or not."""
    times: StepTimes = field(default_factory=StepTimes)
    """From one step's line in the metrics to the next one's: a step's wall time."""
    standing: Standing = field(default_factory=Standing)
    """The best validation so far."""
    stuck: StuckWatch = field(default_factory=StuckWatch)
    """Sees whether anything is learnt."""
    watch: Watch | None = None
    """Told of every step's figures; None: a line an interval is reported instead."""
    reward_average: float = 0.0
    """The mean reward of the steps so far, recent ones counting more: a baseline."""
    drew: Mapping[str, torch.Tensor] | None = None
    """The weights that drew the masks of the step after the last finished one, where those are not
    the present ones: with `policy.one_step_ahead`."""
    torn: bool = False
    """The weights are not those after the last finished step: this is no state to save."""

    def save(self) -> None:
        """Write a checkpoint of the state after the last finished step.

        Every process has the same state, so that the main one waits for no other, which may have
        failed. In the middle of a step nothing is written: the newest checkpoint stands.
        """
        if self.logs is None or self.torn:
            return
        scaler = self.accelerator.scaler
        with self.times.phase("save"):
            beside = (self.folder / LOCK, self.folder / BEHAVIOUR)
            files = log_files(self.folder, self.config.logging.log_dir, *beside)
            for file in (self.lock, self.behaviour):
                if file:
                    file.flush()
            save_checkpoint(
                self.folder / CHECKPOINTS,
                Progress(
                    self.finished_steps,
                    self.validated_steps,
                    measure_logs(self.folder, files),
                    self.teacher_calls,
                    self.standing,
                    self.reward_average,
                ),
                {
                    "model": self._weights(),
                    "optimizer": self.optimizer.state_dict(),
                    "scheduler": self.scheduler.state_dict(),
                    **({"scaler": scaler.state_dict()} if scaler else {}),
                    **({"drew": dict(self.drew)} if self.drew else {}),
                },
                keep=self.config.logging.keep_checkpoints,
            )

    def keep_best(self, step: int) -> None:
        """Keep the weights of a step whose validation is the best, if those are wanted.

        Beside those of the best step before it, which the newest checkpoint still speaks of.
        """
        if self.logs and self.config.evaluation.keep_best:
            save_best(self.folder / CHECKPOINTS, step, self._weights())

    def finish_model(self) -> None:
        """Make of the model what is saved as the compressor, after the last step."""
        keep_best, lora = self.config.evaluation.keep_best, self.config.compute.lora_rank
        if not (keep_best or lora):
            return
        self.save()
        self.torn = True
        if keep_best and self.logs:
            best = load_best(self.folder / CHECKPOINTS, self.standing.best_step)
            self.compressor.model.load_state_dict(best)
        self.merge_adapters()

    def _weights(self) -> dict[str, Any]:
        return dict(self.compressor.model.state_dict())

    def close(self) -> None:
        """Give the files back."""
        finish_trackers(self.accelerator)
        for file in (self.logs, self.lock, self.behaviour):
            if file:
                file.close()

    def ask(self, step: int, items: Sequence[TeacherItem]) -> list[TeacherReply]:
        """Have the teacher complete a step's items, if the run's budget allows it.

        Raises:
            TeacherError: what `TeacherClient.complete` raises, and `TeacherSpent` before that.
        """
        self.allowance.check(items, judged=self.judge is not None)
        return self.teacher.complete(items, step=step)

    def ask_judge(self, step: int, items: Sequence[TeacherItem]) -> list[TeacherReply]:
        """Have the teacher judge a step's answers, if the run's budget allows it.

        Raises:
            TeacherError: as for `ask`.
        """
        assert self.judge
        replace(self.allowance, teacher=self.judge).check(items)
        return self.judge.complete(items, step=step)

    def owes_validation(self, step: int) -> bool:
        """Every `val_interval` steps and after the last one, until it is done."""
        if not self.val_examples or step <= self.validated_steps:
            return False
        interval = self.config.evaluation.val_interval
        return step == self.total_steps or (interval > 0 and step % interval == 0)

    def recorded_replies(
        self, phase: str, step: int, texts: Sequence[CompressedText]
    ) -> Mapping[Place, Recorded]:
        """What the recorded run got for these texts, if this is a replay of one."""
        return self.replay.replies(phase, step, texts) if self.replay else {}

    def check_replay(self, phase: str, step: int, rollouts: Sequence[Rollout]) -> None:
        """Compare with the recorded run, if this is a replay of one.

        Raises:
            ReplayError: at the first difference.
        """
        if self.replay:
            for rollout in rollouts:
                self.replay.lock.check(phase, step, rollout)

    def record(self, phase: str, step: int, rollouts: Sequence[Rollout]) -> None:
        """Write rollouts to the lock and the log."""
        if self.lock:
            for rollout in rollouts:
                self.lock.append(phase, step, rollout)
        if self.behaviour and phase == "train":
            self.behaviour.append(step, rollouts)
        if self.logs:
            self.logs.rollouts(phase, step, rollouts)

    def log_step(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Write one step's loss and metrics."""
        if self.logs:
            self.logs.loss("Train", epoch, step, metrics["loss/policy"], metrics["loss/lr"])
            self.logs.metrics({"phase": "train", "epoch": epoch, "step": step, **metrics})
        self.accelerator.log(dict(metrics), step=step)

    def log_rewards(self, phase: str, epoch: int, step: int, rollouts: Sequence[Rollout]) -> None:
        """Write one row of rewards; phase is TrainR or ValR."""
        reward, ratio = mean_reward(rollouts), compression_ratio(rollouts)
        if self.logs:
            self.logs.rewards(phase, epoch, step, reward, ratio)

    def log_validation(
        self, epoch: int, step: int, rollouts: Sequence[Rollout], scores: Mapping[str, float]
    ) -> None:
        """Write one validation."""
        self.log_rewards("ValR", epoch, step, rollouts)
        if self.logs:
            figures = {f"validation/{name}": score for name, score in scores.items()}
            self.logs.validation({"epoch": epoch, "step": step, **figures})
            self.accelerator.log(figures, step=step)
