from pathlib import Path

import pytest

from cache import CompletionStore, StoreFull, UnsupportedFilesystem, filesystems
from cache.filesystems import filesystem_type, require_space

_MOUNTS = r"""
/dev/vda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /home nfs4 rw,vers=4.2 0 0
/dev/vdb /home/anna/disk xfs rw 0 0
//server/share /mnt/my\040share cifs rw 0 0
/dev/vdc /data ext4 rw 0 0
none /data overlay rw 0 0
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/completions.sqlite", "ext4"),
        ("/home/anna/completions.sqlite", "nfs4"),
        ("/home/anna/disk/completions.sqlite", "xfs"),
        ("/homework/completions.sqlite", "ext4"),
        ("/mnt/my share/completions.sqlite", "cifs"),
        ("/data/completions.sqlite", "overlay"),
    ],
)
def test_the_innermost_mount_decides(path, kind):
    """The longest mounted folder counts, of two on one folder the later, with spaces unescaped."""
    assert filesystem_type(Path(path), _MOUNTS) == kind


def test_no_mount_is_no_file_system():
    """A table that does not cover the path gives None."""
    assert filesystem_type(Path("/srv/x"), "server:/export /home nfs4 rw 0 0") is None


def test_a_store_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    """For writing and for reading, with the type and the way out, before anything is created."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/export {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    for read_only in (False, True):
        with pytest.raises(UnsupportedFilesystem, match=r"nfs4.*local disk"):
            CompletionStore.open(tmp_path / "new" / "completions.sqlite", read_only=read_only)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mounts"]


def test_where_there_is_no_table_of_mounts_nothing_is_refused(tmp_path, monkeypatch):
    """Other systems than Linux have no /proc/mounts."""
    monkeypatch.setattr(filesystems, "_MOUNTS", tmp_path / "absent")
    CompletionStore.open(tmp_path / "completions.sqlite").close()


def test_too_little_room_is_refused_with_both_figures(tmp_path):
    """The message says how much is free and how much is needed."""
    require_space(tmp_path, 1)
    with pytest.raises(StoreFull, match=r"MB free and the store needs 1000000000\.0 MB"):
        require_space(tmp_path, 10**15)
