"""Validation during training: compress as deployed, score, and remember which step was the best."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from trainer.config_sections.running import Evaluation
from trainer.errors import ConfigError
from trainer.learning.act import deploy_batch, deployed_texts
from trainer.learning.asking import in_order, judge, prepare
from trainer.learning.batches import share_of
from trainer.learning.interrupt import StopSignal
from trainer.learning.prepared import PreparedExample
from trainer.learning.processes import collected, stopping_together
from trainer.learning.run import Run
from trainer.learning.summary import compression_rate, mean_reward
from trainer.policy.calibration import Threshold, calibrate
from trainer.rollouts.collect import CompressedText
from trainer.rollouts.scores import Metric, best_of
from trainer.types import Example, Outcome, Rollout


def validate(
    run: Run, epoch: int, step: int, stop: StopSignal, report: Callable[[str], None]
) -> None:
    """Compress the validation examples as they would be deployed, and score them."""
    accelerator, examples = run.accelerator, run.val_examples
    mine = share_of(examples, accelerator.process_index, accelerator.num_processes)
    with stopping_together(accelerator):
        texts = deploy(run, step, prepare(run, mine, [run.target] * len(mine)))
        with stop.waiting():
            own = judge(run, "val", step, texts)
    rollouts = in_order(collected(accelerator, own), examples)
    run.check_replay("val", step, rollouts)
    scores = validation_scores(rollouts, examples, run.scorer.metric)
    standing = run.standing.after(step, scores[run.config.evaluation.select_by])
    if standing.best_step == step:
        run.keep_best(step)
    run.validated_steps, run.standing = step, standing
    run.record("val", step, rollouts)
    run.log_validation(epoch, step, rollouts, scores)
    answers = f"  against people's answers {scores['answers']:.3f}" if "answers" in scores else ""
    report(f"step {step}  validation reward {scores['reward']:.3f}{answers}")


def deploy(run: Run, step: int, prepared: Sequence[PreparedExample]) -> list[CompressedText]:
    """Compress by the deployment rule; a replay with locked masks by what the rule gave then."""
    if run.replay and run.replay.locked_masks:
        masks = [mask for [mask] in run.replay.masks("val", step, prepared, samples=1)]
        return deployed_texts(prepared, masks, run.segmenter)
    threshold = None
    if run.config.evaluation.rate == "threshold":
        # Over all validation texts, whichever of them are this process's.
        [calibrated] = calibrate_run(run, [run.target.rate])
        threshold = calibrated.threshold
    return deploy_batch(
        prepared,
        run.compressor,
        run.segmenter,
        exact=run.config.evaluation.rate == "exact",
        threshold=threshold,
    )


def calibrate_run(run: Run, rates: Sequence[float]) -> list[Threshold]:
    """One threshold for each rate, on the texts for validation, or else on those for training."""
    corpus = run.val_examples or run.train_examples
    prompts = [example.contexts for example in corpus]
    return calibrate(run.compressor, run.segmenter, prompts, rates)


def validation_scores(
    rollouts: Sequence[Rollout], examples: Sequence[Example], metric: Metric | None
) -> Mapping[str, float]:
    """What a validation is worth.

    Args:
        rollouts: one for each example, in their order.
        examples: with people's answers, or without.
        metric: the reward's, without its judge, which is asked about the teacher's answers alone;
            None: there is nothing but the judge.

    Returns:
        reward: the mean reward, which is agreement with the teacher's own answers; answers, where
        the data has them: the mean score of the same completions against the nearest of people's
        answers, over the questions that have any; 0 where no rollout was answered.
    """
    answered = [
        (reply.text, question.answers)
        for rollout, example in zip(rollouts, examples, strict=True)
        if rollout.outcome is Outcome.SCORED
        for reply, question in zip(rollout.replies, example.questions, strict=True)
        if question.answers
    ]
    scores = best_of(metric, answered) if metric else []
    measured = metric and has_answers(examples)
    answers = {"answers": fmean(scores) if scores else 0.0} if measured else {}
    return {"reward": mean_reward(rollouts), **answers, "rate": compression_rate(rollouts)}


def has_answers(examples: Sequence[Example]) -> bool:
    """Whether people have answered any of the questions."""
    return any(question.answers for example in examples for question in example.questions)


def check_selection(
    evaluation: Evaluation, val_examples: Sequence[Example], metric: Metric | None
) -> None:
    """Refuse to select by a validation that there is not.

    Args:
        evaluation: of the config.
        val_examples: what is validated on.
        metric: as for `validation_scores`.

    Raises:
        ConfigError: there are no validation examples, or no answers by people in them, or nothing
            to score those by.
    """
    if not (evaluation.keep_best or evaluation.patience):
        return
    if not val_examples:
        raise ConfigError(
            "evaluation",
            [
                "expected validation examples to select by (keep_best, patience), and there are "
                "none; set data.val_file_path or evaluation.val_share"
            ],
        )
    if evaluation.select_by == "answers" and not has_answers(val_examples):
        raise ConfigError(
            "evaluation.select_by",
            [
                "expected validation examples with an `answer`, written by people, got none that "
                "has one; set select_by: reward"
            ],
        )
    if evaluation.select_by == "answers" and metric is None:
        raise ConfigError(
            "evaluation.select_by",
            [
                "expected a reward.metric that scores people's answers, got the judge alone, which "
                "is asked about the teacher's only; set select_by: reward, or add a metric"
            ],
        )
