"""What a step makes of its rollouts: one or more passes over them, each an optimiser step.

The first pass is REINFORCE; in further ones words count by their clipped ratios, and they end early
where the policy has moved too far. Where another policy drew the masks, an earlier run's or that of
the step before, each word's advantage is weighted for that first. Nothing is asked of the teacher
here.

A pass adds up the gradients of all micro-batches and processes, divided by the number of valid
rollouts over all of them, and only then clips.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trainer.errors import NotFinite
from trainer.learning import reinforce
from trainer.learning.act import mask_policy
from trainer.learning.batches import value_at
from trainer.learning.credit import Credit
from trainer.learning.prepared import PreparedExample, chunks_of
from trainer.learning.processes import add_gradients, reduced, stopping_together
from trainer.learning.reuse import kl_to_recorded
from trainer.learning.run import Run
from trainer.learning.sampled import SampledBatch, widened
from trainer.learning.signal import signal_to_noise
from trainer.learning.summary import Update
from trainer.policy.compressor import piece_keep_probs, word_keep_probs
from trainer.policy.positions import positions_policy
from trainer.policy.sampling import IndependentWords, MaskPolicy
from trainer.policy.transfer import sent

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a process learns from in one step, or a micro-batch of it."""

    prepared: Sequence[PreparedExample]
    sampled: SampledBatch
    credit: Credit

    def part(self, start: int, stop: int) -> "Lesson":
        """What is learnt from the examples from `start` up to `stop`."""
        row_C = (self.sampled.example_C >= start) & (self.sampled.example_C < stop)
        credit = Credit(self.credit.advantage_SCW[:, row_C], self.credit.counts_BS[start:stop])
        return Lesson(self.prepared[start:stop], self.sampled.part(start, stop), credit)


@dataclass(frozen=True, slots=True)
class Sums:
    """Figures of this process, added up over its micro-batches."""

    loss: float = 0.0
    entropy: float = 0.0
    kl_to_start: float = 0.0
    kl_to_recorded: float = 0.0
    words: float = 0.0
    recorded_words: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.loss + other.loss,
            self.entropy + other.entropy,
            self.kl_to_start + other.kl_to_start,
            self.kl_to_recorded + other.kl_to_recorded,
            self.words + other.words,
            self.recorded_words + other.recorded_words,
        )


def policy_of(
    run: Run, prepared: Sequence[PreparedExample], model: torch.nn.Module | None = None
) -> MaskPolicy:
    """The policy over a batch, with gradient; that of another model where one is given.

    Raises:
        NotFinite: the model gives no probabilities.
    """
    pad, device = run.compressor.tokenizer.pad_token_id, run.accelerator.device
    with run.times.phase("forward"):
        chunks = chunks_of(prepared)
        if by_position := run.config.policy.loss == "reference_padded":
            width = run.config.hyperparams.max_seq_len
            prob_CW, is_word_CW = piece_keep_probs(
                model or run.model, chunks, pad, device, width=width
            )
        else:
            prob_CW, is_word_CW = word_keep_probs(model or run.model, chunks, pad, device)
        finite = bool(prob_CW.isfinite().all())
    if not finite:
        raise NotFinite(
            "expected keep probabilities from the compressor, and some are NaN: weights of the "
            "model to start from, or of an earlier step, are broken. Train anew with a lower "
            "hyperparams.policy_lr (the teacher's answers are stored), or delete the newest file "
            "in the run's checkpoints and resume from the one before"
        )
    with run.times.phase("sample"):
        if by_position:
            return positions_policy(prob_CW)
        return mask_policy(prob_CW, is_word_CW, prepared, run.config.policy.sampler)


def passes(
    run: Run,
    prepared: Sequence[PreparedExample],
    sampled: SampledBatch,
    parts: Sequence[tuple[int, int]],
    policies: list[MaskPolicy],
    credit: Credit,
) -> Iterator[Update]:
    """Learn from one batch of rollouts, up to `policy.passes` times.

    Args:
        run: whose model is changed.
        prepared: this process's examples.
        sampled: what was drawn for them.
        parts: the micro-batches that it was drawn in, as `run.memory.parts` gave them.
        policies: of the forward pass that it was drawn in, one for each of `parts`; their graphs
            are used up.
        credit: of `sampled`.

    Raises:
        NotFinite: the first pass has no finite gradient. A further one is left out instead.
        OutOfMemory: not even one example fits.
    """
    config = run.config.policy
    if sampled.stale:
        count = len(prepared)
        policies[:] = run.memory.fit(
            count, lambda: _policies_now(run, prepared, run.memory.parts(count)), policies.clear
        )
        parts = run.memory.parts(count)
    before = [policy.detach() for policy in policies]
    if sampled.is_off_policy:
        sampled, credit = _as_if_drawn_now(sampled, credit, before, parts)
    lesson = Lesson(prepared, sampled, credit)
    valid = int(reduced(run.accelerator, credit.counts_BS.sum()))

    for number in range(config.passes):
        if number > 0:
            policies[:] = _policies_now(run, prepared, parts)
            if _mean_kl(run, before, policies) > config.max_kl:
                return
        if not run.memory.keep_graphs:
            policies.clear()
        try:
            update = _update(run, lesson, policies, valid, first=number == 0)
        except NotFinite as refused:
            if number == 0:
                raise
            _log.warning("pass %d was left out, and the step ends here: %s", number + 1, refused)
            return
        yield update


