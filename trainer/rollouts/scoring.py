"""What answers are worth: by metrics, which need nobody, and by a judge, which is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.config import Config
from trainer.config_sections.scoring import Judge as JudgeSettings
from trainer.rollouts.judge import PROMPT_AS_IT_IS, Comparison, Judge, make_judge
from trainer.rollouts.scores import JUDGE, Metric, load_metric, model_metrics, terms
from trainer.rollouts.teacher_client import TeacherClient
from trainer.types import Ask, Outcome, TeacherItem, TeacherReply


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer is worth."""

    score: float | None
    """None: the judge did not say."""
    judgement: TeacherReply | None = None
    """What the judge said; None where it was not asked: an empty answer is worth 0."""

    @property
    def outcome(self) -> Outcome:
        """SCORED, UNJUDGED, or FAILED where the judge could not be asked."""
        if self.score is not None:
            return Outcome.SCORED
        failed = self.judgement and self.judgement.outcome is Outcome.FAILED
        return Outcome.FAILED if failed else Outcome.UNJUDGED


@dataclass(frozen=True, slots=True)
class Scorer:
    """A reward's metric, or an evaluation's: a judge, a metric, or a weighted sum of both."""

    name: str
    """As in the config."""
    signature: str
    """What reproduces a figure."""
    metric: Metric | None
    """All of it that needs nobody; None: the judge decides alone."""
    judge: Judge | None = None
    judge_weight: float = 0.0

    def score(
        self,
        answers: Sequence[Comparison],
        ask: Ask | None = None,
        recorded: Sequence[TeacherReply | None] = (),
    ) -> list[Verdict]:
        """Score answers, in their order.

        Args:
            answers: what to score.
            ask: the judge, where there is one; equal prompts are asked once.
            recorded: a replay's judgements, one for each answer, None where the judge was not
                asked. One that failed, or was refused, stands.

        Raises:
            TeacherError: the judge cannot be asked.
        """
        pairs = [(answer.completion, answer.reference) for answer in answers]
        scores = self.metric.score(pairs) if self.metric else [0.0] * len(answers)
        if self.judge is None:
            return list(map(Verdict, scores))
        judgements = self._judgements(answers, ask, recorded or [None] * len(answers))
        return [
            self._verdict(score, judgement)
            for score, judgement in zip(scores, judgements, strict=True)
        ]

    def _verdict(self, score: float, judgement: TeacherReply | None) -> Verdict:
        if judgement is None:
            return Verdict(score)
        assert self.judge
        said = self.judge.read(judgement.text) if judgement.outcome is Outcome.SCORED else None
        return Verdict(None if said is None else score + self.judge_weight * said, judgement)

    def _judgements(
        self,
        answers: Sequence[Comparison],
        ask: Ask | None,
        recorded: Sequence[TeacherReply | None],
    ) -> Iterator[TeacherReply | None]:
        assert self.judge
        assert ask
        asked: list[TeacherItem | TeacherReply | None] = []
        for answer, before in zip(answers, recorded, strict=True):
            if not answer.completion.strip():
                asked.append(None)
            elif before and before.outcome is not Outcome.SCORED:
                asked.append(before)
            else:
                asked.append(self.judge.item(answer, before.content_digest if before else None))
        items = list(dict.fromkeys(each for each in asked if isinstance(each, TeacherItem)))
        replies = dict(zip(items, ask(items), strict=True)) if items else {}
        return (replies[each] if isinstance(each, TeacherItem) else each for each in asked)


def load_scorer(
    config: Config,
    name: str | None = None,
    *,
    device: str | None = None,
    teacher: str | None = None,
) -> Scorer:
    """What a config scores by.

    Args:
        config: of the run.
        name: of the metric, or a weighted sum; None: the reward's.
        device: where a metric's model runs; None: as the config says.
        teacher: the judge's digest, for the signature.

    Raises:
        ConfigError, ModelError: there is no such metric, or its model cannot be used.
    """
    name = name or config.reward.metric
    plain, weight = without_judge(name)
    metric = load_metric(plain, model_metrics(config, device)) if plain else None
    judge = judge_of(config, name)
    if judge is None:
        assert metric
        return Scorer(name, metric.signature, metric)
    judged = judge.signature + (f"|teacher:{teacher[:16]}" if teacher else "")
    parts = [metric.signature] if metric else []
    signature = " + ".join([*parts, f"{weight:g}*[{judged}]"])
    return Scorer(name, signature, metric, judge, weight)


def judge_of(config: Config, name: str) -> Judge | None:
    """The judge that a metric asks; None where it asks none."""
    if not without_judge(name)[1]:
        return None
    return make_judge(config.judge, asks_questions="{question}" in config.task.prompt)


def open_judge(settings: JudgeSettings, teacher: TeacherClient) -> TeacherClient:
    """The teacher as a judge; it counts for itself what it is asked."""
    return teacher.with_prompt(PROMPT_AS_IT_IS, {"max_tokens": settings.max_tokens})


def without_judge(name: str) -> tuple[str | None, float]:
    """What is left of a metric without its judge, None where that is nothing; the judge's weight.

    Raises:
        ConfigError: a term is no positive weight * metric.
    """
    every = terms(name)
    weight = sum(weight for weight, each in every if each == JUDGE)
    if not weight:
        return name, 0.0
    left = [f"{weight!r}*{each}" for weight, each in every if each != JUDGE]
    return " + ".join(left) or None, weight
