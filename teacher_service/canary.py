"""The canary: fixed prompts, by whose answers a teacher that changed behind its name is noticed.

A teacher is asked three times when it is met first, and what it answers alike is kept beside it; it
is asked again at each start and on demand. Weights that were swapped, an engine that computes
otherwise, a hosted model that its provider changed: a key sees none of them.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, TypeAlias

from cache import (
    JSON,
    Answer,
    CanaryProbe,
    Completion,
    CompletionStore,
    Refusal,
    TeacherIdentity,
    canonical_json,
)
from teacher_service.backends.base import Backend, UpstreamRequest
from teacher_service.errors import (
    ServiceError,
    TeacherChanged,
    UpstreamError,
    UpstreamRejected,
)

_log = logging.getLogger(__name__)

OnChange: TypeAlias = Literal["refuse", "warn", "new"]

PROMPTS = (
    "Name three rivers of Europe and three of Asia, each with the sea that it ends in.",
    "Count down from twenty in words, and leave out every third number.",
    "Say in French, then in German: The council meets again on the second Tuesday of March.",
    "Go on with this story: The key did not fit, so she",
)
_SAMPLING: Mapping[str, JSON] = {"temperature": 0, "max_tokens": 32}
_ROUNDS = 3

_PER_REPLY = {"id"}
"""What a reply says of itself alone: no part of where it comes from."""

_Said: TypeAlias = dict[str, Answer | None]
"""By prompt; None: the backend takes no such request."""


class Canary:
    """Asks a backend, compares with what the store knows, and says who its teacher is.

    Args:
        store: Where teachers and what they said are kept.
        backend: Which is asked.
        on_change: `refuse` makes nothing new with a changed teacher, `warn` goes on, `new` takes it
            for a teacher of its own (or for the earlier one that it agrees with).
        strict: Put where answers come from (engine, version, device, …) into the identity.
    """

    def __init__(
        self, store: CompletionStore, backend: Backend, on_change: OnChange, *, strict: bool
    ) -> None:
        self.identity = backend.identity
        self.probes: Sequence[CanaryProbe] = ()
        """As of the last check; none: it is still to come."""
        self._store = store
        self._backend = backend
        self._on_change = on_change
        self._strict = strict
        self._checking = asyncio.Lock()

    @property
    def trouble(self) -> str | None:
        """Why nothing new is made; None where it is."""
        error = self._refusal()
        return error.message if error else None

    async def check(self) -> Sequence[CanaryProbe]:
        """Ask now, and settle what follows.

        Raises:
            ServiceError: The backend cannot be asked; what was known before still holds.
        """
        async with self._checking:
            await self._check()
        return self.probes

    async def first_check(self) -> None:
        """Ask, unless that was done already.

        Raises:
            ServiceError: The backend cannot be asked.
        """
        if self.probes:
            return
        async with self._checking:
            if not self.probes:
                await self._check()

    async def settle_identity(self) -> None:
        """Return once `identity` is the teacher's, which some settings leave to the first check.

        Raises:
            ServiceError: The backend cannot be asked, so nobody knows.
        """
        if self._strict or self._on_change == "new":
            await self.first_check()

    async def admit(self) -> None:
        """Return if something new may be made.

        Raises:
            TeacherChanged: It answers otherwise than it did.
            ServiceError: It has to be asked first, and cannot.
        """
        if self._on_change == "refuse":
            await self.first_check()
        if error := self._refusal():
            raise error

    def vet(self, result: Answer | ServiceError, teacher_digest: str) -> Answer | ServiceError:
        """The result; or an error, where a strict identity says that it is another teacher's.

        Args:
            result: What the backend brought.
            teacher_digest: Under which it is to be kept, as of when it was asked for.
        """
        if not (self._strict and isinstance(result, Completion)):
            return result
        origin, ours = _origin(result), self.identity.definition["provenance"]
        assert isinstance(ours, Mapping)
        if origin == ours and teacher_digest == self.identity.digest:
            return result
        names = sorted(
            name for name in origin.keys() | ours.keys() if origin.get(name) != ours.get(name)
        )
        return UpstreamError(
            f"the answer comes from elsewhere than this teacher's ({', '.join(names)} differ), and "
            "identity: strict files it under no other. Start the service again to go on with it "
            "as a teacher of its own",
            code="wrong_provenance",
        )

    async def _check(self) -> None:
        said = await self._ask()
        base = self._identity_of(said)
        known = await asyncio.to_thread(self._known, base)
        compared = [(identity, _compared(probes, said)) for identity, probes in known]
        for identity, probes in compared:
            if not any(one.changed for one in probes):
                await self._settle(identity, probes)
                return
        if known and self._on_change != "new":
            await self._settle(*compared[0])
            self._tell_change()
            return
        await self._record(_successor(base, said) if known else base, said)
        if known:
            _log.warning("%s has changed: from now on it is another teacher", self.identity.name)

    def _known(self, base: TeacherIdentity) -> list[tuple[TeacherIdentity, list[CanaryProbe]]]:
        """The teachers that this may be, with what they said; the latest first."""
        own = {**base.definition, "canary": None}
        candidates = [
            one
            for one in reversed(self._store.teachers())
            if one.digest == base.digest
            or (self._on_change == "new" and {**one.definition, "canary": None} == own)
        ]
        asked = [
            (one, [probe for probe in self._store.canary(one.digest) if probe.prompt in PROMPTS])
            for one in candidates
        ]
        return [(one, probes) for one, probes in asked if probes]

    async def _record(self, identity: TeacherIdentity, said: _Said) -> None:
        """Ask again, keep what was answered alike each time."""
        rounds = [said, *[await self._ask() for _ in range(_ROUNDS - 1)]]
        now = time.time()
        probes = [
            CanaryProbe(prompt, texts.pop() if len(texts) == 1 else None, None, now, None)
            for prompt in PROMPTS
            for texts in [{_text(each[prompt]) for each in rounds}]
        ]
        await asyncio.to_thread(self._store.register_teacher, identity)
        await asyncio.to_thread(self._store.record_canary, identity.digest, probes)
        # Another service may have been first: what it recorded is what counts.
        recorded = await asyncio.to_thread(self._store.canary, identity.digest)
        recorded = [one for one in recorded if one.prompt in PROMPTS]
        await self._settle(identity, _compared(recorded, said))
        if not any(one.counts for one in recorded):
            _log.warning(
                "%s answers no prompt of the canary alike each time: if it changes, nobody notices",
                identity.name,
            )

    async def _settle(self, identity: TeacherIdentity, probes: Sequence[CanaryProbe]) -> None:
        await asyncio.to_thread(self._store.register_teacher, identity)
        await asyncio.to_thread(self._store.note_canary, identity.digest, probes)
        self.identity, self.probes = identity, probes

    async def _ask(self) -> _Said:
        """One answer to each prompt, all in one batch."""
        requests = [
            UpstreamRequest(
                "chat/completions",
                {
                    "model": self._backend.identity.name,
                    "messages": [{"role": "user", "content": prompt}],
                    **_SAMPLING,
                },
            )
            for prompt in PROMPTS
        ]
        said: _Said = {}
        async with aclosing(self._backend.complete(requests)) as groups:
            async for group in groups:
                for place, result in group:
                    if isinstance(result, ServiceError) and not isinstance(
                        result, UpstreamRejected
                    ):
                        raise result
                    said[PROMPTS[place]] = None if isinstance(result, ServiceError) else result
        return said

    def _identity_of(self, said: _Said) -> TeacherIdentity:
        """The backend's; a strict one has the provenance in it.

        Raises:
            UpstreamError: Strict, and the answers do not come from one place, or there are none.
        """
        plain = self._backend.identity
        if not self._strict:
            return plain
        origins = {
            canonical_json(origin): origin
            for answer in said.values()
            if isinstance(answer, Completion)
            for origin in [_origin(answer)]
        }
        if len(origins) != 1:
            raise UpstreamError(
                f"identity: strict wants answers that come from one engine; the canary's come from "
                f"{len(origins)}"
            )
        [origin] = origins.values()
        definition = {**plain.definition, "provenance": origin}
        return TeacherIdentity.from_definition(plain.name, plain.backend, definition)

    def _refusal(self) -> TeacherChanged | None:
        changed = sum(one.changed for one in self.probes)
        if self._on_change != "refuse" or not changed:
            return None
        return TeacherChanged(
            f"{self.identity.name} answers {changed} of {_counting(self.probes)} fixed prompts "
            "otherwise than when it was recorded (GET /v1/teachers shows how), so nothing new is "
            "made under its name. Find what changed (weights, engine, device); or go on with it as "
            "a teacher of its own (canary: new), or as the same one (canary: warn)"
        )

    def _tell_change(self) -> None:
        for one in self.probes:
            if one.changed:
                _log.warning("canary: %r was answered %r, and is now %r", *_told(one))
        _log.warning(
            "%s has changed since it was recorded: %s",
            self.identity.name,
            "nothing new is made under its name (canary: refuse)"
            if self._on_change == "refuse"
            else "its answers are still kept under the same name (canary: warn)",
        )


def _compared(probes: Sequence[CanaryProbe], said: _Said) -> list[CanaryProbe]:
    """What was recorded, beside what was said now."""
    now = time.time()
    return [
        replace(one, seen=_text(said[one.prompt]) if one.counts else None, checked_at=now)
        for one in probes
    ]


def _successor(base: TeacherIdentity, said: _Said) -> TeacherIdentity:
    """A changed teacher as one of its own: defined by what it says now, too."""
    texts = {prompt: _text(answer) for prompt, answer in said.items()}
    return TeacherIdentity.from_definition(
        base.name, base.backend, {**base.definition, "canary": texts}
    )


def _text(answer: Answer | None) -> str | None:
    if answer is None:
        return None
    return f"[{answer.reason}]" if isinstance(answer, Refusal) else answer.text or ""


def _origin(answer: Completion) -> dict[str, JSON]:
    return {name: value for name, value in answer.provenance.items() if name not in _PER_REPLY}


def _counting(probes: Sequence[CanaryProbe]) -> int:
    return sum(one.counts for one in probes)


def _told(probe: CanaryProbe) -> tuple[str, str | None, str | None]:
    return probe.prompt, probe.text, probe.seen
