"""A load generator that costs little: requests made beforehand, kept connections, bare sockets."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit


def post(url: str, body: Mapping[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer sk-none\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection:
    """One kept connection.

    Args:
        reader: Its answers.
        writer: Its requests.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connect to the server of a URL."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=2**24))

    async def send(self, request: bytes) -> bytes:
        """One request and its answer's body.

        Raises:
            RuntimeError: The status is not 200: what is measured must be the work itself.
        """
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"expected 200, got {head[:40]!r} {body[:300]!r}")
        return body

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def per_second(
    url: str, requests: Sequence[bytes], connections: int, seconds: float
) -> float:
    """Requests answered a second, over and over, from so many connections."""
    opened = [await Connection.open(url) for _ in range(connections)]
    started = time.perf_counter()
    counts = await asyncio.gather(
        *(
            _repeat(connection, [*requests[place:], *requests[:place]], started + seconds)
            for place, connection in enumerate(opened)
        )
    )
    took = time.perf_counter() - started
    for connection in opened:
        connection.close()
    return sum(counts) / took


async def latencies_ms(url: str, requests: Sequence[bytes]) -> list[float]:
    """One after the other on one connection."""
    connection = await Connection.open(url)
    taken = []
    for request in requests:
        started = time.perf_counter()
        await connection.send(request)
        taken.append((time.perf_counter() - started) * 1000)
    connection.close()
    return taken


async def _repeat(connection: Connection, requests: Sequence[bytes], until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        await connection.send(requests[count % len(requests)])
        count += 1
    return count
