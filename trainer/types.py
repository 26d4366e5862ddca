"""The words that all of the trainer uses: what travels from one sub-package to the next.

Shapes are part of a tensor's name, from this legend:

    B examples · S rollouts per example · C chunks · W words · T pieces (model tokens)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that the teacher is asked about an example."""

    question: str | None
    """The text for `{question}` in the prompt template; None where the task has no question."""
    reference_completion: str
    """The teacher's answer on the original prompt (`gpt_output` in data files)."""
    answers: tuple[str, ...] = ()
    """Humans' answers, each as good as the others; reported beside the reward, never trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One record of the data set."""

    id: str
    """The record's key in its file: names the example in noise, logs and lock."""
    contexts: tuple[str, ...]
    """The original prompt; a single text unless the record gave a list of contexts."""
    questions: tuple[Question, ...]
    """Every question is answered from the same compressed text; the reward is their mean."""

    @property
    def original_prompt(self) -> str:
        """The uncompressed text, joined as the stock package joins contexts."""
        return "\n\n".join(self.contexts)


class Outcome(StrEnum):
    """How a rollout ended. A float cannot say this: a failed call is not a reward of zero."""

    SCORED = "scored"
    """The teacher answered; the reward is the metric."""
    OUT_OF_RANGE = "out_of_range"
    """The compressed text missed the target length; it never reached the teacher."""
    REFUSED = "refused"
    """The API declared a refusal or a content filter; masked in loss and baseline."""
    UNJUDGED = "unjudged"
    """The teacher answered, and as a judge of that answer gave no score; masked likewise."""
    FAILED = "failed"
    """No answer after retries; masked in loss and baseline."""


class Served(StrEnum):
    """Where a completion came from, in the service's words."""

    HIT = "hit"
    MISS = "miss"
    COLLAPSED = "collapsed"


@dataclass(frozen=True, slots=True)
class TeacherItem:
    """One thing to ask: a text for `{transcript}`, and a question for `{question}`."""

    text: str
    question: str | None = None
    content_digest: str | None = None
    """The answer that a replay wants back, 64 hex digits; None: whichever answer there is."""


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """What came back for one item."""

    outcome: Outcome
    """SCORED means answered (there is a text to score); REFUSED or FAILED otherwise."""
    text: str = ""
    """The whole answer, possibly empty; empty unless the outcome is SCORED."""
    fingerprint: str | None = None
    """The cache key, 64 hex digits; None from a server that is not ours, and for a failure."""
    content_digest: str | None = None
    """SHA-256 of the answer as the cache computes it, 64 hex digits; None where there is none."""
    served: Served | None = None
    """How the service came by it; None for a failure and from a server that is not ours."""
    error: str | None = None
    """Why it was refused or failed; None for an answer."""


Ask = Callable[[Sequence[TeacherItem]], Sequence[TeacherReply]]
"""The teacher: a reply for each item, in order."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rollout was recorded that this run did not draw itself."""

    run: int
    """Its place among the config's `reuse.runs`, from 0."""
    step: int
    """Of that run."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One compression of one example, with its completions and outcome."""

    example_id: str
    sample_index: int
    keep_mask: tuple[bytes, ...]
    """One entry per chunk: the W keep bits, packed with the most significant bit first."""
    compressed_text: str
    original_tokens: int
    compressed_tokens: int
    outcome: Outcome
    reward: float | None
    """None exactly when the outcome is REFUSED, UNJUDGED or FAILED."""
    length_case: str | None
    """Which rule of the length check applied ("over_compressed", "out_of_tolerance"), or None."""
    replies: tuple[TeacherReply, ...] = ()
    """One per question, in the example's order; empty when the teacher was not asked."""
    judgements: tuple[TeacherReply, ...] = ()
    """What the teacher, as a judge, said of the replies, in their order; of an empty one, nothing.
    Empty where the reward needs no judge."""
    scores: tuple[float, ...] = ()
    """The metric of each question's answer; empty unless the outcome is SCORED. The reward is their
    mean, less what the length costs."""
    target_rate: float = 0.0
    """Compressed / original tokens that it aimed at."""
    log_odds: tuple[bytes, ...] = ()
    """One entry per chunk: each word's log-odds of being kept when the mask was drawn, float32;
    empty where words are not drawn independently of each other."""
    source: Source | None = None
    """None: it was drawn in this step."""
