"""The process: bind, announce, serve, stop."""

import gc
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from teacher_service.app import create_app
from teacher_service.errors import StartError
from teacher_service.request_log import set_up_logs
from teacher_service.settings import Settings

_log = logging.getLogger(__name__)


def serve(settings: Settings, announce_file: Path | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then let what is under way finish, and close the store.

    For the main thread of a process of its own: it takes over the signals.

    Args:
        settings: Where and what to serve.
        announce_file: Gets `{"url": …, "pid": …}` once the service answers; how a parent learns
            of a port that was chosen here (`port: 0`).

    Raises:
        StartError: The port is taken, or store or backend cannot be opened.
    """
    set_up_logs(as_json=settings.log_format == "json")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C: both end in order.
    with suppress(KeyboardInterrupt), bind(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            create_app(settings),
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=max(1, round(settings.stop_grace_s)),
        )
        _Server(config, listener, announce_file).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, announce_file: Path | None
    ) -> None:
        super().__init__(config)
        self._url = url_of(listener)
        self._announce_file = announce_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there by now stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        _log.info("serving at %s", self._url)
        if self._announce_file:
            _write_whole(self._announce_file, {"url": self._url, "pid": os.getpid()})


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        StartError: The address cannot be had, most often because the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {host} port {port}: {error.strerror}. Stop what listens there, or "
            "take another port (`port:` in the settings, TACO_SERVICE__PORT; 0 takes a free one)"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it can be reached."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _write_whole(path: Path, value: dict[str, object]) -> None:
    """Write in one step, so that a reader never sees half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)
