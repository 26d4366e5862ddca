"""From a config to a run that is ready to train: new, resumed, or replayed."""

import copy
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from trainer.config import Config, resolved
from trainer.config_sections.learning import Policy
from trainer.config_sections.running import Budget
from trainer.errors import CheckpointError, ReplayError
from trainer.learning.allowance import open_allowance
from trainer.learning.checkpoint import cut_back_logs, load_latest
from trainer.learning.inputs import (
    check_same_inputs,
    describe_inputs,
    describe_metric,
    load_compressor,
)
from trainer.learning.library import describe_library, open_library
from trainer.learning.lockfile import Lock, LockWriter
from trainer.learning.logs import RunLogs, log_files
from trainer.learning.memory import Memory
from trainer.learning.recording import BehaviourWriter
from trainer.learning.replay import start_replay
from trainer.learning.run import Run
from trainer.learning.run_folder import (
    BEHAVIOUR,
    CHECKPOINTS,
    LOCK,
    describe_run,
    environment,
    new_run_id,
    read_description,
    write_description,
)
from trainer.learning.tracking import start_trackers
from trainer.learning.trainable import adapt, trained_parameters
from trainer.learning.validation import check_selection
from trainer.policy.contexts import ContextFilter, Target
from trainer.policy.saving import deployable_path, require_place
from trainer.policy.words import CompressionOptions
from trainer.rollouts.collect import LengthRule
from trainer.rollouts.rewards import RewardConstants
from trainer.rollouts.scoring import load_scorer, open_judge
from trainer.rollouts.teacher_client import TeacherClient
from trainer.tasks.data import load_examples, shared_texts, split_validation
from trainer.types import Example

_log = logging.getLogger(__name__)


def prepare_run(
    config: Config,
    folder: Path,
    teacher: TeacherClient,
    accelerator: Accelerator,
    *,
    resume: bool = False,
    recorded: Lock | None = None,
    locked_masks: bool = False,
) -> Run:
    """Load data and compressor, and open the run's files.

    Args:
        config: the whole configuration.
        folder: the run's folder, which exists.
        teacher: connected.
        accelerator: from `make_accelerator`.
        resume: go on from the folder's newest checkpoint.
        recorded: the lock to replay.
        locked_masks: replay on the recorded masks, though this machine could draw them again.

    Raises:
        DataError, ModelError, CheckpointError, ReplayError: what they say.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    train_examples, val_examples = load_data(config)
    if config.hyperparams.use_context_level_filter:
        _warn_of_single_contexts([*train_examples, *val_examples])
    if "{question}" not in config.task.prompt:
        _warn_of_unasked_questions([*train_examples, *val_examples])
    scorer = load_scorer(config, device=str(accelerator.device))
    check_selection(config.evaluation, val_examples, scorer.metric)
    compressor = load_compressor(config, accelerator.device)
    inputs = describe_inputs(config, compressor)
    merge_adapters = adapt(compressor.model, config.compute, config.run.seed)
    optimizer = torch.optim.AdamW(
        trained_parameters(compressor.model),
        lr=config.hyperparams.policy_lr,
        weight_decay=config.policy.weight_decay,
    )
    total_steps = config.hyperparams.epochs * -(
        -len(train_examples) // config.hyperparams.train_batch_size
    )
    run_id = read_description(folder)["run_id"] if resume else _shared_run_id(folder)
    teacher.name_run(run_id)
    # A replay asks for stored answers alone, which are free.
    budget = Budget() if recorded else config.budget
    allowance = open_allowance(budget, teacher, folder, accelerator.num_processes)
    description: dict[str, Any] = {"run_id": run_id} | describe_run(
        resolved(config),
        **inputs,
        teacher=teacher.digest(),
        environment=environment(accelerator.device, accelerator.num_processes),
    )
    description |= describe_metric(config, str(accelerator.device))
    library = open_library(config, description)
    description |= describe_library(library)
    replay = None
    if recorded:
        check_same_inputs(description, recorded.header, recorded.path, ReplayError)
        replay = start_replay(recorded, description["environment"], locked_masks=locked_masks)
        if replay.locked_masks and config.policy.loss == "reference_padded":
            raise ReplayError(
                f"{recorded.path}: policy.loss: reference_padded draws positions, pads and all, "
                "and a lock records the words that they keep; replay it where it was recorded "
                "(same device, platform and threads), without --locked-masks"
            )
    if resume:
        _check_same_teacher(folder / LOCK, teacher)
        check_same_inputs(description, read_description(folder), folder, CheckpointError)
    # Refuses a bad place, or a name that the stock package would misread, before all is trained.
    require_place(
        deployable_path(folder / config.model.trained_model_output_dir_hf, compressor.family)
    )
    # Not prepared: Accelerate's wrapper would step it once per process. And before the optimizer is
    # prepared, which remembers the `step` that the schedule has marked.
    scheduler = _scheduler(optimizer, config.policy, total_steps)
    # In no wrapper for data parallelism: `processes.add_gradients` sums once a step.
    model = accelerator.prepare_model(compressor.model, evaluation_mode=True)
    run = Run(
        folder=folder,
        config=config,
        accelerator=accelerator,
        compressor=compressor,
        model=model,
        start=copy.deepcopy(model) if config.policy.kl_coeff else None,
        optimizer=accelerator.prepare_optimizer(optimizer),
        scheduler=scheduler,
        segmenter=compressor.segmenter(compression_options(config), config.hyperparams.max_seq_len),
        target=Target(config.hyperparams.compression_rate, config.hyperparams.target_token),
        context_filter=context_filter(config),
        train_examples=train_examples,
        val_examples=val_examples,
        teacher=teacher,
        allowance=allowance,
        scorer=scorer,
        judge=open_judge(config.judge, teacher) if scorer.judge else None,
        lengths=LengthRule(
            config.hyperparams.compression_relaxation_tokens,
            config.reward.compression_tolerance,
            config.reward.length_penalty,
        ),
        constants=RewardConstants(
            config.reward.over_compressed, config.reward.out_of_tolerance, config.reward.refused
        ),
        logs=None,
        lock=None,
        behaviour=None,
        library=library,
        replay=replay,
        merge_adapters=merge_adapters,
        memory=Memory(config.compute.micro_batch_size),
        total_steps=total_steps,
    )
    if resume:
        _restore(run)
    if accelerator.is_main_process:
        if not resume:
            _require_no_logs(folder, config.logging.log_dir)
        run.logs = RunLogs(folder / config.logging.log_dir)
        if not resume:
            write_description(folder, description)
        if teacher.is_ours and (not resume or (folder / LOCK).exists()):
            run.lock = LockWriter(folder / LOCK, read_description(folder))
            run.behaviour = BehaviourWriter(folder / BEHAVIOUR)
    start_trackers(
        accelerator,
        folder / config.logging.log_dir,
        run_id=run_id,
        name=folder.name,
        config=resolved(config),
        finished_steps=run.finished_steps,
    )
    return run


def _shared_run_id(folder: Path) -> str:
    """The main process's, in every process."""
    (run_id,) = broadcast_object_list([new_run_id(folder)])
    return str(run_id)


