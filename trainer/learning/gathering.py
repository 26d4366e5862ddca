"""What a step learns from, and what is done for the next step meanwhile.

While the teacher is asked about a step, the next one's texts are cut into words. With
`policy.one_step_ahead` the next step's masks are drawn before this step changes the weights, and
the teacher is asked about them while it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from trainer.learning.asking import Asking, in_order, prepare
from trainer.learning.batches import Batch, rate_of, share_of, value_at
from trainer.learning.drawing import draw
from trainer.learning.interrupt import StopSignal
from trainer.learning.prepared import PreparedExample, pieces_of_longest
from trainer.learning.processes import collected, stopping_together
from trainer.learning.run import Run
from trainer.learning.sampled import SampledBatch
from trainer.learning.trainable import trained_weights, with_weights
from trainer.policy.contexts import Target
from trainer.policy.sampling import MaskPolicy
from trainer.rollouts.collect import check_failures
from trainer.types import Example, Rollout


@dataclass(frozen=True, slots=True)
class Experience:
    """What one step learns from."""

    prepared: list[PreparedExample]
    """This process's examples; shortest first where they are cut into micro-batches."""
    parts: list[tuple[int, int]]
    """Start and stop of each micro-batch that they were drawn in."""
    policies: list[MaskPolicy]
    """What drew their masks, one a micro-batch, with its graph where that is of use."""
    sampled: SampledBatch
    """What was drawn."""
    own: list[Rollout]
    """This process's rollouts, as `sampled.texts`; empty where the process had no example."""
    rollouts: list[Rollout]
    """Every process's rollouts, in the order of example and sample."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One step's masks, drawn, and being asked about."""

    prepared: list[PreparedExample]
    parts: list[tuple[int, int]]
    policies: list[MaskPolicy]
    sampled: SampledBatch
    asking: Asking | None
    """None where the process had no example."""


class Gathering:
    """Gathers one step's experience after the other, everything before a weight changes."""

    def __init__(self, run: Run, stop: StopSignal) -> None:
        self._run = run
        self._stop = stop
        self._prepared: dict[int, list[PreparedExample]] = {}
        self._next: Asked | None = None

    def __enter__(self) -> "Gathering":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is under way uses what is closed next; somebody in a hurry waits for nothing.
        if self._next and self._next.asking and not isinstance(error, KeyboardInterrupt):
            self._next.asking.wait()

    def experience(self, batch: Batch, following: Batch | None) -> Experience:
        """Draw masks, ask the teacher, score; and make ready for the batch that follows."""
        run, accelerator = self._run, self._run.accelerator
        asked, self._next = self._next or self._first(batch), None
        with run.times.phase("prepare"):
            if following and run.context_filter is None:  # It goes by the policy of the moment.
                self._prepared[following.step] = self._prepare(following)
        with (
            stopping_together(accelerator),
            run.times.phase("teacher"),
            self._stop.waiting(),
        ):
            own = asked.asking.judge(asked.sampled.texts) if asked.asking else []
        rollouts = in_order(collected(accelerator, own), batch.examples)
        run.check_replay("train", batch.step, rollouts)
        check_failures(rollouts, run.config.teacher.max_failed_share)
        if run.config.policy.one_step_ahead:
            # From here until this step is done there is no state to go on from.
            run.torn, run.drew = True, None
            if following:
                run.drew = trained_weights(run.compressor.model)
                self._next = self._ask(following, stale=True)
        return Experience(asked.prepared, asked.parts, asked.policies, asked.sampled, own, rollouts)

    def _first(self, batch: Batch) -> Asked:
        """Of a run, or after a resume: then by the weights that had drawn it before."""
        if self._run.drew is None:
            return self._ask(batch, stale=False)
        with with_weights(self._run.compressor.model, self._run.drew):
            return self._ask(batch, stale=True)

    def _ask(self, batch: Batch, *, stale: bool) -> Asked:
        run = self._run
        prepared = self._prepared.pop(batch.step, None) or self._prepare(batch)
        asking = Asking(run, batch.step) if self._share(batch) else None
        with stopping_together(run.accelerator):
            policies, sampled = draw(run, batch, prepared, asking, stale=stale)
            if asking:
                asking.begin_rest()
        parts = run.memory.parts(len(prepared))
        return Asked(prepared, parts, policies, sampled, asking)

    def _prepare(self, batch: Batch) -> list[PreparedExample]:
        with self._run.times.phase("prepare"):
            # A process without an example still takes part in the backward pass.
            examples = self._share(batch) or batch.examples[:1]
            prepared = prepare(self._run, examples, training_targets(self._run, batch, examples))
        if self._run.config.compute.micro_batch_size:
            prepared.sort(key=pieces_of_longest)  # Texts of like length are padded little.
        return prepared

    def _share(self, batch: Batch) -> list[Example]:
        accelerator = self._run.accelerator
        return share_of(batch.examples, accelerator.process_index, accelerator.num_processes)


def training_targets(run: Run, batch: Batch, examples: Sequence[Example]) -> list[Target]:
    """The run's target for each example, one on the way to it, or one of `policy.rates`."""
    policy, seed = run.config.policy, run.config.run.seed
    if policy.rates:
        rates = [rate_of(example.id, seed, batch.epoch, policy.rates) for example in examples]
        return list(map(Target, rates))
    if policy.start_rate:
        steps = policy.start_rate_steps
        rate = value_at(batch.step, policy.start_rate, run.target.rate, steps)
        return [Target(rate)] * len(examples)
    return [run.target] * len(examples)
