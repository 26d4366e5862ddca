"""How much of a reply is read: an upstream that never stops must not take all memory.

Counted as it comes in, whatever its headers say, error bodies included.
"""

from collections.abc import AsyncIterator

import httpx2


class ReplyTooLarge(httpx2.RequestError):
    """A reply is over the limit, or packed so that its size cannot be told; the rest is left.

    One of the HTTP library's own kind, so that the official clients pass it on as one of theirs.
    """


class ReplyLimit:
    """A hook of an HTTP client, called with each response before its body is read.

    Args:
        max_bytes: What a body may have.
    """

    HEADERS = {"Accept-Encoding": "identity"}  # noqa: RUF012
    """What requests have to ask for: a packed reply may be a million times its size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    async def __call__(self, response: httpx2.Response) -> None:
        """Watch over a response.

        Raises:
            ReplyTooLarge: Its headers say enough.
        """
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity":
            raise ReplyTooLarge(
                f"the upstream's reply is packed ({packed}), which nobody asked for"
            )
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        response.stream = _Counted(stream, self._max_bytes)


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > self._max_bytes:
                raise ReplyTooLarge(
                    f"the upstream's reply is over {self._max_bytes} bytes "
                    "(upstream.max_reply_bytes)"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
