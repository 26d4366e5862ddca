"""The wire to our own service: many items in one request, an outcome for each of them."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from trainer.rollouts.hop import Deadline, Hop
from trainer.rollouts.parallel import map_concurrently
from trainer.rollouts.wire import Attempt, Spent, failed
from trainer.types import Outcome, Served, TeacherItem, TeacherReply

_CONCURRENT_REQUESTS = 4
_MAX_CHARACTERS = 8_000_000
"""Per request: at four bytes each, half of what the service takes by default."""


class _Completed(BaseModel):
    outcome: Literal["completed"]
    text: str
    key: str
    content_digest: str
    cache: Served

    def attempt(self) -> Attempt:
        return Attempt(
            TeacherReply(Outcome.SCORED, self.text, self.key, self.content_digest, self.cache)
        )


class _Refused(BaseModel):
    outcome: Literal["refused"]
    reason: str
    message: str
    key: str
    content_digest: str
    cache: Served

    def attempt(self) -> Attempt:
        error = f"{self.reason}: {self.message}"
        return Attempt(
            TeacherReply(
                Outcome.REFUSED, "", self.key, self.content_digest, self.cache, error=error
            )
        )


class _Error(BaseModel):
    message: str
    type: str | None = None
    code: str | None = None
    retry_after_s: Annotated[float, Field(ge=0)] = 0.0


class _Failed(BaseModel):
    outcome: Literal["failed"]
    error: _Error

    def attempt(self) -> Attempt:
        error = self.error
        return failed(error.message, error.type, error.code, wait_s=error.retry_after_s)


_Item = Annotated[_Completed | _Refused | _Failed, Field(discriminator="outcome")]


class _Answer(BaseModel):
    data: list[_Item]


class _Amount(BaseModel):
    answers: int
    money: float | None


class _LedgerLine(BaseModel):
    currency: str | None
    spent: _Amount
    saved_by_hits: _Amount
    saved_by_collapsing: _Amount

    @property
    def saved(self) -> tuple[_Amount, _Amount]:
        return self.saved_by_hits, self.saved_by_collapsing


class _Ledger(BaseModel):
    data: list[_LedgerLine]


class _Stats(RootModel[dict[str, Any]]):
    pass


class BatchWire:
    """`POST /v1/teacher/completions`; the service renders the template.

    Args:
        hop: to the service.
        fields: every field of the request but the items.
        max_items_per_request: a larger batch travels as several requests, side by side.
    """

    def __init__(
        self, hop: Hop, fields: Mapping[str, Any], max_items_per_request: int = 512
    ) -> None:
        self._hop = hop
        self._fields = fields
        self._max_items = max_items_per_request

    def ask(
        self, items: Sequence[TeacherItem], deadline: Deadline, asker: Mapping[str, str]
    ) -> list[Attempt]:
        """See `Wire`."""
        batches = list(split(items, self._max_items, _MAX_CHARACTERS))
        answered = map_concurrently(
            lambda batch: self._ask_batch(batch, deadline, asker), batches, _CONCURRENT_REQUESTS
        )
        return [attempt for attempts in answered for attempt in attempts]

    def with_prompt(self, prompt_template: str, sampling: Mapping[str, Any]) -> "BatchWire":
        """See `Wire`."""
        fields = {**self._fields, **sampling, "prompt_template": prompt_template}
        return BatchWire(self._hop, fields, self._max_items)

    def spent(self, run_id: str, deadline: Deadline) -> Spent:
        """See `Wire`."""
        response = self._hop.request("GET", f"/v1/ledger?run={run_id}", deadline)
        if response.status_code == HTTPStatus.NOT_FOUND:  # It has not asked for anything yet.
            return Spent()
        lines = self._hop.read(response, _Ledger).data
        priced = [line for line in lines if line.currency == "USD"]
        saved = [amount for line in priced for amount in line.saved]
        return Spent(
            sum(line.spent.answers for line in lines),
            sum(line.spent.money or 0.0 for line in priced),
            sum(amount.money or 0.0 for amount in saved),
        )

    def stats(self, deadline: Deadline) -> dict[str, Any] | None:
        """See `Wire`."""
        response = self._hop.request("GET", "/v1/cache/stats", deadline)
        return self._hop.read(response, _Stats).root

    def _ask_batch(
        self, batch: Sequence[TeacherItem], deadline: Deadline, asker: Mapping[str, str]
    ) -> list[Attempt]:
        body = {**self._fields, "items": [_wire_item(item) for item in batch]}
        response = self._hop.request("POST", "/v1/teacher/completions", deadline, body, asker)
        answer = self._hop.read(response, _Answer)
        if len(answer.data) != len(batch):
            raise self._hop.misunderstood(f"{len(answer.data)} outcomes for {len(batch)} items")
        return [item.attempt() for item in answer.data]


def _wire_item(item: TeacherItem) -> dict[str, str | None]:
    """As the service takes it; only a replay says which of several answers it wants."""
    wanted = {"content_digest": item.content_digest} if item.content_digest else {}
    return {"text": item.text, "question": item.question, **wanted}


def split(
    items: Sequence[TeacherItem], max_items: int, max_characters: int
) -> Iterator[list[TeacherItem]]:
    """Cut a batch into requests within both limits; one item over the limit travels alone."""
    batch: list[TeacherItem] = []
    characters = 0
    for item in items:
        size = len(item.text) + len(item.question or "")
        if batch and (len(batch) == max_items or characters + size > max_characters):
            yield batch
            batch, characters = [], 0
        batch.append(item)
        characters += size
    if batch:
        yield batch
