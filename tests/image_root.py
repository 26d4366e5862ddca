"""A Dockerfile carried out without an engine: on a copy-on-write view of this machine's root.

What its base image would bring is imitated by a fresh virtual environment in front of the path. Its
instructions run as they are, in their order, in a root of their own that the rest of this machine
does not see; so do the commands that an image's containers start. Needs root and overlayfs.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_IGNORED = {"FROM", "EXPOSE", "CMD", "ENTRYPOINT"}
_ENTER = """
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$BASE/upper,workdir=$BASE/work" "$BASE/root"
mount --rbind /proc "$BASE/root/proc"
mount --rbind /dev "$BASE/root/dev"
[ -z "$ALONE" ] || ip link set lo up
exec chroot --userspec="$AS" "$BASE/root" /bin/sh -c 'cd "$0" && exec "$@"' "$FOLDER" "$@"
"""


@dataclass
class ImageRoot:
    """The root as it is after the instructions so far."""

    base: Path
    context: Path
    """What COPY copies from."""
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"

    @classmethod
    def bare(cls, base: Path, context: Path) -> "ImageRoot":
        """This machine's root, as it is."""
        for name in ("upper", "work", "root"):
            (base / name).mkdir(parents=True)
        return cls(base, context, {"PATH": os.environ["PATH"]})

    @classmethod
    def empty(cls, base: Path, context: Path) -> "ImageRoot":
        """A root with nothing of ours: Python in an environment without a package."""
        root = cls.bare(base, context)
        kept = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "REQUESTS_CA")
        root.environment = {
            name: value for name, value in os.environ.items() if name.upper().startswith(kept)
        } | {"PATH": f"/image/bin:{os.environ['PATH']}", "HOME": "/tmp"}
        # The interpreter may lie in a home that the image's user could not look into.
        root.run(["sh", "-c", f"chmod a+x /root && {shlex.quote(_python())} -m venv /image"])
        return root

    def build(self, dockerfile: Path, arguments: Mapping[str, str] | None = None) -> None:
        """Carry the file out."""
        for word, rest in instructions(dockerfile.read_text()):
            match word:
                case "RUN":
                    self.run(["sh", "-ec", rest])
                case "COPY":
                    *sources, target = rest.split()
                    self._copy(sources, target)
                case "ENV":
                    self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "ARG":
                    name, _, default = rest.partition("=")
                    self.environment[name] = (arguments or {}).get(name, default)
                case "WORKDIR":
                    self.folder = rest
                    self.run(["mkdir", "-p", rest], folder="/")
                case "USER":
                    self.user = rest
                case _:
                    assert word in _IGNORED, f"{dockerfile}: {word} is not known here"

    def run(self, command: Sequence[str], **options: str) -> str:
        """Run a command to its end; what it wrote."""
        process = self.start(command, **options)
        written, _ = process.communicate()
        assert process.returncode == 0, f"{command}: {process.returncode}\n{written}"
        return written

    def start(
        self,
        command: Sequence[str],
        *,
        folder: str | None = None,
        alone: str = "",
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start a command; `alone`: with a network of its own, in which every port is free."""
        own = ["--net"] if alone else []
        entering = {
            "BASE": str(self.base),
            "ALONE": alone,
            "AS": f"{self.user}:{self.user}",
            "FOLDER": folder or self.folder,
        }
        return subprocess.Popen(
            ["unshare", "--mount", *own, "sh", "-c", _ENTER, "sh", *command],
            env={**self.environment, **environment, **entering},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _copy(self, sources: Sequence[str], target: str) -> None:
        """As COPY does: a folder's content, or files into a folder."""
        place = self.base / "upper" / os.path.join(self.folder, target).lstrip("/")  # noqa: PTH118
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            found = list(self.context.glob(source))
            assert found, f"COPY {source}: there is no such file"
            for path in found:
                if path.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(path, place, dirs_exist_ok=True, ignore=ignored)
                else:
                    shutil.copy(path, place)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for whole in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = whole.partition(" ")
        yield word, rest


def last(text: str, wanted: str) -> list[str]:
    """The list that an instruction such as CMD holds."""
    command: list[str] = json.loads(dict(instructions(text))[wanted])
    return command


def missing(folder: Path) -> str | None:
    """Why there can be no such root below this folder; None where there can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if shutil.which("unshare") is None:
        return "there is no unshare"
    try:
        ImageRoot.bare(folder / "trial", folder).run(["true"], alone="yes")
    except AssertionError as error:
        return str(error).replace("\n", " ")
    return None


def _python() -> str:
    """The interpreter behind this environment's own."""
    return str(Path(sys.executable).resolve())
