"""Many connections at one time: no error, and no memory that is not given back.

Some fifteen seconds here; `make soak` takes ten minutes for each case (TACO_SOAK_LOAD_S).
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.load import Connection, post
from tests.service_process import ServiceProcess, service_process

SECONDS = float(os.environ.get("TACO_SOAK_LOAD_S", "3.5"))
IS_SOAK = SECONDS >= 300
GROWTH = 1.05 if IS_SOAK else 1.3
"""Of the memory after a fifth of the time (minute two of ten); short runs still fill caches."""
FILLING = 160_000
"""Answers whose rows are more than SQLite's two page caches hold, 64 MiB each."""


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[ServiceProcess]:
    """A service for all cases, as one would run it for a week."""
    with service_process(tmp_path_factory.mktemp("load")) as started:
        if IS_SOAK:
            asyncio.run(_fill_page_caches(started.url))
        yield started


async def _fill_page_caches(url: str) -> None:
    """Write rows, then read them all: what grows after that is not given back."""
    connection = await Connection.open(url)
    for first in [*range(0, FILLING, 500)] * 2:
        items = [{"text": f"{number}: Anna leads Tau."} for number in range(first, first + 500)]
        body = {"model": "builtin", "prompt_template": "{transcript}", "items": items}
        await connection.send(post(f"{url}/v1/teacher/completions", body))
    connection.close()


def _requests(url: str, cached: bool) -> Iterator[bytes]:
    """Eight that recur, or ever new ones."""
    numbers = itertools.cycle(range(8)) if cached else itertools.count()
    name = "cached" if cached else f"new {time.time_ns()}"
    for number in numbers:
        content = f"{name} {number}: Anna leads the project Tau. Who leads it?"
        messages = [{"role": "user", "content": content}]
        yield post(f"{url}/v1/chat/completions", {"model": "builtin", "messages": messages})


async def _press(process: ServiceProcess, cached: bool, connections: int) -> tuple[int, int, int]:
    """Ask without a pause from all connections; answers, and the memory early and late."""
    opened = [await Connection.open(process.url) for _ in range(connections)]
    requests = _requests(process.url, cached)
    started = time.monotonic()

    async def ask(connection: Connection) -> int:
        count = 0
        while time.monotonic() < started + SECONDS:
            await connection.send(next(requests))
            count += 1
        return count

    async def early() -> int:
        await asyncio.sleep(SECONDS / 5)
        return process.memory_kib()

    memory, *counts = await asyncio.gather(early(), *map(ask, opened))
    late = process.memory_kib()
    for connection in opened:
        connection.close()
    return sum(counts), memory, late


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.timeout(SECONDS * 2 + 120)
@pytest.mark.parametrize("connections", [64, 512])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_many_connections_are_served_without_an_error(process, cached, connections):
    """Whatever is not 200 ends the test; every connection got answers."""
    answered, early, late = asyncio.run(_press(process, cached, connections))
    assert answered >= connections
    assert late <= early * GROWTH, f"{early} KiB, then {late} KiB"
    print(f"{connections} connections, cached={cached}: {answered} answers, {early}, {late} KiB")
