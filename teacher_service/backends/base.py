"""What every backend is: an identity, and one method."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from cache import Answer, TeacherIdentity
from teacher_service.errors import ServiceError

Endpoint: TypeAlias = Literal["chat/completions", "completions"]

Finished: TypeAlias = tuple[int, Answer | ServiceError]
"""The place of a request in its batch, and how it ended: a failure is a value."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One completion to make."""

    endpoint: Endpoint
    body: Mapping[str, Any]
    """The body as it is sent: the teacher's own model name, no `n`, no `stream`."""
    sample_index: int = 0
    """Which of several completions of one body this is: each has randomness of its own."""


class Backend(Protocol):
    """A source of completions."""

    identity: TeacherIdentity
    """What defines its answers."""

    @property
    def deterministic(self) -> bool:
        """Whether a request has one answer, whatever else is asked, and whenever."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot make anything just now; None where it can, as far as is known."""
        ...

    def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Make every completion, and yield them in groups, each as soon as it is there.

        The service commits a group in one transaction and releases its answers after that, so a
        group that waits to grow is paid for in latency, and one that does not in commits.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
