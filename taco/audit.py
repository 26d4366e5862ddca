"""The drift audit: ask the teacher again for a sample of what is stored, and compare.

A hosted model may change under the same name, and a local one with its engine. The share of stored
answers that come out otherwise today, and what that would do to rewards, says how far a recorded
run can be trusted to come out the same against the live teacher.
"""

import hashlib
import heapq
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Connection, select

from cache import CompletionStore, shown_place
from cache.models import completions, requests, teachers
from taco.errors import UserError
from taco.own_service import own_service

_AT_ONCE = 16
_TIMEOUT_S = 600.0
# Of several choices only the first is asked again: the others' seeds depend on it.
_FIRST_CHOICE = '%,"sample_index":0,"teacher":"%'

Progress = Callable[[int, int], None]
Metric = Callable[[str, str], float]
"""(completion, reference completion) -> score."""


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """One stored answer, and what to send to have it made again."""

    key: bytes
    request: dict[str, Any]
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One stored answer beside a fresh one."""

    key: bytes
    agrees: bool | None
    """Same text and same finish reason; None: there was no fresh answer."""
    reward_difference: float
    """What the fresh answer loses where the stored one is the reference; 0 if they agree."""
    problem: str = ""
    """Why there was no fresh answer."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found."""

    asked: int
    failed: int
    disagreed: int
    low: float
    """The disagreement rate's 95 % interval (Wilson)."""
    high: float
    mean_reward_difference: float
    """Over every fresh answer, those that agree included."""
    max_reward_difference: float
    comparisons: tuple[Comparison, ...]

    @property
    def rate(self) -> float:
        """The share of fresh answers that disagree."""
        return self.disagreed / (self.asked - self.failed)


@contextmanager
def audited_service(
    url: str | None, config: Path | None, store: Path | str
) -> Iterator[httpx2.Client]:
    """A client of the service at `url`, or of one of our own over `store`."""
    if url is None:
        with own_service(config, store=store) as own, _client(own) as client:
            yield client
        return
    with _client(url) as client:
        yield client


def audit(
    client: httpx2.Client,
    store: Path | str,
    metric: Metric,
    *,
    sample: int,
    seed: int,
    progress: Progress,
) -> AuditReport:
    """Ask again for `sample` random completions of the client's teacher.

    The service keeps every answer that differs as an alternate; what it serves stays.

    Args:
        client: Of a service that may ask its teacher.
        store: The service's store.
        metric: What a differing answer costs.
        sample: How many are asked; all, where the store holds fewer.
        seed: The same seed picks the same completions of the same store.
        progress: Told how many of how many are done.

    Raises:
        UserError: There is nothing to ask again, or no question was answered.
    """
    teacher = _read(client, "/v1/cache/stats")["teacher"]
    with CompletionStore.open(store, read_only=True) as opened:
        picked = opened.query(
            lambda connection: sample_completions(connection, teacher["digest"], sample, seed)
        )
    if not picked:
        raise UserError(
            f"{shown_place(store)} holds no completion of teacher {teacher['name']} "
            f"({teacher['digest'][:12]}) to ask again; name the service's own store (--store) "
            "or its settings (--config)"
        )
    model = _read(client, "/v1/models")["data"][0]["id"]
    compared = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for comparison in pool.map(lambda each: _compare(client, model, each, metric), picked):
            compared.append(comparison)
            progress(len(compared), len(picked))
    return report_of(compared)


def sample_completions(
    connection: Connection, teacher: str, count: int, seed: int
) -> list[StoredCompletion]:
    """`count` completions of the teacher with this digest, every one as likely as any other."""
    keys = (
        select(requests.c.key)
        .join(teachers)
        .join(completions)
        .where(teachers.c.digest == teacher, requests.c.document.like(_FIRST_CHOICE))
        .execution_options(yield_per=1000)
    )
    salt = str(seed).encode()
    picked = heapq.nsmallest(
        count,
        connection.execute(keys).scalars(),
        key=lambda key: hashlib.sha256(salt + bytes(key)).digest(),
    )
    return [_stored_completion(connection, key) for key in picked]


def report_of(comparisons: Sequence[Comparison]) -> AuditReport:
    """The figures over all comparisons.

    Raises:
        UserError: no fresh answer came at all.
    """
    answered = [each for each in comparisons if each.agrees is not None]
    if not answered:
        raise UserError(f"no question was answered; the first: {comparisons[0].problem}")
    disagreed = sum(not each.agrees for each in answered)
    differences = [each.reward_difference for each in answered]
    low, high = wilson_interval(disagreed, len(answered))
    return AuditReport(
        asked=len(comparisons),
        failed=len(comparisons) - len(answered),
        disagreed=disagreed,
        low=low,
        high=high,
        mean_reward_difference=sum(differences) / len(answered),
        max_reward_difference=max(differences, key=abs),
        comparisons=tuple(comparisons),
    )


def wilson_interval(count: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927); sensible also for none of many."""
    rate, share = count / total, z * z / total
    centre = (rate + share / 2) / (1 + share)
    reach = sqrt(rate * (1 - rate) * share + share * share / 4) / (1 + share)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _client(url: str) -> httpx2.Client:
    headers = {"Cache-Control": "no-cache", "X-Taco-Run": f"audit-{secrets.token_hex(4)}"}
    if key := os.environ.get("TACO_TEACHER_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S)


def _read(client: httpx2.Client, path: str) -> dict[str, Any]:
    reply = client.get(path)
    if reply.status_code != 200:
        raise UserError(f"expected our teacher service at {client.base_url}, got {reply.text}")
    body: dict[str, Any] = reply.json()
    return body


def _stored_completion(connection: Connection, key: bytes) -> StoredCompletion:
    query = (
        select(requests.c.document, completions.c.text, completions.c.finish_reason)
        .join(completions)
        .where(requests.c.key == key)
    )
    document, text, finish_reason = connection.execute(query).one()
    return StoredCompletion(key, json.loads(document)["request"], text or "", finish_reason)


def _compare(
    client: httpx2.Client, model: str, stored: StoredCompletion, metric: Metric
) -> Comparison:
    chat = "messages" in stored.request
    path = "/v1/chat/completions" if chat else "/v1/completions"
    reply = client.post(path, json={**stored.request, "model": model})
    if problem := _problem(reply, stored.key):
        return Comparison(stored.key, None, 0.0, problem)
    [choice] = reply.json()["choices"]
    text = (choice["message"]["content"] if chat else choice["text"]) or ""
    if text == stored.text and choice["finish_reason"] == stored.finish_reason:
        return Comparison(stored.key, True, 0.0)
    loss = metric(stored.text, stored.text) - metric(text, stored.text)
    return Comparison(stored.key, False, loss)


def _problem(reply: httpx2.Response, key: bytes) -> str:
    """Why this is no fresh answer to the stored request; empty where it is one."""
    if reply.status_code != 200:
        return f"HTTP {reply.status_code}: {reply.json()['error']['message']}"
    status = reply.headers.get("Cache-Status", "")
    return "" if key.hex() in status else f"the service took it for another request: {status}"
