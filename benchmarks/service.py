"""How fast the service is: `make bench-service`.

The servers share one core, one of them busy at a time; the load comes from another core, where
there is one. Rounds alternate, and figures are medians over rounds, so that a slow minute hits all.

cached_vs_bare      requests/s on cached chat completions, over those of a FastAPI route that parses
                    the same request and returns the same body: the limit. Asked again and again,
                    ours come from memory
replayed_vs_bare    the same of a service in replay mode, which reads each answer from the store
                    (and notes no uses)
cached_vs_litellm   the same over LiteLLM's proxy with its in-memory cache (null where --litellm
                    names none). Ours keeps answers on disk, commits before it answers and joins
                    equal requests; theirs has many providers, virtual keys, budgets and guardrails
batch_items_per_s   stored items on the batch route, from memory too: texts of 500 bytes, answers of
                    200, 256 a batch
miss_added_ms_*     latency of a miss through the service (asked, committed to disk with
                    synchronous=FULL, answered) less that of asking the upstream itself, one at a
                    time, at the same percentile
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from benchmarks.bare_server import MODEL
from benchmarks.load import Connection, latencies_ms, per_second, post
from benchmarks.results import publish, show

PORTS = {"bare": 18101, "ours": 18102, "replay": 18104, "litellm": 18103}
CHAT = "/v1/chat/completions"
BATCH = "/v1/teacher/completions"
CONNECTIONS = 64
DISTINCT = 200
CORES = sorted(os.sched_getaffinity(0))
"""The first is the servers', the last the load's."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--misses", type=int, default=500, help="a round, each way")
    parser.add_argument("--litellm", type=Path, help="the `litellm` command of an environment")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {CORES[-1]})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for command in _commands(folder, arguments.litellm):
            stack.enter_context(_server(*command))
        figures = asyncio.run(_measure(arguments.rounds, arguments.seconds, arguments.misses))
    rows = [[name, "-" if value is None else str(value)] for name, value in figures.items()]
    show(f"The service, {arguments.rounds} rounds", ["figure", "median"], rows)
    publish("service", figures)


def url_of(server: str) -> str:
    """Where a server of this benchmark listens."""
    return f"http://127.0.0.1:{PORTS[server]}"


def _commands(folder: Path, litellm: Path | None) -> Iterator[tuple[str, list[str]]]:
    yield "bare", [sys.executable, "-m", "benchmarks.bare_server", str(PORTS["bare"])]
    ours = {
        "backend": "openai",
        "store": str(folder / "completions.sqlite"),
        "keys_file": str(folder / "no-keys.json"),
        "served_models": [MODEL],
        "openai": {"base_url": url_of("bare") + "/v1", "model": MODEL, "api_key_env": None},
    }
    for name, mode in (("ours", "record"), ("replay", "replay")):
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**ours, "port": PORTS[name], "mode": mode}))
        yield name, [sys.executable, "-m", "teacher_service", "--config", str(config)]
    if litellm is None:
        PORTS.pop("litellm")
        return
    upstream = {"model": f"openai/{MODEL}", "api_base": url_of("bare") + "/v1", "api_key": "none"}
    proxy = {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}},
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    (folder / "litellm.yaml").write_text(yaml.safe_dump(proxy))
    yield (
        "litellm",
        [
            *(str(litellm), "--config", str(folder / "litellm.yaml")),
            *("--host", "127.0.0.1", "--port", str(PORTS["litellm"]), "--num_workers", "1"),
        ],
    )


@contextmanager
def _server(name: str, command: Sequence[str]) -> Iterator[None]:
    """A server on the first core, until the block ends."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}),
    )
    try:
        _wait_for(url_of(name), process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], patience_s: float = 180.0) -> None:
    give_up = time.monotonic() + patience_s
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} did not start; it said why above")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
        else:
            return


def _chat(server: str, content: str) -> bytes:
    messages = [{"role": "user", "content": content}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 64}
    return post(url_of(server) + CHAT, body)


def _text(name: str) -> str:
    """500 bytes that no other name has."""
    return (f"{name} " * 500)[:500]


def _batch(number: int) -> bytes:
    items = [{"text": _text(f"item {number} {place}")} for place in range(256)]
    body = {"model": MODEL, "prompt_template": "{transcript}", "items": items, "max_tokens": 64}
    return post(url_of("ours") + BATCH, body)


async def _measure(rounds: int, seconds: float, misses: int) -> dict[str, float | None]:
    requests = {
        server: [_chat(server, _text(f"chat {number}")) for number in range(DISTINCT)]
        for server in PORTS
    }
    batches = [_batch(number) for number in range(8)]
    for server, warm in [*requests.items(), ("ours", batches)]:
        connection = await Connection.open(url_of(server))
        for request in warm:
            await connection.send(request)
        connection.close()
    cached: dict[str, list[float]] = {server: [] for server in PORTS}
    items: list[float] = []
    direct: list[float] = []
    through: list[float] = []
    for number in range(rounds):
        for server in PORTS:
            rate = await per_second(url_of(server), requests[server], CONNECTIONS, seconds)
            cached[server].append(rate)
        items.append(256 * await per_second(url_of("ours"), batches, 4, seconds))
        fresh = [_text(f"miss {number} {place}") for place in range(misses)]
        for server, taken in (("bare", direct), ("ours", through)):
            sent = [_chat(server, text) for text in fresh]
            taken += await latencies_ms(url_of(server), sent)
    return {
        "cached_vs_bare": _ratio(cached["ours"], cached["bare"]),
        "replayed_vs_bare": _ratio(cached["replay"], cached["bare"]),
        "cached_vs_litellm": _ratio(cached["ours"], cached.get("litellm")),
        "batch_items_per_s": round(statistics.median(items)),
        "miss_added_ms_p50": _added(direct, through, 50),
        "miss_added_ms_p99": _added(direct, through, 99),
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float] | None) -> float | None:
    """The median over rounds: both of a round met the same machine."""
    if theirs is None:
        return None
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _added(direct: Sequence[float], through: Sequence[float], percent: int) -> float:
    cut = [statistics.quantiles(taken, n=100)[percent - 1] for taken in (direct, through)]
    return round(cut[1] - cut[0], 3)


if __name__ == "__main__":
    main()
