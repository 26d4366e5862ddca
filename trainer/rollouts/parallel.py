"""Threads for what waits on the network; how many is decided here, not by a connection pool."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def map_concurrently(function: Callable[[A], R], arguments: Sequence[A], limit: int) -> list[R]:
    """Call a function once for each argument, at most `limit` at a time; results in order.

    After an error no further call is begun, and those under way are waited for, since they use
    what the caller may close next. An interrupt waits for nothing: the threads are daemons, which
    unlike an executor's do not hold up the program's end either.

    Raises:
        Exception: the first error, in the order of the arguments.
    """
    if len(arguments) < 2:
        return [function(argument) for argument in arguments]
    futures: list[Future[R]] = [Future() for _ in arguments]
    todo: SimpleQueue[tuple[Future[R], A]] = SimpleQueue()
    for task in zip(futures, arguments, strict=True):
        todo.put(task)
    for _ in range(min(limit, len(arguments))):
        threading.Thread(target=_work, args=(function, todo), daemon=True).start()
    try:
        return [future.result() for future in futures]
    except BaseException as error:
        for future in futures:
            future.cancel()
        if isinstance(error, Exception):
            wait(futures)
        raise


def in_background(function: Callable[[], R]) -> Future[R]:
    """Begin a call in a thread of its own, which does not hold up the program's end either."""
    future: Future[R] = Future()
    todo: SimpleQueue[tuple[Future[R], None]] = SimpleQueue()
    todo.put((future, None))
    threading.Thread(target=_work, args=(lambda _: function(), todo), daemon=True).start()
    return future


def _work(function: Callable[[A], R], todo: "SimpleQueue[tuple[Future[R], A]]") -> None:
    while True:
        try:
            future, argument = todo.get_nowait()
        except Empty:
            return
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(function(argument))
        except BaseException as error:
            future.set_exception(error)
