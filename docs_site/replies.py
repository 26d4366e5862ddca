"""What the routes answer, as schemas for the OpenAPI document; a test holds the service to them.

The service writes its answers itself, so that a hit costs no validation.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from cache import StoreStats
from cache.ledger import KeyUse
from cache.verifying import Finding
from teacher_service.outcomes import Counters
from teacher_service.replies import NDJSON
from teacher_service.settings import PriceSettings

_Object: TypeAlias = dict[str, Any]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _OpenReply(BaseModel):
    """More may come, as the backend brought it."""

    model_config = ConfigDict(extra="allow")


class ErrorObject(_Reply):
    message: str
    type: str
    param: str | None
    code: str | None
    retry_after_s: float | None = None
    explanation: _Object | None = None


class Error(_Reply):
    error: ErrorObject


class ChatMessage(_OpenReply):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class ChatChoice(_OpenReply):
    index: int
    message: ChatMessage
    logprobs: _Object | None
    finish_reason: str


class TextChoice(_OpenReply):
    index: int
    text: str
    logprobs: _Object | None
    finish_reason: str


class _Completions(_Reply):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: _Object | None = None


class ChatCompletion(_Completions):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(_Completions):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class CompletedItem(_Reply):
    index: int
    outcome: Literal["completed"]
    text: str
    finish_reason: str
    usage: _Object | None
    key: str
    content_digest: str
    cache: Literal["hit", "miss", "collapsed"]


class RefusedItem(_Reply):
    index: int
    outcome: Literal["refused"]
    reason: str
    message: str
    key: str
    content_digest: str
    cache: Literal["hit", "miss", "collapsed"]


class FailedItem(_Reply):
    index: int
    outcome: Literal["failed"]
    error: ErrorObject
    key: str


class Batch(_Reply):
    object: Literal["teacher.completions"]
    model: str
    teacher: str
    data: list[CompletedItem | RefusedItem | FailedItem]


class Model(_Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(_Reply):
    object: Literal["list"]
    data: list[Model]


class Alive(_Reply):
    status: Literal["ok"]
    service: Literal["taco-teacher"]
    version: str


class Readiness(_Reply):
    status: Literal["ready", "unavailable"]
    reason: str | None = None


class TeacherName(_Reply):
    name: str
    digest: str
    backend: str


class Stats(_Reply):
    mode: str
    teacher: TeacherName
    prices: PriceSettings | None
    since_start: Counters
    store: StoreStats


class LookedUp(_Reply):
    index: int
    key: str
    stored: bool
    content_digest: str | None = None
    created_at: float | None = None
    explanation: _Object | None = None


class LookUp(_Reply):
    object: Literal["cache.lookup"]
    data: list[LookedUp]


class Entry(_Reply):
    object: Literal["cache.entry"]
    key: str
    document: _Object
    compressed_text: str | None
    created_at: float
    completion: _Object | None
    alternates: list[_Object]
    refusals: list[_Object]
    served: str
    uses: list[KeyUse]


class Conflict(_Reply):
    key: str
    served: str
    other: str


class Import(_Reply):
    object: Literal["cache.import"]
    added: int
    same: int
    conflicts: int
    refusals_superseded: int
    teachers_added: int
    named: list[Conflict]


class Verification(_Reply):
    object: Literal["cache.verification"]
    rows: int
    bad: int
    named: list[Finding]


class ChangedAnswer(_Reply):
    prompt: str
    recorded: str | None
    seen: str | None


class Canary(_Reply):
    recorded_at: float
    checked_at: float | None
    prompts: int
    counting: int
    changed: list[ChangedAnswer]


class CanaryCheck(Canary):
    object: Literal["canary"]
    teacher: str


class Teacher(_Reply):
    digest: str
    name: str
    backend: str
    definition: _Object
    registered_at: float | None
    served: bool
    canary: Canary | None


class Teachers(_Reply):
    object: Literal["list"]
    data: list[Teacher]


class LedgerAmount(_Reply):
    answers: int
    unmetered: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None


class LedgerLine(_Reply):
    teacher: str
    name: str
    currency: str | None
    spent: LedgerAmount
    saved_by_hits: LedgerAmount
    saved_by_collapsing: LedgerAmount


class Ledger(_Reply):
    object: Literal["ledger"]
    run: str | None
    data: list[LedgerLine]


class Run(_Reply):
    id: str
    object: Literal["run"]
    started_at: float
    last_used_at: float
    answers: dict[str, int]


class Runs(_Reply):
    object: Literal["list"]
    data: list[Run]


class RunDetails(Run):
    keys: int
    first_step: int | None
    last_step: int | None
    ledger: list[LedgerLine]


_EVENTS = "text/event-stream"

REPLIES: Mapping[tuple[str, str], tuple[type[BaseModel] | None, tuple[str, ...]]] = {
    ("POST", "/v1/chat/completions"): (ChatCompletion, (_EVENTS,)),
    ("POST", "/v1/completions"): (TextCompletion, (_EVENTS,)),
    ("POST", "/v1/teacher/completions"): (Batch, (NDJSON,)),
    ("GET", "/v1/models"): (Models, ()),
    ("GET", "/v1/models/{name}"): (Model, ()),
    ("GET", "/livez"): (Alive, ()),
    ("GET", "/readyz"): (Readiness, ()),
    ("GET", "/metrics"): (None, ("text/plain",)),
    ("GET", "/v1/cache/stats"): (Stats, ()),
    ("POST", "/v1/cache/lookup"): (LookUp, ()),
    ("GET", "/v1/cache/entries/{key}"): (Entry, ()),
    ("GET", "/v1/cache/export"): (None, (NDJSON,)),
    ("POST", "/v1/cache/import"): (Import, ()),
    ("POST", "/v1/cache/verify"): (Verification, ()),
    ("GET", "/v1/teachers"): (Teachers, ()),
    ("POST", "/v1/teachers/canary"): (CanaryCheck, ()),
    ("GET", "/v1/runs"): (Runs, ()),
    ("GET", "/v1/runs/{name}"): (RunDetails, ()),
    ("GET", "/v1/ledger"): (Ledger, ()),
}
"""By method and path: the JSON of an answer (None: there is none), and its other media types."""
