"""From compressed texts to rollouts: lengths first, then the teacher, then the reward.

A text outside the tolerance never reaches the teacher; the rest travels as one request.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

import numpy as np

from trainer.errors import TooManyFailures
from trainer.rollouts.judge import Comparison
from trainer.rollouts.rewards import RewardConstants, length_case, length_penalty
from trainer.rollouts.scoring import Scorer, Verdict
from trainer.types import Ask, Example, Outcome, Rollout, Source, TeacherItem, TeacherReply
from trainer.visible import clipped

Place = tuple[str, int]
"""Example id and sample index: where a rollout belongs within its step."""

_WORST_FIRST = (Outcome.FAILED, Outcome.REFUSED, Outcome.UNJUDGED)
_SHOWN = 80
"""Characters of a judgement in a message."""


@dataclass(frozen=True, slots=True)
class CompressedText:
    """One compression of one example, before anyone has judged it."""

    example: Example
    sample_index: int
    keep_mask: tuple[np.ndarray, ...]
    """One bool (W,) per chunk: the action, before `drop_consecutive`."""
    text: str
    original_tokens: int
    compressed_tokens: int
    target_rate: float
    log_odds: tuple[bytes, ...] = ()
    """As in `Rollout`."""
    source: Source | None = None
    """As in `Rollout`."""
    replies: tuple[TeacherReply, ...] | None = None
    """What the teacher said of it when it was recorded; None: it was not."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run that is being replayed got for one text: outcomes and digests, no texts."""

    replies: Sequence[TeacherReply] = ()
    judgements: Sequence[TeacherReply] = ()


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How far a compressed text may lie from its target, in tokens or as a share."""

    relaxation_tokens: int
    tolerance: float | None
    """A share of the original length; when set, it overrides `relaxation_tokens`."""
    penalty: float | None = None
    """Price of a whole original's length beyond the tolerance; None: such texts are not asked
    about, and earn what they earn by rule."""

    def case(self, compressed: CompressedText) -> str | None:
        """Which length rule applies, or None: the text is worth asking about."""
        if self.penalty is not None:
            return None
        original = compressed.original_tokens
        allowed = self.allowed(original)
        return length_case(original, compressed.compressed_tokens, compressed.target_rate, allowed)

    def penalty_of(self, compressed: CompressedText) -> float:
        """What a text of the wrong length loses of its reward; 0 within the tolerance."""
        original = max(compressed.original_tokens, 1)
        return length_penalty(
            compressed.compressed_tokens / original,
            compressed.target_rate,
            self.allowed(original) / original,
            self.penalty or 0.0,
        )

    def longest(self, original_tokens: int, rate: float) -> float:
        """Tokens of the longest text that the teacher is asked about."""
        if self.penalty is not None:
            return original_tokens
        return min(rate * original_tokens + self.allowed(original_tokens), original_tokens)

    def allowed(self, original_tokens: int) -> float:
        """Tokens that a compressed text may lie from its target."""
        return (
            self.relaxation_tokens if self.tolerance is None else self.tolerance * original_tokens
        )


def collect(
    texts: Sequence[CompressedText],
    ask: Ask,
    scorer: Scorer,
    lengths: LengthRule,
    constants: RewardConstants,
    recorded: Mapping[Place, Recorded],
    ask_judge: Ask | None = None,
) -> list[Rollout]:
    """Judge a step's texts; the result is in their order, whatever the order of arrival.

    Args:
        texts: every rollout of the step.
        ask: the teacher; one reply per item, in order.
        scorer: of completions and their reference completions, once for the whole step.
        lengths: which texts are worth asking about.
        constants: what a text is worth that is not.
        recorded: a replay's replies. Answers are asked for by their digests; refusals and
            failures stand as they are, whatever the store holds by now.
        ask_judge: the teacher as the scorer's judge, where it has one.
    """
    standing = _standing(texts, recorded)
    fresh = iter(ask(items_to_ask(texts, lengths, recorded)))
    cases = list(map(lengths.case, texts))
    replies = [
        _replies_for(text, case, fresh, standing) for text, case in zip(texts, cases, strict=True)
    ]
    answers = [_answers(text.example, each) for text, each in zip(texts, replies, strict=True)]
    judged = [
        _judged_before(each, recorded.get(_place(text), Recorded()))
        for text, each in zip(texts, answers, strict=True)
    ]
    compared, before = list(chain.from_iterable(answers)), list(chain.from_iterable(judged))
    verdicts = iter(scorer.score(compared, ask_judge, before))
    return [
        _judge(text, case, each, tuple(islice(verdicts, len(its_answers))), lengths, constants)
        for text, case, each, its_answers in zip(texts, cases, replies, answers, strict=True)
    ]


def items_to_ask(
    texts: Sequence[CompressedText],
    lengths: LengthRule,
    recorded: Mapping[Place, Recorded],
) -> list[TeacherItem]:
    """What `collect` asks the teacher, with the same arguments: text by text, in their order."""
    standing = _standing(texts, recorded)
    return [
        item
        for text in texts
        if lengths.case(text) is None and _place(text) not in standing
        for item in _items(text, recorded.get(_place(text), Recorded()).replies)
    ]


def _standing(
    texts: Sequence[CompressedText], recorded: Mapping[Place, Recorded]
) -> dict[Place, tuple[TeacherReply, ...]]:
    """Replies that are taken as they are."""
    return {
        place: tuple(each.replies)
        for place, each in recorded.items()
        if any(reply.outcome is not Outcome.SCORED for reply in each.replies)
    } | {_place(text): text.replies for text in texts if text.replies is not None}


def check_failures(rollouts: Sequence[Rollout], max_failed_share: float) -> None:
    """Refuse a step that lost too much to failed calls, before anything is learnt from it.

    Raises:
        TooManyFailures: with the share, the bound, and one of the reasons.
    """
    asked = [rollout for rollout in rollouts if rollout.source is None]
    failed = [each for each in asked if each.outcome in (Outcome.FAILED, Outcome.UNJUDGED)]
    if len(failed) <= max_failed_share * len(asked):
        return
    raise TooManyFailures(
        f"{len(failed)} of {len(asked)} rollouts of this step failed, more than "
        f"teacher.max_failed_share ({max_failed_share}) allows; the step was not trained on. "
        f"The first reason: {_reason(failed[0])}. Mend the teacher, then resume the run"
    )


def _reason(failed: Rollout) -> str | None:
    """Why a rollout has no reward."""
    heard = (*failed.replies, *failed.judgements)
    if error := next((reply.error for reply in heard if reply.outcome is Outcome.FAILED), None):
        return error
    said = failed.judgements[0]
    if said.outcome is Outcome.REFUSED:
        return f"the judge refused: {said.error}"
    texts = [clipped(reply.text, _SHOWN) for reply in failed.judgements]
    return f"the judge gave no score that can be read (judge.scale): {texts}"


def _place(text: CompressedText) -> Place:
    return text.example.id, text.sample_index


def _items(text: CompressedText, recorded: Sequence[TeacherReply]) -> Iterator[TeacherItem]:
    # A text that was not asked about when the run was recorded wants no answer in particular.
    digests = chain((reply.content_digest for reply in recorded), repeat(None))
    for question, digest in zip(text.example.questions, digests, strict=False):
        yield TeacherItem(text.text, question.question, digest)


def _replies_for(
    text: CompressedText,
    case: str | None,
    replies: Iterator[TeacherReply],
    standing: Mapping[Place, tuple[TeacherReply, ...]],
) -> tuple[TeacherReply, ...]:
    if case is not None:
        return ()
    if (place := _place(text)) in standing:
        return standing[place]
    return tuple(next(replies) for _ in text.example.questions)


def _judge(
    text: CompressedText,
    case: str | None,
    replies: tuple[TeacherReply, ...],
    verdicts: Sequence[Verdict],
    lengths: LengthRule,
    constants: RewardConstants,
) -> Rollout:
    reward: float | None = None
    scores = tuple(verdict.score for verdict in verdicts if verdict.score is not None)
    if case is not None:
        outcome, reward = Outcome.OUT_OF_RANGE, constants.for_case(case)
    else:
        outcome = _worst([*replies, *verdicts])
    if outcome is Outcome.SCORED:
        reward = sum(scores) / len(scores) - lengths.penalty_of(text)
    return Rollout(
        example_id=text.example.id,
        sample_index=text.sample_index,
        keep_mask=tuple(np.packbits(mask).tobytes() for mask in text.keep_mask),
        compressed_text=text.text,
        original_tokens=text.original_tokens,
        compressed_tokens=text.compressed_tokens,
        outcome=outcome,
        reward=reward,
        length_case=case,
        replies=replies,
        judgements=tuple(verdict.judgement for verdict in verdicts if verdict.judgement),
        scores=scores if outcome is Outcome.SCORED else (),
        target_rate=text.target_rate,
        log_odds=text.log_odds,
        source=text.source,
    )


def _worst(heard: Sequence[TeacherReply | Verdict]) -> Outcome:
    """Of a rollout: one question that failed makes it failed."""
    outcomes = {each.outcome for each in heard}
    return next((each for each in _WORST_FIRST if each in outcomes), Outcome.SCORED)


def _answers(example: Example, replies: Sequence[TeacherReply]) -> list[Comparison]:
    """What is to be scored, one for each question; nothing where one is without an answer."""
    if not replies or _worst(replies) is not Outcome.SCORED:
        return []
    return [
        Comparison(
            reply.text, question.reference_completion, question.question, example.original_prompt
        )
        for reply, question in zip(replies, example.questions, strict=True)
    ]


def _judged_before(
    answers: Sequence[Comparison], recorded: Recorded
) -> Iterator[TeacherReply | None]:
    """The recorded judgement of each answer; an empty one had none."""
    judgements = iter(recorded.judgements)
    return (next(judgements, None) if answer.completion.strip() else None for answer in answers)