def _update(
    run: Run, lesson: Lesson, policies: list[MaskPolicy], valid: int, *, first: bool
) -> Update:
    """One pass; arguments as for `_add_up`."""

    def give_up() -> None:
        policies.clear()  # Their graphs are what fills the memory.
        run.optimizer.zero_grad()

    gradient = partial(_add_up, run, lesson, policies, valid, first=first)
    while True:
        run.optimizer.zero_grad()
        with stopping_together(run.accelerator):
            sums = run.memory.fit(len(lesson.prepared), gradient, give_up)
        with run.times.phase("update"):
            if update := _step(run, sums, valid):
                return update
        give_up()


def _as_if_drawn_now(
    sampled: SampledBatch,
    credit: Credit,
    policies: Sequence[MaskPolicy],
    parts: Sequence[tuple[int, int]],
) -> tuple[SampledBatch, Credit]:
    """Masks that other policies drew, as those of the step's own: its log-probs, their weights."""
    width = sampled.keep_mask_SCW.shape[-1]
    log_prob_SCW = torch.cat(
        [
            widened(_log_probs(policy, sampled.part(start, stop)), width)
            for policy, (start, stop) in zip(policies, parts, strict=True)
        ],
        dim=1,
    )
    advantage_SCW = reinforce.weighted_advantage(
        credit.advantage_SCW, log_prob_SCW, sampled.behaviour_SCW
    )
    return (
        replace(sampled, behaviour_SCW=log_prob_SCW),
        replace(credit, advantage_SCW=advantage_SCW),
    )


def _log_probs(policy: MaskPolicy, sampled: SampledBatch) -> Tensor:
    """Of every word's action: (S, C, W), W being the policy's."""
    return policy.word_log_probs(widened(sampled.keep_mask_SCW, policy.free_CW.shape[-1]))


def _policies_now(
    run: Run, prepared: Sequence[PreparedExample], parts: Sequence[tuple[int, int]]
) -> list[MaskPolicy]:
    with torch.set_grad_enabled(run.memory.keep_graphs):
        return [policy_of(run, prepared[start:stop]) for start, stop in parts]


def _add_up(
    run: Run, lesson: Lesson, policies: Sequence[MaskPolicy], valid: int, *, first: bool
) -> Sums:
    """Add every micro-batch's gradient to the model's.

    Args:
        run: whose model it is.
        lesson: this process's.
        policies: one for each micro-batch, with its graph; empty: they are computed here.
        valid: number of rollouts that count, over all processes.
        first: whether the policy is still that of the step's start.
    """
    sums = Sums()
    for index, (start, stop) in enumerate(run.memory.parts(len(lesson.prepared))):
        part = lesson.part(start, stop)
        policy = policies[index] if policies else policy_of(run, part.prepared)
        loss, figures = _loss(run, part, policy, first=first)
        with run.times.phase("update"):
            run.accelerator.backward(loss / max(valid, 1))
        sums += figures
    return sums


