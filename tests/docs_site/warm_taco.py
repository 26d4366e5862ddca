"""A `taco` that has everything imported: each command is a fork of one warm process.

A page has many commands, and most of their time is the import of torch. Only imports are shared:
each command is a process with its own folder, environment and streams, and ends with its status.

    python warm_taco.py SOCKET      the warm process
    the script `SHIM`               hands a command to it
"""

import json
import os
import socket
import sys
from pathlib import Path

SHIM = """#!{python} -SE
import json, os, socket, sys
if sys.argv[1:2] == ["serve"]:  # Stays, and is stopped by its process id.
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [len(told).to_bytes(8, "little")], [0, 1, 2])
    line.sendall(told)
    status = line.recv(1)
sys.exit(status[0] if status else 1)
"""
"""With `python`, `real` (the installed command) and `address` to be filled in."""


def serve(address: str) -> None:
    """Fork for each command, for ever."""
    import cache.ledger
    import cache.maintenance
    import taco.cli
    import trainer.evaluation.evaluate
    import trainer.learning.launch
    import trainer.policy.inference

    assert cache, taco and trainer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(line)
            line.close()
            _reap()


def _run(line: socket.socket) -> None:
    """Be the command, then end; nothing of the warm process is gone on with."""
    size, streams, _, _ = socket.recv_fds(line, 8, 3)
    told = bytearray()
    while len(told) < int.from_bytes(size, "little"):
        told += line.recv(1 << 16)
    arguments, folder, environment = json.loads(told)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["taco", *arguments]
    status = _status()
    sys.stdout.flush()
    sys.stderr.flush()
    line.sendall(bytes([status]))
    os._exit(0)


def _status() -> int:
    from taco.cli import main

    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def write_shim(path: Path, address: str) -> None:
    """Put a `taco` there that hands its command to the warm process at `address`."""
    real = str(Path(sys.executable).with_name("taco"))
    path.write_text(SHIM.format(python=sys.executable, real=real, address=address))
    path.chmod(0o755)


if __name__ == "__main__":
    serve(sys.argv[1])
