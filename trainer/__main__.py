"""`accelerate launch -m trainer CONFIG [key=value ...]`."""

import sys

from trainer.errors import TrainerError

USAGE = "usage: python -m trainer CONFIG.yaml [section.key=value ...]"


def main() -> int:
    """Train; a mistake of the user's is one message, no traceback."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE + "\n")
        return 0 if arguments else 2
    try:
        from trainer.learning import launch  # Imports torch, so only once there is work.

        launch.main(arguments)
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was learnt is saved (taco train --resume RUN)\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
