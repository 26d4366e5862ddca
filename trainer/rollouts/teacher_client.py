"""The teacher as the trainer sees it: items in, replies out, in order.

TeacherClient ── BatchWire ── our service          one request for the whole batch
              └─ ChatWire ─── any other server     one chat completion for each item
"""

import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Self

import httpx2

from trainer.errors import ConfigError, TeacherRejected, TeacherSpent, TeacherUnreachable
from trainer.rollouts.batch_wire import BatchWire
from trainer.rollouts.chat_wire import ChatWire
from trainer.rollouts.hop import Deadline, Hop
from trainer.rollouts.prompts import check_template
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.rollouts.wire import Attempt, Spent, Wire
from trainer.types import Outcome, TeacherItem, TeacherReply

_SERVICE = "taco-teacher"
_STORED_ONLY = {"Cache-Control": "only-if-cached"}
_FIXED: Mapping[str, Any] = {"n": 1, "stream": False}
"""Fields of a chat request that an item with one reply leaves no choice about."""


class TeacherClient:
    """Asks one teacher; thread-safe, and a context manager. Made by `connect`."""

    def __init__(self, hop: Hop, wire: Wire, timeout_s: float) -> None:
        self._hop = hop
        self._wire = wire
        self._timeout_s = timeout_s
        self._counts = TeacherCounts()
        self._run_id: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        model: str,
        prompt_template: str,
        system_message: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        gone_after_s: float = 30.0,
        stored_only: bool = False,
    ) -> "TeacherClient":
        """Find out who answers at a URL, and how to ask.

        Args:
            url: of our service, or an OpenAI-compatible server's base URL (`/v1` may be left out).
            model: the teacher's name at the server.
            prompt_template: with `{transcript}` and perhaps `{question}`.
            system_message: None sends none.
            sampling: every other field of the request (max_tokens, temperature, seed, ...).
            api_key: sent as a bearer token.
            timeout_s: total time for one call of `complete`, second tries included.
            gone_after_s: how long the server may be silent before it counts as gone.
            stored_only: for a replay: the service must not ask a model, whatever its own mode.

        Raises:
            TeacherUnreachable: nobody answers.
            TeacherRejected: `stored_only`, and the server is not ours.
            ConfigError: the template or a sampling field cannot be used.
        """
        fields = {"model": model, **_checked(prompt_template, sampling or {})}
        headers = _headers(api_key, stored_only)
        hop = _hop(_without_version(url), headers, gone_after_s)
        if _is_ours(hop.probe("/livez")):
            template = {"prompt_template": prompt_template, "system_message": system_message}
            return cls(hop, BatchWire(hop, {**fields, **template}), timeout_s)
        hop.close()
        if stored_only:
            raise TeacherRejected(
                f"expected our teacher service at {url}, for only it keeps completions to replay; "
                "got another server; start ours (`taco serve`) and name it in TACO_TEACHER_URL"
            )
        hop = _hop(_chat_root(url), headers, gone_after_s)
        return cls(hop, ChatWire(hop, fields, prompt_template, system_message), timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._hop.close()

    @property
    def is_ours(self) -> bool:
        """Whether our own service answers, with fingerprints that a lock file can hold."""
        return isinstance(self._wire, BatchWire)

    @property
    def counts(self) -> TeacherCounts:
        """Everything asked through this client so far."""
        return self._counts

    def name_run(self, run_id: str) -> None:
        """Say which run asks from now on; our service notes what each run used and cost."""
        self._run_id = run_id

    def with_prompt(self, prompt_template: str, sampling: Mapping[str, Any]) -> "TeacherClient":
        """The same teacher, over the same connections, asked something else.

        Made after `name_run`, it asks for the same run. It counts for itself; only the first of
        the two is to be closed.

        Args:
            prompt_template: as for `connect`.
            sampling: fields of the request that are others.

        Raises:
            ConfigError: the template or a field cannot be used.
        """
        wire = self._wire.with_prompt(prompt_template, _checked(prompt_template, sampling))
        other = TeacherClient(self._hop, wire, self._timeout_s)
        other._run_id = self._run_id
        return other

    def complete(self, items: Sequence[TeacherItem], step: int | None = None) -> list[TeacherReply]:
        """Ask; replies in the order of the items.

        An item that failed is asked once more, unless that is in vain (a replay's cache miss), and
        as long as the service says when to come again (an upstream in an outage), until the total
        time is over. If it fails to the end, its reply says so: a failure is a value, not an error.

        Args:
            items: what to ask.
            step: of the run, for the service's notes.

        Raises:
            TeacherUnreachable: the server is silent, or stays busy past the total time.
            TeacherRejected: it refuses the request as a whole.
            TeacherSpent: its budget or its account has nothing left; what was answered is stored
                there, so that the same step costs less when the run goes on.
        """
        deadline = Deadline.after(self._timeout_s)
        asker = _asker(self._run_id, step)
        attempts = self._wire.ask(items, deadline, asker)
        self._repeat(items, attempts, deadline, asker)
        replies = [attempt.reply for attempt in attempts]
        with self._lock:
            self._counts += TeacherCounts.of(replies)
        if spent := next((attempt.reply for attempt in attempts if attempt.spent), None):
            raise TeacherSpent(
                f"expected completions from the teacher at {self._hop.root}, got {spent.error}"
            )
        return replies

    def _repeat(
        self,
        items: Sequence[TeacherItem],
        attempts: list[Attempt],
        deadline: Deadline,
        asker: Mapping[str, str],
    ) -> None:
        """Put new attempts in the place of failed ones, as `complete` says."""
        for number in count():
            again = [index for index, attempt in enumerate(attempts) if attempt.worth_repeating]
            wait_s = max((attempts[index].wait_s for index in again), default=0.0)
            settled = number > 0 and wait_s == 0
            if not again or settled or wait_s >= deadline.remaining_s:
                return
            time.sleep(wait_s)
            repeated = self._wire.ask([items[index] for index in again], deadline, asker)
            for index, attempt in zip(again, repeated, strict=True):
                attempts[index] = attempt

    def missing(self, items: Sequence[TeacherItem]) -> int:
        """How many of the items our service would have to buy; nothing is asked of the model."""
        deadline = Deadline.after(self._timeout_s)
        distinct = list(dict.fromkeys(items))
        attempts = self._wire.ask(distinct, deadline, _STORED_ONLY)
        return sum(attempt.reply.outcome is Outcome.FAILED for attempt in attempts)

    def spent(self) -> Spent:
        """What the named run has cost so far, by our service's ledger.

        Raises:
            TeacherRejected: the key may not read the ledger.
        """
        assert self._run_id is not None
        return self._wire.spent(self._run_id, Deadline.after(self._timeout_s)) or Spent()

    def stats(self) -> dict[str, Any] | None:
        """The service's `/v1/cache/stats`; None from a server that is not ours."""
        return self._wire.stats(Deadline.after(self._timeout_s))

    def digest(self) -> str | None:
        """The teacher's name in our service's keys, 64 hex digits; None from any other server."""
        stats = self.stats()
        return None if stats is None else str(stats["teacher"]["digest"])


def recognise(url: str) -> bool:
    """Whether our own service answers at a URL."""
    try:
        hop = _hop(_without_version(url), {}, gone_after_s=0.0)
        try:
            return _is_ours(hop.probe("/livez"))
        finally:
            hop.close()
    except TeacherUnreachable:
        return False


def _headers(api_key: str | None, stored_only: bool) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return headers | (_STORED_ONLY if stored_only else {})


def _asker(run_id: str | None, step: int | None) -> dict[str, str]:
    if run_id is None:
        return {}
    return {"X-Taco-Run": run_id} | ({} if step is None else {"X-Taco-Step": str(step)})


def _hop(root: str, headers: Mapping[str, str], gone_after_s: float) -> Hop:
    try:
        return Hop(root, headers, gone_after_s)
    except httpx2.InvalidURL as error:
        raise TeacherUnreachable(
            f"expected a URL such as http://127.0.0.1:8080, got {root!r}: {error}"
        ) from error


def _checked(prompt_template: str, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling fields to send, or everything that cannot be used."""
    problems = [
        f"{name}: expected {fixed!r}, got {sampling[name]!r}; leave it out"
        for name, fixed in _FIXED.items()
        if sampling.get(name) not in (None, fixed)
    ]
    if problem := check_template(prompt_template):
        problems.append(problem)
    if problems:
        raise ConfigError("teacher request", problems)
    return {name: value for name, value in sampling.items() if name not in _FIXED}


def _is_ours(response: httpx2.Response) -> bool:
    try:
        return bool(response.json()["service"] == _SERVICE)
    except (ValueError, KeyError, TypeError):
        return False


def _without_version(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")


def _chat_root(url: str) -> str:
    """A base URL as OpenAI clients take it; a bare host gets the usual `/v1`."""
    url = url.rstrip("/")
    return url if httpx2.URL(url).path.strip("/") else f"{url}/v1"