def _loss(run: Run, part: Lesson, policy: MaskPolicy, *, first: bool) -> tuple[Tensor, Sums]:
    """A micro-batch's loss, summed over its rollouts, and what is logged of it."""
    config, sampled = run.config.policy, part.sampled
    width = policy.free_CW.shape[-1]
    advantage_SCW = part.credit.advantage_SCW
    if advantage_SCW.shape[-1] > 1:
        advantage_SCW = widened(advantage_SCW, width)
    log_prob_SCW = _log_probs(policy, sampled)
    objective_SCW = (
        reinforce.score_function(log_prob_SCW, advantage_SCW)
        if first
        else reinforce.clipped_ratio(
            log_prob_SCW, widened(sampled.behaviour_SCW, width), advantage_SCW, config.clip_ratio
        )
    )
    start = _start_policy(run, part.prepared)
    entropy_C = policy.entropy()
    kl_C = policy.kl(start) if start else torch.zeros_like(entropy_C)
    words_C = policy.free_CW.sum(-1).float()
    recorded_C = sent(torch.tensor(sampled.recorded), words_C.device)[sampled.example_C]
    imitated_C = _kl_to_recorded(sampled, policy) * recorded_C
    loss = reinforce.policy_loss(
        sampled.per_example(objective_SCW.sum(-1)).T,
        sampled.per_example(entropy_C),
        sampled.per_example(kl_C),
        sampled.per_example(imitated_C),
        sampled.per_example(words_C),
        part.credit.counts_BS,
        entropy_coeff=run.config.hyperparams.entropy_coeff,
        entropy_per_word=_entropy_per_word(run),
        kl_coeff=config.kl_coeff,
        imitation=run.config.reuse.imitation,
    )
    sums_XC = torch.stack([entropy_C, kl_C, imitated_C, words_C, words_C * recorded_C])
    figures = torch.cat([loss[None], sums_XC.sum(-1)])
    return loss, Sums(*figures.detach().tolist())


def _entropy_per_word(run: Run) -> float:
    """What the entropy is worth in this step, which is the one after those finished."""
    config = run.config.policy
    if config.final_entropy_per_word is None:
        return config.entropy_per_word
    step, final = run.finished_steps + 1, config.final_entropy_per_word
    return value_at(step, config.entropy_per_word, final, run.total_steps)


def _step(run: Run, sums: Sums, valid: int) -> Update | None:
    """One optimiser step on the gradient that was added up, unless it is not finite.

    None: the gradient left the range of fp16, which is now scaled less. It is to be computed again.

    Args:
        run: whose model is changed.
        sums: this process's figures.
        valid: number of rollouts that count, over all processes.

    Raises:
        NotFinite: in every process; no weight was changed.
    """
    accelerator = run.accelerator
    add_gradients(accelerator, run.model)
    parameters = run.model.parameters()
    norm = float(accelerator.clip_grad_norm_(parameters, run.config.policy.max_grad_norm))
    loss = reduced(accelerator, torch.tensor(sums.loss, device=accelerator.device)) / max(valid, 1)
    if not (math.isfinite(norm) and math.isfinite(loss)):
        if (scaler := accelerator.scaler) and math.isfinite(loss) and scaler.get_scale() > 1:
            run.optimizer.step()  # Which the scaler skips, and halves its scale.
            return None
        run.optimizer.zero_grad()
        raise NotFinite(
            f"expected a finite loss and gradient, got a loss of {loss} and a norm of {norm}; no "
            "weight was changed. Look for the cause in reward.metric and the coefficients under "
            "policy and hyperparams, then train anew: the teacher's answers are stored"
        )
    if valid == 0:
        run.optimizer.zero_grad()  # Otherwise AdamW's momentum alone would move the weights.
    run.torn = True
    run.optimizer.step()
    words = max(sums.words, 1.0)
    return Update(
        loss,
        norm,
        sums.entropy / words,
        sums.kl_to_start / words,
        sums.kl_to_recorded / max(sums.recorded_words, 1.0),
        signal_to_noise(run.optimizer),
    )


def _kl_to_recorded(sampled: SampledBatch, policy: MaskPolicy) -> Tensor:
    """KL from what drew each chunk's masks, (C,), where another run's are among them."""
    if not any(sampled.recorded):
        return sampled.log_odds_CW.new_zeros(len(sampled.log_odds_CW))
    assert isinstance(policy, IndependentWords)  # The config refuses any other sampler.
    return kl_to_recorded(widened(sampled.log_odds_CW, policy.free_CW.shape[-1]), policy)


def _start_policy(run: Run, prepared: Sequence[PreparedExample]) -> MaskPolicy | None:
    if run.start is None:
        return None
    with torch.no_grad():
        return policy_of(run, prepared, run.start)


def _mean_kl(run: Run, drew: Sequence[MaskPolicy], policies: Sequence[MaskPolicy]) -> float:
    """KL from the policy that drew to the one at hand, per word over all processes."""
    with torch.no_grad():
        kls = [old.kl(new).sum() for old, new in zip(drew, policies, strict=True)]
        words = [old.free_CW.sum() for old in drew]
    kl, count = (reduced(run.accelerator, torch.stack(values).sum()) for values in (kls, words))
    return kl / max(count, 1)
