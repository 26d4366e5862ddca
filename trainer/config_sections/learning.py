"""How masks are drawn and computed, what they are worth, and what is learnt from them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trainer.config_sections.fields import Float, NonNegative, Positive, Section, Share, Text


class Policy(Section):
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
        "leave_one_out",
        "group_normalized",
        "greedy",
        "moving_average",
        "none",
        "reference",
        "reference_padded",
    ] = "leave_one_out"
    """The baseline; `greedy`: the text as deployed, one more to ask about for each example;
    `reference`: one rollout, no baseline, log-probs averaged over the words;
    `reference_padded`: pieces are drawn, and the average is over all positions, pads and all."""
    credit: Literal["rollout", "word"] = "rollout"
    """`word`: by question, and scaled by how far the rest of a group shows that a word matters."""
    rollouts_per_example: Positive = 8
    """Masks drawn for each example from one forward pass."""
    passes: Positive = 1
    """Optimiser steps on each batch of rollouts; after the first by clipped ratios of each word."""
    clip_ratio: Annotated[Float, Field(gt=0.0, lt=1.0)] = 0.2
    """How far, in further passes, a word's probability counts as moved."""
    max_kl: Annotated[Float, Field(gt=0.0)] = 0.01
    """No further pass once the policy is so far from the step's first, in nats per word."""
    one_step_ahead: bool = False
    """Draw the next step's masks before this step's update, and have them answered meanwhile: by
    weights one update old, so words are weighted by their ratios."""
    entropy_per_word: Annotated[Float, Field(ge=0.0)] = 0.0
    """Times the entropy summed over a text's words."""
    final_entropy_per_word: Annotated[Float, Field(ge=0.0)] | None = None
    """What `entropy_per_word` moves to, evenly, by the last step; None: it stays."""
    kl_coeff: Annotated[Float, Field(ge=0.0)] = 0.0
    """Times the KL of the policy to the starting compressor's, summed over a text's words."""
    length_tokenizer: str = "auto"
    """What lengths and budgets are counted in: auto | cl100k_base | policy | words | the path of a
    tokenizer.json."""
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
        drawn = 1 if self.is_reference else self.rollouts_per_example
        if self.credit == "word" and drawn < 2:
            raise ValueError(
                "credit: word asks the other rollouts of a group which words matter, so it needs "
                f"at least 2 of them, and got {drawn}; set credit: rollout"
            )
        return self

    @model_validator(mode="after")
    def _drawn_by_position(self) -> "Policy":
        others = self.sampler != "bernoulli" or self.passes > 1 or self.one_step_ahead
        if self.loss == "reference_padded" and others:
            raise ValueError(
                "loss: reference_padded is the reference's, which draws pieces whatever the rate "
                "and learns once from what it drew; set sampler: bernoulli, passes: 1 and "
                "one_step_ahead: false"
            )
        return self

    @property
    def is_reference(self) -> bool:
        """Whether the loss is the reference's: one rollout, no baseline, refusals paid for."""
        return self.loss in ("reference", "reference_padded")

    @property
    def samples(self) -> int:
        """Rollouts per example (S); under the greedy baseline, the deployed text is the last."""
        if self.is_reference:
            return 1
        return self.rollouts_per_example + (self.loss == "greedy")


class Reward(Section):
    """What a rollout is worth. The numbers are the reference's."""

    metric: str = "bleu"
    """bertscore | bleu | chrf | exact_match | f1 | judge | rouge1 | rouge2 | rougeL |
    your_package.module:function, or a weighted sum such as `0.7*f1 + 0.3*rougeL`."""
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


class Reuse(Section):
    """Learning from the rollouts of finished runs, so that less is asked."""

    runs: tuple[Text, ...] = ()
    """Their folders (`--reuse RUN`); in what decides texts and answers they agree with this run."""
    max_kl: Annotated[Float, Field(gt=0.0)] = 0.05
    """In nats per word, how far from what drew them the policy may be to learn from rollouts."""
    max_asked: Share = 1.0
    """The share of examples asked about at most; the others count, however far their rollouts."""
    min_effective_share: Share = 0.9
    """The least effective sample size of a group (by geometric means of ratios) to learn from."""
    imitation: Annotated[Float, Field(ge=0.0)] = 0.02
    """Weight of the KL from the policy that drew a recorded rollout; 0: only rewards count."""

    @field_validator("runs", mode="before")
    @classmethod
    def _list_of_runs(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Compute(Section):
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
