"""The reference implementation's sections, with its keys and defaults."""

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from trainer.config_sections.fields import Float, NonNegative, Positive, Section, Text


class Data(Section):
    """Where examples come from."""

    train_file_path: str
    """JSON object, keys "0".."n-1", values `{original_prompt, gpt_output}` and more."""
    val_file_path: str | None = None
    """A file of the same shape; None: `evaluation.val_share` of the training file, by hash."""


class Model(Section):
    """The compressor to start from, and where the trained one goes."""

    model_load_path: str
    """A local folder, or a name on the hub."""
    trained_model_output_dir_hf: str = "models/reinforce_trained_model"
    """Relative to the run's folder."""


class Task(Section):
    """What the teacher is asked."""

    prompt: str
    """The template; `{transcript}` and `{question}` are replaced literally, once."""
    gpt_model: str = "gpt-35-turbo"
    """The teacher's name at the service, whose config maps it to a model."""
    max_tokens: Positive = 1500
    """Longest answer that the teacher may give."""
    system_message: str | None = "You are a helpful assistant."
    """Sent before the prompt; null sends none."""
    sampling: dict[str, JsonValue] = Field(default={"temperature": 0, "top_p": 1, "seed": 42})
    """Further fields of the request; all of them are part of the cache key."""

    @field_validator("prompt")
    @classmethod
    def _has_transcript(cls, prompt: str) -> str:
        if "{transcript}" not in prompt:
            raise ValueError(
                "expected a template with {transcript}, where the text goes; it has none"
            )
        return prompt


class Hyperparams(Section):
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


class Logging(Section):
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


class Device(Section):
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
