"""The service's errors: one tree for what a client is told, one for what stops a start.

ServiceError                a client is told; OpenAI's error body, the status below
├── BadRequest              400  malformed body, header or template
├── Unauthenticated         401  no key, or none of ours
├── Forbidden               403  the key, the Host or the Origin does not allow it
├── UnknownModel            404  no teacher is served under that name
├── NotStored               404  no such entry in the store, or no such run
├── NoSuchRoute             4xx  what the router itself refuses
├── BodyTooLarge            413
├── Overloaded              429  too many completions in flight here; wait and ask again
├── CacheMiss               504  replay, or `only-if-cached`, and no answer is stored
├── DeadlineExceeded        504  the client's own deadline passed first
├── DatabaseAway            503  the store's database does not answer; ask again
├── StoreUnavailable        507  the store cannot take another answer
└── UpstreamError           502  the upstream failed, after every retry it was worth
    ├── UpstreamRejected    400  the upstream refused this very request
    ├── UpstreamDenied      502  the upstream does not take our key
    ├── UpstreamAway        503  it failed again and again, and is left alone for now
    ├── TeacherChanged      502  it answers the canary otherwise than when it was recorded
    ├── UpstreamBusy        429  the upstream's rate limit outlasted our patience
    ├── QuotaExhausted      429  the upstream's account has nothing left
    └── BudgetExhausted     429  our own budget has nothing left

StartError                  the service cannot start
└── SettingsError           the settings are wrong; carries every problem found
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import ClassVar

from cache import CacheError, CanonicalError, StoreError, StoreUnreachable, StoreUnwritable

_log = logging.getLogger(__name__)


class ServiceError(Exception):
    """Base of everything that a client is told; also the fallback for a fault of our own.

    A backend yields these as values: one failed completion is no reason to lose a batch.
    """

    status: int = 500
    type: str = "server_error"
    worth_retrying: ClassVar[bool] = True
    """False tells an OpenAI client (`x-should-retry`) not to ask again by itself."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class BadRequest(ServiceError):
    """The request is malformed."""

    status = 400
    type = "invalid_request_error"


class Unauthenticated(ServiceError):
    """No key came with the request, or none that this service knows."""

    status = 401
    type = "invalid_request_error"


class Forbidden(ServiceError):
    """The caller's key, the name it used or the page it comes from does not allow this."""

    status = 403
    type = "invalid_request_error"


class UnknownModel(ServiceError):
    """No teacher is served under that name."""

    status = 404
    type = "invalid_request_error"


class NotStored(ServiceError):
    """The store holds no such entry, or knows no such run."""

    status = 404
    type = "invalid_request_error"
    worth_retrying = False


class NoSuchRoute(ServiceError):
    """The router knows no such path or method; carries the router's own status."""

    type = "invalid_request_error"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BodyTooLarge(ServiceError):
    """The body is over the limit of the settings."""

    status = 413
    type = "invalid_request_error"


class Overloaded(ServiceError):
    """Too many completions are in flight already."""

    status = 429
    type = "rate_limit_error"


class CacheMiss(ServiceError):
    """No answer is stored, and this request may not go upstream."""

    status = 504
    type = "cache_miss"
    worth_retrying = False

    def __init__(self, message: str, *, explanation: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.explanation = explanation
        """The nearest stored request and how it differs; None: not looked for."""


class DeadlineExceeded(ServiceError):
    """The deadline passed; the work goes on, and its answer is stored for the next request."""

    status = 504
    type = "deadline_exceeded"


class StoreUnavailable(ServiceError):
    """The store cannot take another answer, so the upstream was not asked for one."""

    status = 507
    type = "store_unavailable"
    worth_retrying = False


class DatabaseAway(ServiceError):
    """The store's database does not answer, so that nothing can be looked up or kept."""

    status = 503
    type = "store_unavailable"


class UpstreamError(ServiceError):
    """The upstream failed. The service has retried already; another layer would multiply that."""

    status = 502
    type = "upstream_error"
    worth_retrying = False


class UpstreamRejected(UpstreamError):
    """The upstream refused this very request, in a way that asking again cannot mend."""

    status = 400
    type = "invalid_request_error"


class UpstreamDenied(UpstreamError):
    """The upstream does not take our key; whoever runs the service has to look."""


class UpstreamAway(UpstreamError):
    """The upstream failed again and again; nobody asks it until its rest is over."""

    status = 503


class TeacherChanged(UpstreamError):
    """The teacher answers the canary otherwise than it did, and the settings refuse to go on."""

    type = "teacher_changed"


class UpstreamBusy(UpstreamError):
    """The upstream's rate limit outlasted the time given to one completion."""

    status = 429
    type = "rate_limit_error"


class QuotaExhausted(UpstreamError):
    """The upstream's account has nothing left; waiting does not help."""

    status = 429
    type = "insufficient_quota"


class BudgetExhausted(UpstreamError):
    """The settings' budget of calls or money is used up; nothing more is asked upstream."""

    status = 429
    type = "budget_exhausted"


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


class SettingsError(StartError):
    """The settings are wrong; `problems` lists every fault, one sentence each."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        noun = "problem" if len(problems) == 1 else "problems"
        super().__init__("\n".join([f"{source}: {len(problems)} {noun}", *problems]))


def store_problem(error: StoreError) -> ServiceError:
    """What a client is told when its answer could not be kept."""
    if isinstance(error, StoreUnreachable):
        return DatabaseAway(str(error), retry_after_s=1)
    return StoreUnavailable(str(error))


def as_service_error(error: Exception) -> ServiceError:
    """What a client is told about any exception.

    The text of an unforeseen one may quote a prompt: it reaches neither the answer nor the log.
    """
    match error:
        case ServiceError():
            return error
        case CanonicalError():
            return BadRequest(str(error))
        case StoreUnwritable():
            return store_problem(error)
        case CacheError():
            return ServiceError(str(error))
    name = type(error).__name__
    _log.error("%s at\n%s", name, "".join(traceback.format_tb(error.__traceback__)))
    return ServiceError(f"the service failed ({name}); its log says where")
