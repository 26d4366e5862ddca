"""The whole configuration: the reference's six sections with its keys, and seven of our own.

`trainer.config_file` reads it from YAML. Neither needs torch or a network, so that a bad config is
answered at once. Helpers elsewhere get the values they use, never a config.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)


def _number_in_text(value: object) -> object:
    """Read `1e-5` as a number: without a dot it is a string to a YAML 1.1 loader."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


Float = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number_in_text)]
Share = Annotated[Float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class Data(_Section):
    """Where examples come from."""

    train_file_path: str
    """JSON object, keys "0".."n-1", values `{original_prompt, gpt_output}` and more."""
    val_file_path: str | None = None
    """A file of the same shape; None: `evaluation.val_share` of the training file, by hash."""


class Model(_Section):
    """The compressor to start from, and where the trained one goes."""

    model_load_path: str
    """A local folder, or a name on the hub."""
    trained_model_output_dir_hf: str = "models/reinforce_trained_model"
    """Relative to the run's folder."""


class Task(_Section):
    """What the teacher is asked."""

    prompt: str
    """The template; `{transcript}` and `{question}` are replaced literally, once."""
    gpt_model: str = "gpt-35-turbo"
    """The teacher's name at the service, whose config maps it to a model."""
    max_tokens: Positive = 1500
    """Longest answer that the teacher may give."""
    system_message: str | None = "You are a helpful assistant."
    """Sent before the prompt; null sends none."""
    sampling: dict[str, JsonValue] = {"temperature": 0, "top_p": 1, "seed": 42}
    """Further fields of the request; all of them are part of the cache key."""

    @field_validator("prompt")
    @classmethod
    def _has_transcript(cls, prompt: str) -> str:
        if "{transcript}" not in prompt:
            raise ValueError(
                "expected a template with {transcript}, where the text goes; it has none"
            )
        return prompt


class Hyperparams(_Section):
    """The reference's hyperparameters, its names and defaults."""

    epochs: Positive = 4
    """Passes over the training examples."""
    train_batch_size: Positive = 8
    """Examples per optimiser step, over all processes."""
    policy_lr: Annotated[Float, Field(gt=0.0)] = 1e-5
    """AdamW's learning rate; see `policy.lr_schedule`."""
    compression_rate: Annotated[Float, Field(gt=0.0)] = 0.5
    """Compressed tokens / original tokens."""
    compression_relaxation_tokens: NonNegative = 30
    """How far, in tokens, a compressed text may lie from its target length."""
    max_seq_len: Annotated[int, Field(ge=8)] = 512
    """Pieces per chunk, specials included; the stock package deploys 512."""
    entropy_coeff: Annotated[Float, Field(ge=0.0)] = 0.01
    """Times the mean entropy per word; `policy.entropy_per_word` is the summed one."""
    target_token: int = -1
    """A length in tokens that overrides the rate; below 1: none."""
    use_context_level_filter: bool = False
    """Drop whole contexts first, where a record gives a list of them."""
    use_token_level_filter: bool = True
    """Drop words; false leaves nothing to train, and is refused."""
    target_context: int = -1
    """How many contexts the context-level filter keeps; -1: by rate."""
    context_level_compression_rate: Annotated[Float, Field(gt=0.0)] = 1.0
    """The share of contexts that the context-level filter keeps."""
    context_level_target_token: int = -1
    """A length in tokens for the context-level filter; -1: none."""
    force_tokens: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    """Always kept; the stock package takes 100. Empty: none; a string: one; otherwise a list."""
    drop_consecutive: bool = True
    """Drop a force token that would follow itself."""
    force_reserve_digit: bool = False
    """Keep every piece with a digit in it."""

    @field_validator("force_tokens", mode="before")
    @classmethod
    def _one_token_or_many(cls, value: object) -> object:
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _something_to_train(self) -> "Hyperparams":
        if not self.use_token_level_filter:
            raise ValueError(
                "use_token_level_filter: false leaves nothing to train, because no word is ever "
                "dropped; set it to true"
            )
        if self.compression_rate >= 1.0 and self.target_token < 1:
            raise ValueError(
                f"compression_rate: {self.compression_rate} leaves nothing to train, because every "
                "word is kept; set a rate below 1"
            )
        return self


class Logging(_Section):
    """What is written how often, in optimiser steps."""

    log_dir: str = "logs_new"
    """Relative to the run's folder; elsewhere, one run's alone."""
    log_interval: Positive = 5
    """Between rows of the reward CSV and lines on the console."""
    save_interval: Positive = 100
    """Between checkpoints."""
    keep_checkpoints: Positive = 2
    """How many of the newest stay; the best validated weights are kept beside them."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Who else gets every step's figures; each has to be installed. TensorBoard's lie in
    log_dir."""

    @field_validator("trackers", mode="before")
    @classmethod
    def _list_of_trackers(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Device(_Section):
    """Where the compressor runs."""

    use_cuda: bool = True
    """Without a GPU: a warning, and the CPU."""
    device_map: str = "auto"
    """auto (the GPU if there is one) | cpu | cuda | cuda:N, which is for a single process."""

    @field_validator("device_map")
    @classmethod
    def _one_device(cls, device_map: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device_map):
            raise ValueError(
                f"expected auto, cpu, cuda or cuda:N, got {device_map!r}: a compressor is trained "
                "on one device whole; for several GPUs start as many processes "
                "(accelerate launch -m trainer CONFIG)"
            )
        return device_map


class Compute(_Section):
    """How the compressor is computed: what it costs in memory and time."""

    micro_batch_size: Positive | None = None
    """Examples in a forward pass; null: a process's whole share, and less where memory runs out."""
    overlap: bool = True
    """Ask about a micro-batch while the next runs forward; under a budget, all at the end."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the model's computation; its weights, log-probs and the sampler stay in float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    compile: str | None = None
    """torch.compile's backend, such as inductor; null: the model is not compiled."""
    freeze_embeddings: bool = False
    """Leave the embeddings as they are."""
    frozen_layers: NonNegative = 0
    """Leave so many of the first layers as they are."""
    lora_rank: NonNegative = 0
    """Train low-rank updates of this rank, merged when the compressor is saved; 0: all weights."""
    lora_alpha: Annotated[Float, Field(gt=0.0)] = 16.0
    """LoRA's updates are multiplied by alpha / rank."""


class Policy(_Section):
    """How masks are drawn and what is learnt from them."""

    sampler: Literal["rate_held", "exact_count", "bernoulli"] = "rate_held"
    """`rate_held` meets the target length in the mean, `exact_count` always, `bernoulli` never."""
    rates: tuple[Annotated[Float, Field(gt=0.0, lt=1.0)], ...] = ()
    """Target rates to train for, so that one compressor serves a range; empty: the one rate."""
    start_rate: Annotated[Float, Field(gt=0.0, lt=1.0)] | None = None
    """Target rate of the first step, which moves evenly to the run's own; None: that throughout."""
    start_rate_steps: Positive = 100
    """Steps after which the rate is the run's own, where there is a `start_rate`."""
    loss: Literal[
        "leave_one_out", "group_normalized", "greedy", "moving_average", "none", "reference"
    ] = "leave_one_out"
    """The baseline; `greedy`: the text as deployed, one more to ask about for each example;
    `reference`: one rollout, no baseline, log-probs averaged over the words."""
    credit: Literal["rollout", "word"] = "rollout"
    """`word`: by question, and scaled by how far the rest of a group shows that a word matters."""
    rollouts_per_example: Positive = 8
    """Masks drawn for each example from one forward pass."""
    passes: Positive = 1
    """Optimiser steps on each batch of rollouts; after the first by clipped ratios of each word."""
    clip_ratio: Annotated[Float, Field(gt=0.0, lt=1.0)] = 0.2
    """How far, in further passes, a word's probability counts as moved."""
    max_kl: Annotated[Float, Field(gt=0.0)] = 0.01
    """No further pass once the policy is this far, in nats per word, from the one that drew."""
    entropy_per_word: Annotated[Float, Field(ge=0.0)] = 0.0
    """Times the entropy summed over a text's words."""
    kl_coeff: Annotated[Float, Field(ge=0.0)] = 0.0
    """Times the KL of the policy to the starting compressor's, summed over a text's words."""
    length_tokenizer: str = "auto"
    """auto | cl100k_base | policy | the path of a tokenizer.json."""
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine falls to 0 at the last step, as in the reference."""
    warmup_steps: NonNegative = 0
    """Steps in which the learning rate rises from 0 to the schedule's."""
    max_grad_norm: Annotated[Float, Field(gt=0.0)] = 1.0
    """The gradient is clipped to this norm."""
    weight_decay: Annotated[Float, Field(ge=0.0)] = 0.0
    """AdamW's weight decay."""

    @field_validator("rates", mode="before")
    @classmethod
    def _list_of_rates(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _group_of_two(self) -> "Policy":
        if self.loss in ("leave_one_out", "group_normalized") and self.rollouts_per_example < 2:
            raise ValueError(
                f"rollouts_per_example: {self.loss} compares the rollouts of a group, so it needs "
                f"at least 2, and got {self.rollouts_per_example}; raise it, or set loss: none"
            )
        if self.loss == "greedy" and self.sampler == "exact_count":
            raise ValueError(
                "loss: greedy compares with the deployed text, whose length is not exactly the "
                "target, so that sampler: exact_count could not have drawn it; set rate_held"
            )
        drawn = 1 if self.loss == "reference" else self.rollouts_per_example
        if self.credit == "word" and drawn < 2:
            raise ValueError(
                "credit: word asks the other rollouts of a group which words matter, so it needs "
                f"at least 2 of them, and got {drawn}; set credit: rollout"
            )
        return self

    @property
    def samples(self) -> int:
        """Rollouts per example (S); under the greedy baseline, the deployed text is the last."""
        if self.loss == "reference":
            return 1
        return self.rollouts_per_example + (self.loss == "greedy")


class Reward(_Section):
    """What a rollout is worth. The numbers are the reference's."""

    metric: str = "bleu"
    """bleu | chrf | exact_match | f1 | rouge1 | rouge2 | rougeL | your_package.module:function, or
    a weighted sum such as `0.7*f1 + 0.3*rougeL`."""
    compression_tolerance: Share | None = None
    """A share of the original length; when set, it overrides `compression_relaxation_tokens`."""
    over_compressed: Float = -0.4
    """For a text at or below min(0.1, rate / 2) of the original."""
    out_of_tolerance: Float = -0.1
    """For any other text too far from its target length."""
    length_penalty: Annotated[Float, Field(gt=0.0)] | None = None
    """Taken off for each share of the original beyond the tolerance; when set, it takes the place
    of the two rewards above, and the teacher is asked about texts of any length."""
    refused: Float = 0.4
    """Used under `policy.loss: reference` only; otherwise a refusal is masked."""


class Teacher(_Section):
    """How the trainer reaches the teacher service."""

    url: str | None = None
    """None: TACO_TEACHER_URL, else a service of ours at 127.0.0.1:8080."""
    timeout_s: Annotated[Float, Field(gt=0.0)] = 600.0
    """Total time for one step's completions, retries included."""
    max_failed_share: Share = 0.2
    """A step that loses more of its rollouts than this is refused, and the run stops."""


class Budget(_Section):
    """What a run may spend on its teacher, as the service's ledger counts it; null sets no limit.

    Answers from the store are free. A stopped run goes on with `--resume RUN budget.calls=N`.
    """

    calls: NonNegative | None = None
    """Answers bought, validation included; the step that would need more is not begun."""
    usd: Annotated[Float, Field(ge=0.0)] | None = None
    """Needs the service's `prices`; the step in which it is used up is finished and paid."""


class Reuse(_Section):
    """Learning from the rollouts of finished runs, so that less is asked."""

    runs: tuple[Text, ...] = ()
    """Their folders (`--reuse RUN`); in what decides texts and answers they agree with this run."""
    max_kl: Annotated[Float, Field(gt=0.0)] = 0.05
    """In nats per word, how far from what drew them the policy may be to learn from rollouts."""
    max_asked: Share = 1.0
    """The share of examples asked about at most; the others count, however far their rollouts."""
    min_effective_share: Share = 0.9
    """The least effective sample size of a group (by geometric means of ratios) to learn from."""

    @field_validator("runs", mode="before")
    @classmethod
    def _list_of_runs(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Evaluation(_Section):
    """Validation during training."""

    val_share: Share = 0.05
    """The share of the training file held out when there is no `data.val_file_path`."""
    val_interval: NonNegative = 0
    """Steps between validations; 0: once, after the last step."""
    select_by: Literal["reward", "answers"] = "reward"
    """What makes a validation the best: agreement with the teacher, or with people's `answer`s."""
    keep_best: bool = False
    """Save the compressor of the best validation, not that of the last step."""
    patience: NonNegative = 0
    """Stop after so many validations that are no better; 0: never."""
    rate: Literal["stock", "exact"] = "stock"
    """The cut when compressing with the trained policy; stock is what `llmlingua` deploys."""
    spacing: Literal["stock", "original"] = "stock"
    """How kept words are joined, in training too: `original` leaves them the white space of their
    source, so that code keeps its indentation; `llmlingua` itself folds it."""


class Run(_Section):
    """The run's own name and seed."""

    name: str | None = None
    """The folder `runs/NAME`; None: the config file's name."""
    seed: NonNegative = 42
    """Of the noise and of the order of examples."""
    threads: Positive | None = None
    """Torch's CPU threads; None: torch's choice. Weights depend on it."""

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str | None) -> str | None:
        if name is not None and (not name.strip() or Path(name).name != name or name == ".."):
            raise ValueError(f"expected the name of one folder below runs/, got {name!r}")
        return name


class Config(_Section):
    """One training run, whole."""

    data: Data
    model: Model
    task: Task
    hyperparams: Hyperparams = Hyperparams()
    logging: Logging = Logging()
    device: Device = Device()
    compute: Compute = Compute()
    policy: Policy = Policy()
    reward: Reward = Reward()
    teacher: Teacher = Teacher()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    evaluation: Evaluation = Evaluation()
    run: Run = Run()

    @model_validator(mode="after")
    def _reuse_by_word(self) -> "Config":
        if self.reuse.runs and self.policy.sampler == "exact_count":
            raise ValueError(
                "reuse.runs: needs words that are drawn independently, for each to have a ratio of "
                "its own, and policy.sampler: exact_count draws them together; set rate_held"
            )
        if self.reuse.runs and self.hyperparams.use_context_level_filter:
            raise ValueError(
                "reuse.runs: hyperparams.use_context_level_filter chooses contexts by the policy "
                "of the moment, so that recorded masks are of other texts; set it to false"
            )
        if self.reuse.runs and self.policy.loss == "greedy":
            raise ValueError(
                "reuse.runs: policy.loss: greedy compares with what the run's policy would deploy, "
                "which no recorded run has asked about; set leave_one_out"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_target(self) -> "Config":
        if self.policy.rates and self.hyperparams.target_token >= 1:
            raise ValueError(
                f"policy.rates: {list(self.policy.rates)} has no effect, because "
                f"hyperparams.target_token: {self.hyperparams.target_token} sets every example's "
                "rate; leave one of them out"
            )
        if self.policy.start_rate and (self.policy.rates or self.hyperparams.target_token >= 1):
            raise ValueError(
                f"policy.start_rate: {self.policy.start_rate} leads to one rate, "
                "hyperparams.compression_rate, and policy.rates or hyperparams.target_token set "
                "others; leave it out"
            )
        return self


def resolved(config: Config) -> Mapping[str, Any]:
    """The config as plain data, every default spelt out, for the run folder and the lock."""
    return config.model_dump(mode="json")
