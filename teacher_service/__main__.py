"""`python -m teacher_service --config FILE`: the service without the rest of the project."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from teacher_service.errors import StartError
from teacher_service.server import serve
from teacher_service.settings import load_settings

PARENT_CHECK_S = 0.5


def main() -> int:
    """Serve until stopped; 2 where the service cannot start."""
    parser = argparse.ArgumentParser(prog="python -m teacher_service", description=__doc__)
    parser.add_argument("--config", type=Path, help="the settings' YAML file")
    parser.add_argument("--announce-file", type=Path, help="gets the URL and the process id")
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop once the starting process is gone"
    )
    arguments = parser.parse_args()
    if arguments.stop_with_parent:
        _stop_with_parent()
    try:
        serve(load_settings(arguments.config), arguments.announce_file)
    except StartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _stop_with_parent() -> None:
    """Stop as for SIGTERM when the parent dies: a killed run must not leave the store locked."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
