"""`accelerate launch -m trainer CONFIG [key=value ...]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.config_file import load_config
from trainer.errors import TrainerError
from trainer.rollouts.connection import require_teacher

USAGE = """\
usage: python -m trainer CONFIG.yaml [section.key=value ...] [--resume auto]
       python -m trainer --resume RUN"""


def main() -> int:
    """Train; a mistake of the user's is one message, no traceback."""
    arguments, resume = _without_resume(sys.argv[1:])
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(USAGE + "\n")
        return 0
    if bool(arguments) != (resume in (None, "auto")):
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        if arguments:
            _train(Path(arguments[0]), arguments[1:], go_on=resume == "auto")
        else:
            _resume(Path(str(resume)))
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return 0


def _without_resume(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The other arguments, and what follows `--resume`."""
    if "--resume" not in arguments:
        return list(arguments), None
    at = list(arguments).index("--resume")
    return [*arguments[:at], *arguments[at + 2 :]], "".join(arguments[at + 1 : at + 2])


def _train(path: Path, overrides: Sequence[str], *, go_on: bool) -> None:
    """Train against a service that is already there: none is started here."""
    config = load_config(path, overrides)
    teacher_url = require_teacher(config)
    from trainer.learning import launch  # Imports torch, so only once there is work.

    begin = launch.train_or_resume if go_on else launch.train_new
    begin(config, config.run.name or path.stem, teacher_url=teacher_url)


def _resume(folder: Path) -> None:
    from trainer.learning import launch

    launch.resume(folder, teacher_url=require_teacher(launch.recorded_config(folder)))


if __name__ == "__main__":
    sys.exit(main())