def load_data(
    config: Config, *, require_references: bool = True
) -> tuple[list[Example], list[Example]]:
    """What to train on, and what to validate on.

    Raises:
        DataError: a file cannot be read, or a reference completion is missing and required.
    """
    load = partial(load_examples, require_references=require_references)
    examples = load(Path(config.data.train_file_path))
    if config.data.val_file_path is not None:
        train, validation = examples, load(Path(config.data.val_file_path))
    else:
        train, validation = split_validation(examples, config.evaluation.val_share)
    if warning := shared_texts(train, validation, config.data.val_file_path or "validation split"):
        _log.warning(warning)
    return train, validation


def compression_options(config: Config) -> CompressionOptions:
    """What the config keeps by rule."""
    hyperparams = config.hyperparams
    return CompressionOptions(
        force_tokens=hyperparams.force_tokens,
        force_reserve_digit=hyperparams.force_reserve_digit,
        drop_consecutive=hyperparams.drop_consecutive,
        spacing=config.evaluation.spacing,
    )


def _scheduler(optimizer: Optimizer, policy: Policy, total_steps: int) -> LRScheduler:
    """The learning rate of each step: warm-up times schedule, a function of the step alone."""

    def factor(finished: int) -> float:
        warm_up = min(1.0, (finished + 1) / (policy.warmup_steps + 1))
        if policy.lr_schedule == "constant":
            return warm_up
        return warm_up * (1 + math.cos(math.pi * finished / total_steps)) / 2

    return LambdaLR(optimizer, factor)


def context_filter(config: Config) -> ContextFilter | None:
    """The config's filter of whole contexts; None where it is off."""
    hyperparams = config.hyperparams
    if not hyperparams.use_context_level_filter:
        return None
    return ContextFilter(
        target_context=hyperparams.target_context,
        rate=hyperparams.context_level_compression_rate,
        target_token=hyperparams.context_level_target_token,
    )


def _warn_of_single_contexts(examples: Sequence[Example]) -> None:
    if single := sum(len(example.contexts) == 1 for example in examples):
        _log.warning(
            "hyperparams.use_context_level_filter is true, and %d of %d records have one context, "
            "of which nothing can be dropped; give `original_prompt` as a list of contexts",
            single,
            len(examples),
        )


def _warn_of_unasked_questions(examples: Sequence[Example]) -> None:
    asking = sum(any(question.question for question in one.questions) for one in examples)
    if asking:
        _log.warning(
            "task.prompt has no {question}, so that the questions of %d of %d records are not "
            "asked; add it where the question belongs",
            asking,
            len(examples),
        )


def _require_no_logs(folder: Path, log_dir: str) -> None:
    """A folder outside of the run's own may be another run's, which a resume would cut back."""
    if taken := [file for file in log_files(folder, log_dir) if file.exists()]:
        raise CheckpointError(
            f"{taken[0]}: expected a folder without logs, and these are another run's; choose "
            "another logging.log_dir, or one relative to the run's folder"
        )


def _check_same_teacher(lock: Path, teacher: TeacherClient) -> None:
    if lock.exists() and not teacher.is_ours:
        raise CheckpointError(
            f"{lock}: expected our teacher service, for this run has a lock, and no other server "
            "gives the fingerprints to go on with it; start ours (`taco serve`), then resume"
        )


def _restore(run: Run) -> None:
    # To the CPU, whatever the device: loading the states below moves them to where they belong, and
    # torch knows no place of the name that Accelerate gives to one of several processes on a CPU.
    progress, tensors = load_latest(run.folder / CHECKPOINTS, torch.device("cpu"))
    run.compressor.model.load_state_dict(tensors["model"])
    run.optimizer.load_state_dict(tensors["optimizer"])
    run.scheduler.load_state_dict(tensors["scheduler"])
    if run.accelerator.scaler and "scaler" in tensors:
        run.accelerator.scaler.load_state_dict(tensors["scaler"])
    run.drew = tensors.get("drew")
    run.finished_steps = progress.step
    run.validated_steps = progress.validated_step
    run.teacher_calls = progress.teacher_calls
    run.standing = progress.standing
    run.reward_average = progress.reward_average
    if run.accelerator.is_main_process:
        cut_back_logs(run.folder, progress.log_bytes)
