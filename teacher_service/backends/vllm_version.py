"""Which version of vLLM answers: kept beside each answer, as another may say other things."""

import asyncio
import time
from urllib.parse import urljoin

import httpx2

_AGAIN_S = 60.0
"""A server may be upgraded while we run."""
_TIMEOUT_S = 5.0


class EngineVersion:
    """Asks a server, now and then.

    Args:
        base_url: Its API's, which ends with /v1; the version is beside it.
    """

    def __init__(self, base_url: str) -> None:
        self._url = urljoin(base_url.rstrip("/"), "version")
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT_S)
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._version: str | None = None

    async def get(self) -> str | None:
        """The version, as of the last minute; None where the server does not tell."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _AGAIN_S:
                self._version = await self._ask()
                self._asked_at = time.monotonic()
        return self._version

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _ask(self) -> str | None:
        try:
            reply = await self._http.get(self._url)
            version = reply.raise_for_status().json()["version"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return None
        return version if isinstance(version, str) else None
