"""`python tied_process.py COMMAND…`: a command that does not outlive us.

Whoever starts it holds its standard input. When that closes, by intent or because its holder was
killed, the command and all that it started are stopped; so they are when the command itself ends,
because a server's workers may survive it and hold the GPU.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

STOP_S = 20.0


def main() -> int:
    """Run the command; its exit code, or minus the signal that ended it."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_stop_at_end_of_input, args=(command,), daemon=True).start()
    code = command.wait()
    _signal_group(command, signal.SIGKILL)
    return code


def _stop_at_end_of_input(command: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    command.terminate()  # Itself alone: a server stops its own workers in order.
    with suppress(subprocess.TimeoutExpired):
        command.wait(STOP_S)
    _signal_group(command, signal.SIGKILL)


def _signal_group(command: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(command.pid, number)


if __name__ == "__main__":
    sys.exit(main())
