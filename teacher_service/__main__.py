"""`python -m teacher_service --config FILE`: the service without the rest of the project."""

import argparse
import logging
import sys
from pathlib import Path

from teacher_service.errors import StartError
from teacher_service.server import serve
from teacher_service.settings import load_settings


def main() -> int:
    """Serve until stopped; 2 where the service cannot start."""
    parser = argparse.ArgumentParser(prog="python -m teacher_service", description=__doc__)
    parser.add_argument("--config", type=Path, help="the settings' YAML file")
    parser.add_argument("--announce-file", type=Path, help="gets the URL and the process id")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("teacher_service").setLevel(logging.INFO)
    try:
        serve(load_settings(arguments.config), arguments.announce_file)
    except StartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
