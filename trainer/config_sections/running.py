"""What a run asks, what it may spend, how it is validated, and what it is called."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config_sections.fields import Float, NonNegative, Positive, Section, Share


class Teacher(Section):
    """How the trainer reaches the teacher service."""

    url: str | None = None
    """None: TACO_TEACHER_URL, else a service of ours at 127.0.0.1:8080."""
    timeout_s: Annotated[Float, Field(gt=0.0)] = 600.0
    """Total time for one step's completions, retries included."""
    max_failed_share: Share = 0.2
    """A step that loses more of its rollouts than this is refused, and the run stops."""


class Budget(Section):
    """What a run may spend on its teacher, as the service's ledger counts it; null sets no limit.

    Answers from the store are free. A stopped run goes on with `--resume RUN budget.calls=N`.
    """

    calls: NonNegative | None = None
    """Answers bought, validation included; the step that would need more is not begun."""
    usd: Annotated[Float, Field(ge=0.0)] | None = None
    """Needs the service's `prices`; the step in which it is used up is finished and paid."""


class Evaluation(Section):
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
    rate: Literal["stock", "exact", "threshold"] = "stock"
    """The cut when compressing with the trained policy; stock is what `llmlingua` deploys;
    `threshold`: one for all texts, so that together they meet the rate, stored with the model."""
    spacing: Literal["stock", "original"] = "stock"
    """How kept words are joined, in training too: `original` leaves them the white space of their
    source, so that code keeps its indentation; `llmlingua` itself folds it."""


class Run(Section):
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
