"""Where a store may lie: on a local disk with some room left."""

import re
import shutil
from pathlib import Path

from cache.errors import StoreFull, UnsupportedFilesystem

# File systems on which two machines can see one file: SQLite's write-ahead log needs memory that
# all its readers share.
_NETWORK = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}
_MOUNTS = Path("/proc/mounts")  # Linux only; elsewhere nothing is refused.
_OCTAL = re.compile(r"\\([0-7]{3})")


def refuse_network(path: Path) -> None:
    """Refuse a path on a network file system.

    Raises:
        UnsupportedFilesystem: with the file system's type.
    """
    if not _MOUNTS.exists():
        return
    kind = filesystem_type(path.resolve(), _MOUNTS.read_text())
    if kind in _NETWORK:
        raise UnsupportedFilesystem(
            f"{path} lies on a network file system ({kind}), where SQLite can lose data. Put the "
            "store on a local disk (TACO_HOME says where) and share it through the service."
        )


def filesystem_type(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds `path`, by a table in the form of /proc/mounts.

    Of several mounts on one folder the last hides the others. None: no mount covers the path.
    """
    found: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        _, folder, kind, *_ = line.split(" ")
        mount = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), folder))
        if path.is_relative_to(mount) and len(mount.parts) >= found[0]:
            found = (len(mount.parts), kind)
    return found[1]


def require_space(folder: Path, needed: int) -> None:
    """Refuse when fewer than `needed` bytes are free where `folder` lies.

    Raises:
        StoreFull: with both figures.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(
            f"{folder} has {free / 1e6:.1f} MB free and the store needs {needed / 1e6:.1f} MB: "
            "make room on that disk; what is stored can still be read"
        )
