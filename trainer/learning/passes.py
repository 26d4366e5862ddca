"""What a step makes of its rollouts: one or more passes over them, each an optimiser step.

The first pass is REINFORCE. In the further ones the policy is no longer the one that drew the
masks: words count by their clipped ratios, and the passes end early where the policy has moved too
far. Nothing is asked of the teacher here.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer.learning import reinforce
from trainer.learning.act import PreparedExample, SampledBatch, chunks_of, mask_policy
from trainer.learning.credit import Credit
from trainer.learning.run import Run
from trainer.learning.summary import Update
from trainer.policy.compressor import word_keep_probs
from trainer.policy.sampling import MaskPolicy


def policy_of(
    run: Run, prepared: Sequence[PreparedExample], model: torch.nn.Module | None = None
) -> MaskPolicy:
    """The policy over a batch, with gradient; that of another model where one is given."""
    pad, device = run.compressor.tokenizer.pad_token_id, run.accelerator.device
    with run.times.phase("forward"):
        probs = word_keep_probs(model or run.model, chunks_of(prepared), pad, device)
    with run.times.phase("sample"):
        return mask_policy(*probs, prepared, run.config.policy.sampler)


def passes(
    run: Run,
    prepared: Sequence[PreparedExample],
    sampled: SampledBatch,
    policy: MaskPolicy,
    credit: Credit,
) -> Iterator[Update]:
    """Learn from one batch of rollouts, up to `policy.passes` times.

    Args:
        run: whose model is changed.
        prepared: this process's examples.
        sampled: what was drawn for them.
        policy: the one that drew it, with its graph.
        credit: of `sampled`.
    """
    config = run.config.policy
    drew = policy.detach()
    behaviour_SCW = drew.word_log_probs(sampled.keep_mask_SCW)
    start = _start_policy(run, prepared)
    valid = int(reduced(run, credit.counts_BS.sum()))
    for number in range(config.passes):
        if number > 0:
            policy = policy_of(run, prepared)
            if _mean_kl(run, drew, policy) > config.max_kl:
                return
        log_prob_SCW = policy.word_log_probs(sampled.keep_mask_SCW)
        objective_SCW = (
            reinforce.score_function(log_prob_SCW, credit.advantage_SCW)
            if number == 0
            else reinforce.clipped_ratio(
                log_prob_SCW, behaviour_SCW, credit.advantage_SCW, config.clip_ratio
            )
        )
        entropy_C = policy.entropy()
        kl_C = policy.kl(start) if start else torch.zeros_like(entropy_C)
        words_C = policy.free_CW.sum(-1).float()
        loss = reinforce.policy_loss(
            sampled.per_example(objective_SCW.sum(-1)).T,
            sampled.per_example(entropy_C),
            sampled.per_example(kl_C),
            sampled.per_example(words_C),
            credit.counts_BS,
            entropy_coeff=run.config.hyperparams.entropy_coeff,
            entropy_per_word=config.entropy_per_word,
            kl_coeff=config.kl_coeff,
        )
        with run.times.phase("update"):
            grad_norm = _step(run, loss, valid)
        words = words_C.sum().clamp_min(1)
        yield Update(
            loss=reduced(run, loss) / max(valid, 1),
            grad_norm=grad_norm,
            entropy_per_word=(entropy_C.sum() / words).item(),
            kl_to_start=(kl_C.sum() / words).item(),
        )


def _step(run: Run, loss: Tensor, valid: int) -> float:
    """One optimiser step on the mean over the valid rollouts; the gradient's norm before clipping.

    Args:
        run: whose model is changed.
        loss: this process's sum over its rollouts.
        valid: number of rollouts that count, over all processes.
    """
    accelerator = run.accelerator
    run.optimizer.zero_grad()
    # Data-parallel backward averages over processes, and the loss is a sum over them.
    accelerator.backward(loss * accelerator.num_processes / max(valid, 1))
    norm = accelerator.clip_grad_norm_(run.model.parameters(), run.config.policy.max_grad_norm)
    if valid == 0:
        run.optimizer.zero_grad()  # Otherwise AdamW's momentum alone would move the weights.
    run.optimizer.step()
    return float(norm)


def _start_policy(run: Run, prepared: Sequence[PreparedExample]) -> MaskPolicy | None:
    if run.start is None:
        return None
    with torch.no_grad():
        return policy_of(run, prepared, run.start)


def _mean_kl(run: Run, drew: MaskPolicy, policy: MaskPolicy) -> float:
    """KL from the policy that drew to the one at hand, per word over all processes."""
    with torch.no_grad():
        kl = reduced(run, drew.kl(policy).sum())
        return kl / max(reduced(run, drew.free_CW.sum()), 1)


def reduced(run: Run, value: Tensor) -> float:
    """The sum over all processes, so that each decides alike."""
    return float(run.accelerator.reduce(value.detach()).item())
