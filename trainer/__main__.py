"""`accelerate launch -m trainer CONFIG [key=value ...]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.config_file import load_config
from trainer.errors import TrainerError
from trainer.rollouts.connection import require_teacher

USAGE = "usage: python -m trainer CONFIG.yaml [section.key=value ...]"


def main() -> int:
    """Train; a mistake of the user's is one message, no traceback."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE + "\n")
        return 0 if arguments else 2
    try:
        _train(Path(arguments[0]), arguments[1:])
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return 0


def _train(path: Path, overrides: Sequence[str]) -> None:
    """Train against a service that is already there: none is started here."""
    config = load_config(path, overrides)
    teacher_url = require_teacher(config)
    from trainer.learning import launch  # Imports torch, so only once there is work.

    launch.train_new(config, config.run.name or path.stem, teacher_url=teacher_url)


if __name__ == "__main__":
    sys.exit(main())
