"""The wire to any other OpenAI-compatible server: one chat completion for each item.

Nothing is cached on this way and no fingerprint comes back, so that such a run has no lock file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
from pydantic import BaseModel, Field

from trainer.rollouts.hop import Deadline, Hop, error_of
from trainer.rollouts.parallel import map_concurrently
from trainer.rollouts.prompts import render
from trainer.rollouts.wire import Attempt, failed
from trainer.types import Outcome, TeacherItem, TeacherReply

_FILTERED = "content_filter"
_ANSWERED_OR_HOPELESS = frozenset({200, 401, 403, 404})
"""An answer, or a bad key, no permission, an unknown model: no other item would fare better."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class ChatWire:
    """`POST {root}/chat/completions`; the template is rendered here.

    Args:
        hop: to the API's base URL, `/v1` included.
        fields: the model and every sampling field.
        prompt_template: with `{transcript}` and perhaps `{question}`.
        system_message: None sends none.
        max_concurrency: requests under way at a time.
    """

    def __init__(
        self,
        hop: Hop,
        fields: Mapping[str, Any],
        prompt_template: str,
        system_message: str | None,
        max_concurrency: int = 16,
    ) -> None:
        self._hop = hop
        self._fields = fields
        self._template = prompt_template
        self._system_message = system_message
        self._max_concurrency = max_concurrency

    def ask(
        self,
        items: Sequence[TeacherItem],
        deadline: Deadline,
        asker: Mapping[str, str],  # noqa: ARG002 (other servers keep no ledger of runs)
    ) -> list[Attempt]:
        """See `Wire`. Equal items are asked once, as our service would."""
        unique = list(dict.fromkeys(items))
        attempts = map_concurrently(
            lambda item: self._ask_one(item, deadline), unique, self._max_concurrency
        )
        attempt_of = dict(zip(unique, attempts, strict=True))
        return [attempt_of[item] for item in items]

    def with_prompt(self, prompt_template: str, sampling: Mapping[str, Any]) -> "ChatWire":
        """See `Wire`."""
        fields = {**self._fields, **sampling}
        limit = self._max_concurrency
        return ChatWire(self._hop, fields, prompt_template, self._system_message, limit)

    def spent(self, run_id: str, deadline: Deadline) -> None:
        """See `Wire`."""

    def stats(self, deadline: Deadline) -> None:
        """See `Wire`."""

    def _ask_one(self, item: TeacherItem, deadline: Deadline) -> Attempt:
        prompt = render(self._template, item.text, item.question)
        messages = [{"role": "user", "content": prompt}]
        if self._system_message is not None:
            messages.insert(0, {"role": "system", "content": self._system_message})
        body = {**self._fields, "messages": messages}
        response = self._hop.request("POST", "/chat/completions", deadline, body)
        if response.status_code in _ANSWERED_OR_HOPELESS:
            return _answered(self._hop.read(response, _Answer).choices[0])
        return _unanswered(response)


def _answered(choice: _Choice) -> Attempt:
    """A refusal is what the API declares, never guessed from the text."""
    refusal = choice.message.refusal
    if refusal is None and choice.finish_reason == _FILTERED:
        refusal = _FILTERED
    if refusal is not None:
        return Attempt(TeacherReply(Outcome.REFUSED, error=refusal))
    return Attempt(TeacherReply(Outcome.SCORED, choice.message.content or ""))


def _unanswered(response: httpx2.Response) -> Attempt:
    error = error_of(response)
    if error.get("code") == _FILTERED:
        return Attempt(TeacherReply(Outcome.REFUSED, error=f"{_FILTERED}: {error['message']}"))
    message = f"HTTP {response.status_code}: {error['message']}"
    return failed(message, error.get("type"), error.get("code"))
