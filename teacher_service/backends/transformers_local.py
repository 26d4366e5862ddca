"""An open model in this process, by transformers: nothing to start, nothing to pay.

The model has one thread, and takes all that waits at a time: while a batch is made, requests of
every client gather for the next round.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cache import Answer
from teacher_service.backend_settings import TransformersSettings
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.causal_lm import CausalLM, Prompt
from teacher_service.backends.generation import read_request
from teacher_service.backends.model_files import ModelFiles, find_model
from teacher_service.backends.token_batches import token_batches
from teacher_service.errors import ServiceError, as_service_error
from teacher_service.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    """A request that waits for its batch."""

    position: int
    prompt: Prompt
    finished: asyncio.Queue[Sequence[Finished]] = field(repr=False)
    """Where its caller waits."""
    given_up: threading.Event = field(repr=False)
    """Its caller has left."""

    @property
    def size(self) -> tuple[int, int]:
        return len(self.prompt.tokens), self.prompt.max_new


class TransformersBackend:
    """One model, in this process.

    Args:
        files: The model.
        settings: The `transformers` section.
    """

    trouble: str | None = None

    def __init__(self, files: ModelFiles, settings: TransformersSettings) -> None:
        self.identity = files.identity
        self._model = CausalLM(files, settings)
        self.deterministic = self._model.deterministic
        self._budget = settings.batch_tokens
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting: list[_Job] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = threading.Event()

    async def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Make all; a group is what one batch made of them."""
        given_up = threading.Event()
        finished: asyncio.Queue[Sequence[Finished]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._thread, self._encode_all, requests)
        jobs = [
            _Job(position, prompt, finished, given_up)
            for position, prompt in enumerate(encoded)
            if isinstance(prompt, Prompt)
        ]
        failed = [
            (position, error)
            for position, error in enumerate(encoded)
            if isinstance(error, ServiceError)
        ]
        self._waiting += jobs
        if jobs and (self._worker is None or self._worker.done()):
            self._worker = asyncio.create_task(self._work())
        try:
            if failed:
                yield failed
            missing = len(jobs)
            while missing:
                group = await finished.get()
                missing -= len(group)
                yield group
        finally:
            given_up.set()

    async def close(self) -> None:
        """Break off the batch under way, and end the model's thread."""
        self._closed.set()
        if self._worker:
            await self._worker
        self._thread.shutdown()

    def _encode_all(self, requests: Sequence[UpstreamRequest]) -> list[Prompt | ServiceError]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: UpstreamRequest) -> Prompt | ServiceError:
        try:
            return self._model.encode(read_request(request))
        except Exception as error:
            return as_service_error(error)

    async def _work(self) -> None:
        """Make rounds until nothing waits: who came during one is in the next, whatever its length.

        So long prompts cannot be overtaken for ever.
        """
        loop = asyncio.get_running_loop()
        while self._waiting:
            jobs, self._waiting = self._waiting, []
            for batch in token_batches(jobs, lambda job: job.size, self._budget):
                wanted = [job for job in batch if not job.given_up.is_set()]
                results = await loop.run_in_executor(self._thread, self._complete, wanted)
                _hand_out(wanted, results)

    def _complete(self, jobs: Sequence[_Job]) -> Sequence[Answer | ServiceError]:
        def stopped() -> bool:
            return self._closed.is_set() or all(job.given_up.is_set() for job in jobs)

        failure = ServiceError("the service stopped before the answer was there")
        if not jobs or stopped():
            return [failure] * len(jobs)
        try:
            completions = self._model.complete([job.prompt for job in jobs], stopped)
        except Exception as error:
            failure = as_service_error(error)
            completions = None
        return completions or [failure] * len(jobs)


def _hand_out(jobs: Sequence[_Job], results: Sequence[Answer | ServiceError]) -> None:
    """To each caller its own, as one group."""
    groups: dict[asyncio.Queue[Sequence[Finished]], list[Finished]] = {}
    for job, result in zip(jobs, results, strict=True):
        groups.setdefault(job.finished, []).append((job.position, result))
    for queue, group in groups.items():
        queue.put_nowait(group)


def build(settings: Settings) -> TransformersBackend:
    """The backend as the settings want it.

    Raises:
        StartError: The model cannot be found or loaded.
    """
    files = find_model(settings.transformers, "transformers")
    backend = TransformersBackend(files, settings.transformers)
    _log.info("%s from %s", files.identity.name, files.folder)
    return backend
