"""Requests and tokens per minute, held before the upstream has to say 429."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

_BYTES_PER_TOKEN = 4


class Pace:
    """Spaces calls evenly: no minute, wherever it begins, has more than is allowed.

    Nothing is saved up while idle, so that no burst meets an upstream that counts by the second.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: Prompt and completion together; None for no limit.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock = clock
        self._next_request = self._next_token = clock()

    def reserve(self, tokens: int) -> float:
        """Take the next place in line: the seconds until it comes."""
        now = self._clock()
        start = max(now, self._next_request, self._next_token)
        self._next_request = start + self._request_s
        self._next_token = start + tokens * self._token_s
        return start - now

    def correct(self, reserved: int, used: int) -> None:
        """What a call really took, once that is known."""
        self._next_token += (used - reserved) * self._token_s

    def hold(self, seconds: float) -> None:
        """Nobody calls for so long: the upstream said when it will listen again."""
        self._next_request = max(self._next_request, self._clock() + seconds)


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """What a request may take: a token for four bytes, and all that the answer may have."""
    prompt = json.dumps(body.get("messages") or body.get("prompt"), ensure_ascii=False)
    longest = body.get("max_completion_tokens") or body.get("max_tokens")
    return len(prompt.encode(errors="replace")) // _BYTES_PER_TOKEN + (
        longest if isinstance(longest, int) else 0
    )
