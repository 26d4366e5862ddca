"""What the metrics need that are no functions of two texts alone: a model, or the teacher."""

from typing import Literal

from pydantic import field_validator

from trainer.config_sections.fields import Positive, Section


class BertScore(Section):
    """What `bertscore` in `reward.metric`, or in `taco evaluate --metrics`, compares texts with."""

    model: str | None = None
    """A local folder of an encoder such as roberta-large, or a name on the hub."""
    revision: str | None = None
    """Of a name on the hub: a commit, so that it stays the same model."""
    layer: Positive | None = None
    """Whose output is compared, counted from 1; null: what `bert-score`'s authors found best."""
    idf: bool = False
    """Weigh pieces by their rarity in the reference completions of the training file."""
    baseline_file_path: str | None = None
    """A table of `bert-score` (LAYER,P,R,F) to rescale by: two unrelated texts come to about 0."""


class Judge(Section):
    """What `judge` in a metric asks the teacher about an answer."""

    scale: Literal["1-5", "yes-no"] = "1-5"
    """How a judgement is read: 1 is worth 0 and 5 is worth 1; no and yes likewise."""
    prompt: str | None = None
    """A template with `{completion}` and `{reference}`, and perhaps `{question}` and
    `{transcript}`, the original text; null: our own for the scale."""
    max_tokens: Positive = 16
    """Longest judgement; the other fields of the request are those of `task`."""

    @field_validator("prompt")
    @classmethod
    def _shows_both(cls, prompt: str | None) -> str | None:
        wanted = ("{completion}", "{reference}")
        if prompt is not None and (missing := [each for each in wanted if each not in prompt]):
            raise ValueError(
                f"expected a template with {' and '.join(wanted)}, the texts to compare; it has no "
                f"{' and no '.join(missing)}"
            )
        return prompt
