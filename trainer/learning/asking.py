"""How a step's examples become texts that the teacher judges."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from functools import partial

from trainer.config_sections.running import Budget
from trainer.learning.prepared import PreparedExample, prepare_batch
from trainer.learning.run import Run
from trainer.policy.contexts import Target
from trainer.rollouts.collect import Ask, CompressedText, collect, items_to_ask
from trainer.rollouts.parallel import in_background
from trainer.types import Example, Rollout, TeacherItem, TeacherReply


def prepare(
    run: Run, examples: Sequence[Example], targets: Sequence[Target]
) -> list[PreparedExample]:
    """Cut examples up into chunks and words."""
    return prepare_batch(examples, run.compressor, run.segmenter, targets, run.context_filter)


def judge(
    run: Run, phase: str, step: int, texts: Sequence[CompressedText], ask: Ask | None = None
) -> list[Rollout]:
    """Have texts judged by length, teacher and metric; `ask` stands for the run's teacher."""
    return collect(
        texts,
        ask or partial(run.ask, step),
        run.metric,
        run.lengths,
        run.constants,
        run.recorded_replies(phase, step, texts),
    )


class Asking:
    """A training step's questions, asked for one micro-batch while the next one runs forward.

    Replies are taken in the order of the micro-batches, whenever they arrive. All is asked at the
    end where there is but one micro-batch, and under a budget, which is held against a whole step.
    """

    def __init__(self, run: Run, step: int, examples: int) -> None:
        self._run = run
        self._step = step
        several = len(run.memory.parts(examples)) > 1
        self._early = several and run.config.compute.overlap and run.config.budget == Budget()
        self._begun: list[Future[list[TeacherReply]]] = []

    def begin(self, texts: Sequence[CompressedText]) -> None:
        """Ask about the next micro-batch's texts, and do not wait."""
        if self._early:
            recorded = self._run.recorded_replies("train", self._step, texts)
            items = items_to_ask(texts, self._run.lengths, recorded)
            self._begun.append(in_background(partial(self._run.ask, self._step, items)))

    def forget(self) -> None:
        """Begin again from the first micro-batch; answers under way are stored all the same."""
        self._begun.clear()

    def judge(self, texts: Sequence[CompressedText]) -> list[Rollout]:
        """Wait for the replies, and have all texts judged."""
        return judge(self._run, "train", self._step, texts, self._replies if self._early else None)

    def _replies(self, _items: Sequence[TeacherItem]) -> list[TeacherReply]:
        wait(self._begun)  # Also after an error: what is under way uses what may be closed next.
        return [reply for future in self._begun for reply in future.result()]


def in_order(rollouts: Sequence[Rollout], examples: Sequence[Example]) -> list[Rollout]:
    """Rollouts of all processes in the order of example and sample."""
    place = {example.id: index for index, example in enumerate(examples)}
    return sorted(rollouts, key=lambda rollout: (place[rollout.example_id], rollout.sample_index))
