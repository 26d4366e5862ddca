"""How a step's examples become texts that the teacher judges."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from functools import partial

from trainer.config_sections.running import Budget
from trainer.learning.prepared import PreparedExample, prepare_batch
from trainer.learning.run import Run
from trainer.policy.contexts import Target
from trainer.rollouts.collect import CompressedText, collect, items_to_ask
from trainer.rollouts.parallel import in_background
from trainer.types import Ask, Example, Rollout, TeacherItem, TeacherReply


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
        run.scorer,
        run.lengths,
        run.constants,
        run.recorded_replies(phase, step, texts),
        partial(run.ask_judge, step),
    )


class Asking:
    """A training step's questions, asked for one micro-batch while the next one runs forward.

    Replies are taken in the order of the micro-batches, whenever they arrive. All is asked at the
    end without `compute.overlap`, and under a budget, which is held against a whole step.
    """

    def __init__(self, run: Run, step: int) -> None:
        self._run = run
        self._step = step
        self._at_once = run.config.compute.overlap and run.config.budget == Budget()
        self._drawn: list[CompressedText] = []
        self._begun: list[Future[list[TeacherReply]]] = []

    def begin(self, texts: Sequence[CompressedText]) -> None:
        """Take the next micro-batch's texts, and ask about them if that is to be at once."""
        self._drawn.extend(texts)
        if self._at_once:
            self.begin_rest()

    def begin_rest(self) -> None:
        """Ask about what was taken and not asked about yet, and do not wait."""
        texts, self._drawn = self._drawn, []
        if texts:
            recorded = self._run.recorded_replies("train", self._step, texts)
            items = items_to_ask(texts, self._run.lengths, recorded)
            self._begun.append(in_background(partial(self._run.ask, self._step, items)))

    def forget(self) -> None:
        """Begin again from the first micro-batch; answers under way are stored all the same."""
        self._drawn.clear()
        self._begun.clear()

    def wait(self) -> None:
        """Wait for what is under way."""
        wait(self._begun)

    def judge(self, texts: Sequence[CompressedText]) -> list[Rollout]:
        """Wait for the replies, and have all texts judged."""
        return judge(self._run, "train", self._step, texts, self._replies)

    def _replies(self, _items: Sequence[TeacherItem]) -> list[TeacherReply]:
        self.wait()  # Also after an error: what is under way uses what may be closed next.
        return [reply for future in self._begun for reply in future.result()]


def in_order(rollouts: Sequence[Rollout], examples: Sequence[Example]) -> list[Rollout]:
    """Rollouts of all processes in the order of example and sample."""
    place = {example.id: index for index, example in enumerate(examples)}
    return sorted(rollouts, key=lambda rollout: (place[rollout.example_id], rollout.sample_index))
