"""One hop: from the trainer to the server that it talks to, and only the faults of that way.

What lies behind the server, it retries itself. Here a request is sent again when it or its answer
got lost, and when the server says that it is busy.
"""

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from trainer.errors import TeacherRejected, TeacherUnreachable

FormT = TypeVar("FormT", bound=BaseModel)

_log = logging.getLogger(__name__)

_BUSY = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_CONNECT_S = 5.0
_GRACE_S = 1.0
"""How much longer than its deadline we wait for a server that keeps deadlines itself."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The moment that many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a request has to be sent again."""

    reason: str
    silent: bool
    """The server itself did not answer."""
    wait_s: float = 0.0
    """The server's own `Retry-After`: the shortest pause."""


class Hop:
    """Sends requests to one server; thread-safe.

    Args:
        root: the server's URL, to which paths are appended.
        headers: sent with every request.
        gone_after_s: how long a server may be silent before it counts as gone. One that answers
            "busy" is waited for until the request's deadline.
    """

    def __init__(
        self, root: str, headers: Mapping[str, str] | None = None, gone_after_s: float = 30.0
    ) -> None:
        self.root = root.rstrip("/")
        self._gone_after_s = gone_after_s
        self._client = httpx2.Client(
            headers=headers,
            limits=httpx2.Limits(max_connections=None),
            # A proxy from the environment is not meant for a server on this machine.
            trust_env=httpx2.URL(self.root).host not in _LOOPBACK,
        )
        self._jitter = random.Random()  # noqa: S311 (pauses; the global generator is left alone)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def probe(self, path: str, timeout_s: float = _CONNECT_S) -> httpx2.Response:
        """GET once, with no second try.

        Raises:
            TeacherUnreachable: there was no answer.
        """
        try:
            return self._client.get(self.root + path, timeout=timeout_s)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise self._unreachable(_describe(error)) from error

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Send until there is an answer, whatever its status, unless it means "come again".

        Raises:
            TeacherUnreachable: the server is silent, or stays busy past the deadline.
        """
        attempt = 0
        silent_since: float | None = None
        while not isinstance(
            answer := self._attempt(method, path, deadline, body, headers or {}), httpx2.Response
        ):
            if self._client.is_closed:  # After an interrupt: nobody waits for the answer.
                raise self._unreachable(answer.reason)
            silent_since = (silent_since or time.monotonic()) if answer.silent else None
            pause_s = max(answer.wait_s, self._pause_s(attempt))
            if time.monotonic() + pause_s > self._give_up_at(deadline, silent_since):
                raise self._unreachable(answer.reason) if answer.silent else self._busy(answer)
            if attempt == 0:
                _log.warning("The teacher at %s: %s; trying again", self.root, answer.reason)
            time.sleep(pause_s)
            attempt += 1
        return answer

    def read(self, response: httpx2.Response, form: type[FormT]) -> FormT:
        """An answer in its agreed form.

        Raises:
            TeacherRejected: the request was refused as a whole, or the answer has another form.
        """
        if response.status_code != 200:
            raise self.rejection(response)
        try:
            return form.model_validate_json(response.content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise self.misunderstood(f"{place}: {fault['msg']}".removeprefix(": ")) from error

    def rejection(self, response: httpx2.Response) -> TeacherRejected:
        """The error for an answer that refuses the request as a whole."""
        hint = "; is TACO_TEACHER_KEY right?" if response.status_code in (401, 403) else ""
        return TeacherRejected(
            f"expected completions from the teacher at {self.root}, got HTTP "
            f"{response.status_code}: {error_of(response)['message']}{hint}"
        )

    def misunderstood(self, what: str) -> TeacherRejected:
        """The error for an answer that is not in the agreed form."""
        return TeacherRejected(
            f"expected completions from the teacher at {self.root}, got an answer of another form: "
            f"{what}; check the URL and that the service is of this version"
        )

    def _attempt(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx2.Response | _Fault:
        remaining_s = deadline.remaining_s
        try:
            response = self._client.request(
                method,
                self.root + path,
                json=body,
                headers={**headers, "X-Deadline-Ms": str(max(1, int(remaining_s * 1000)))},
                timeout=httpx2.Timeout(remaining_s + _GRACE_S, connect=_CONNECT_S),
            )
        except httpx2.RequestError as error:
            return _Fault(_describe(error), silent=True)
        if not _worth_waiting(response):
            return response
        reason = f"HTTP {response.status_code}: {error_of(response)['message']}"
        return _Fault(reason, silent=False, wait_s=_retry_after_s(response))

    def _give_up_at(self, deadline: Deadline, silent_since: float | None) -> float:
        if silent_since is None:
            return deadline.at
        return min(deadline.at, silent_since + self._gone_after_s)

    def _pause_s(self, attempt: int) -> float:
        """Full jitter: anything up to a bound that doubles."""
        return self._jitter.uniform(0.0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt))

    def _unreachable(self, reason: str) -> TeacherUnreachable:
        return TeacherUnreachable(
            f"expected a teacher at {self.root}, got {reason}; start one (`taco serve`) or set "
            "TACO_TEACHER_URL to one that runs"
        )

    def _busy(self, fault: _Fault) -> TeacherUnreachable:
        return TeacherUnreachable(
            f"expected completions from the teacher at {self.root}, but it stays busy "
            f"({fault.reason}) for longer than teacher.timeout_s; allow more time, or ask for less "
            "at once"
        )


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """OpenAI's error object of an answer; its `message` is the text where there is none."""
    try:
        error = response.json()["error"]
        return {**error, "message": str(error["message"])}
    except (ValueError, KeyError, TypeError):
        return {"message": response.text[:200] or response.reason_phrase}


def _worth_waiting(response: httpx2.Response) -> bool:
    """Busy, unless the server says that asking again is in vain."""
    if response.status_code not in _BUSY or response.headers.get("x-should-retry") == "false":
        return False
    error = error_of(response)
    return "insufficient_quota" not in (error.get("code"), error.get("type"))


def _retry_after_s(response: httpx2.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:  # An HTTP date, which no LLM server sends: our own pause has to do.
        return 0.0


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
