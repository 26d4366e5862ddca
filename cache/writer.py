"""Group commit: one thread that writes, and no timer.

The thread commits at once when it is idle; what arrives during a commit is the next group. A lone
write is as fast as it can be, and under load one `fsync` pays for hundreds of writes.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cache.database import Connection
from cache.errors import StoreError, StoreUnwritable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Connection], Any]
    future: Future[Any] = field(default_factory=Future)


class GroupWriter:
    """Runs pieces of work, many to a transaction.

    Args:
        transact: Runs one function in a transaction of its own, and commits it.
    """

    def __init__(self, transact: Callable[[Callable[[Connection], list[Any]]], list[Any]]) -> None:
        self._transact = transact
        self._wake = threading.Condition()
        self._waiting: list[_Job] = []
        self._closed = False
        # Why the last group could not be committed; None: it could.
        self.trouble: StoreUnwritable | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Run `work` in the next transaction; its result is released only after the commit.

        A piece of work that fails is undone alone: the others of its group are run again. So it
        must be safe to run twice, and must not commit by itself.

        Raises:
            StoreError: the writer is closed.
        """
        job = _Job(work)
        # Cancelling would only hide the result: the work is done all the same.
        job.future.set_running_or_notify_cancel()
        with self._wake:
            if self._closed:
                raise StoreError("the store is closed; open it again to write")
            self._waiting.append(job)
            self._wake.notify()
        return job.future

    def close(self) -> None:
        """Finish what was submitted, then stop the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._finish(group)

    def _next_group(self) -> list[_Job]:
        """All that waits, at least one; empty only when closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closed)
            group, self._waiting = self._waiting, []
            return group

    def _finish(self, group: list[_Job]) -> None:
        try:
            results = self._transact(lambda connection: [job.work(connection) for job in group])
        except Exception as error:
            self.trouble = error if isinstance(error, StoreUnwritable) else None
            if len(group) == 1 or self.trouble:
                for job in group:
                    job.future.set_exception(error)
            else:  # One bad piece must not fail its neighbours.
                for job in group:
                    self._finish([job])
        else:
            self.trouble = None
            for job, result in zip(group, results, strict=True):
                job.future.set_result(result)
