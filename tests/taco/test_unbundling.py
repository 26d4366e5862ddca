"""Archives that are no bundles, or worse: each is refused, and nothing of it is left behind."""

import gzip
import resource
import tarfile
import zlib
from dataclasses import asdict

import pytest

from taco.bundle_format import COMPLETIONS, MANIFEST, TRAIN_DATA, BundleError, decode_manifest
from taco.unbundling import unbundle
from tests.bundles import FILES, manifest_of, member, members_of, seal, write_archive

MIB = 2**20


@pytest.fixture
def refuse(tmp_path):
    """Unbundle what must be refused; the message. Nothing but the archive is there afterwards."""

    def refuse(archive):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(BundleError) as refused:
            unbundle(archive, tmp_path / "new", lambda _done, _total: None)
        assert sorted(tmp_path.rglob("*")) == before
        return str(refused.value)

    return refuse


@pytest.fixture
def write(tmp_path):
    """Write an archive of the usual files: some changed, members added, a manifest of one's own."""

    def write(*more, manifest=None, after=b"", **changes):
        files = {**FILES, **changes}
        path = tmp_path / "bundle.tar.gz"
        members = [*members_of(files), *more]
        return write_archive(path, manifest or manifest_of(FILES), members, after)

    return write


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "data/../../outside",
        "/etc/outside",
        "data//outside",
        "data/./x",
        "data\\..\\outside",
        "C:outside",
        "data/C:outside",
        "elsewhere/file",
        "file",
        "data",
        "data/",
        "",
        ".",
        "data/\ud800",
        "data/\x1b[2J",
        "data/a\nb",
        "data/\0",
    ],
)
def test_a_name_that_leads_out_is_refused(refuse, write, name):
    """In the manifest, before anything is written."""
    files = {**FILES, name: b""} if name.isprintable() else FILES
    seals = {each: asdict(seal(content)) for each, content in {**files, name: b""}.items()}
    archive = write(manifest=manifest_of({}, files=seals))
    assert f"the manifest names {name!r}, which is no place within a bundle" in refuse(archive)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "data/more.json"])
def test_a_member_that_the_manifest_does_not_name_is_refused(refuse, write, name):
    """Wherever it leads."""
    archive = write(member(name, b"x"))
    assert f"it holds {name!r}, which its manifest does not name" in refuse(archive)


def test_a_member_that_comes_twice_is_refused(refuse, write):
    """The second would be written over what was checked."""
    archive = write(member(TRAIN_DATA, FILES[TRAIN_DATA]))
    assert f"it holds {TRAIN_DATA!r}, which its manifest does not name" in refuse(archive)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../outside"),
        (tarfile.LNKTYPE, COMPLETIONS),
        (tarfile.DIRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_what_is_no_plain_file_is_refused(refuse, tmp_path, kind, target):
    """Links, folders, pipes and devices, under a name that the manifest has."""
    files = {**FILES, "data/validation.json": b""}
    members = [*members_of(FILES), member("data/validation.json", type=kind, linkname=target)]
    archive = write_archive(tmp_path / "bundle.tar.gz", manifest_of(files), members)
    assert "'data/validation.json' is no plain file" in refuse(archive)


def test_a_link_in_the_manifest_s_place_is_refused(refuse, tmp_path):
    """It is no manifest either."""
    path = tmp_path / "bundle.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member(MANIFEST, type=tarfile.SYMTYPE, linkname="/etc/passwd")[0])
    assert f"'{MANIFEST}' is no plain file" in refuse(path)


@pytest.mark.parametrize("content", [b"{", b"{ }", b""])
def test_a_content_that_is_not_the_stated_one_is_refused(refuse, write, content):
    """As long as stated, longer, or shorter; the message has both."""
    said = refuse(write(**{TRAIN_DATA: content if content else b"{]"}))
    assert f"{TRAIN_DATA} is not what the manifest says: expected 2 bytes with SHA-256" in said
    assert "copy it again" in said


def test_a_file_that_is_not_there_is_named(refuse, tmp_path):
    """All of them."""
    files = {**FILES, "base/bert/model.safetensors": b"w", "data/validation.json": b"{}"}
    archive = write_archive(tmp_path / "bundle.tar.gz", manifest_of(files), members_of(FILES))
    assert "it lacks base/bert/model.safetensors, data/validation.json" in refuse(archive)


@pytest.mark.parametrize("part", list(FILES))
def test_every_part_of_a_bundle_must_be_named(part):
    """Without it the run cannot be done again."""
    files = {name: content for name, content in FILES.items() if name != part}
    with pytest.raises(BundleError, match="the manifest lacks"):
        decode_manifest(manifest_of(files))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bundle": 2}, "expected bundle format 1, got 2: use the version of taco-rewards that"),
        ({"run": "../trial"}, "calls the run '../trial': expected a folder's plain name"),
        ({"run": ".."}, "expected a folder's plain name"),
        ({"run": ""}, "expected a folder's plain name"),
        ({"run": "other"}, "lacks runs/other/run.lock"),
        ({"files": []}, "the manifest is damaged"),
        ({"files": {TRAIN_DATA: {"bytes": -1, "sha256": "ab" * 32}}}, "expected a length and a"),
        ({"files": {TRAIN_DATA: {"bytes": 1, "sha256": "AB" * 32}}}, "expected a length and a"),
        ({"files": {TRAIN_DATA: {"bytes": "1", "sha256": "ab" * 32}}}, "expected a length and a"),
        ({"files": {TRAIN_DATA: {"bytes": 1}}}, "the manifest is damaged: 'sha256'"),
        ({"files": {TRAIN_DATA: None}}, "the manifest is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(refuse, write, changes, said):
    """With what is wrong."""
    assert said in refuse(write(manifest=manifest_of(FILES, **changes)))


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b"\xff", b'"bundle"', b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(refuse, write, manifest):
    """No JSON, or another document."""
    assert "the manifest is none: expected what `taco cache bundle` wrote" in refuse(
        write(manifest=manifest or b" ")
    )


def test_what_is_no_archive_is_refused(refuse, tmp_path):
    """Nothing, a text, an archive of something else, a tar without gzip."""
    path = tmp_path / "bundle.tar.gz"
    for content in (b"", b"a text", gzip.compress(b"a text"), gzip.compress(b"")):
        path.write_bytes(content)
        assert "nothing was unpacked. Copy the file again" in refuse(path)
    for mode, said in (("w", "is no bundle"), ("w:gz", f"expected {MANIFEST} at its beginning")):
        with tarfile.open(path, mode) as archive:
            archive.addfile(member("other.txt")[0])
        assert said in refuse(path)


def test_there_is_no_such_file_and_no_such_folder(refuse, tmp_path):
    """Both are said by name."""
    assert "none.tar.gz cannot be unpacked: No such file or directory" in refuse(
        tmp_path / "none.tar.gz"
    )
    assert "cannot be unpacked: Is a directory" in refuse(tmp_path)


def test_an_archive_that_was_cut_short_is_refused_wherever_it_was(refuse, write, tmp_path):
    """After every byte, the last one too, which is gzip's check of the whole."""
    content = write().read_bytes()
    path = tmp_path / "bundle.tar.gz"
    for size in [*range(0, len(content) - 16, 7), *range(len(content) - 16, len(content))]:
        path.write_bytes(content[:size])
        said = refuse(path)
        # The whole of it is told by its lock only, which comes after every check of the archive.
        assert "expected a lock file" not in said, size
    path.write_bytes(content)
    assert "expected a lock file" in refuse(path)


def test_one_flipped_bit_is_found(refuse, write, tmp_path):
    """Wherever it is: the digests, the tar headers' sums and gzip's own check see to that."""
    content = write().read_bytes()
    path = tmp_path / "bundle.tar.gz"
    for place in range(10, len(content), 11):  # Behind gzip's header, which holds a time.
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        if _unpacks_to_the_same(changed, content):  # Some bits say nothing.
            continue
        path.write_bytes(changed)
        assert "expected a lock file" not in refuse(path), place


def _unpacks_to_the_same(changed, content):
    try:
        return gzip.decompress(changed) == gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        return False


def _bomb_in_a_member(tmp_path):
    files = dict(FILES)
    members = members_of({**files, TRAIN_DATA: bytes(64 * MIB)})
    return write_archive(tmp_path / "bomb.tar.gz", manifest_of(files), members)


def _bomb_in_a_header(tmp_path):
    # tar reads such a header into memory as a whole.
    longer = member("././@PaxHeader", bytes(64 * MIB), type=tarfile.XHDTYPE)
    return write_archive(tmp_path / "bomb.tar.gz", manifest_of(FILES), [longer])


def _bomb_after_the_end(tmp_path):
    members = members_of(FILES)
    return write_archive(tmp_path / "bomb.tar.gz", manifest_of(FILES), members, bytes(64 * MIB))


def _bomb_for_a_manifest(tmp_path):
    return write_archive(tmp_path / "bomb.tar.gz", bytes(64 * MIB), [])


@pytest.mark.parametrize(
    ("bomb", "said"),
    [
        (_bomb_in_a_member, "it goes on beyond the sizes that its manifest states"),
        (_bomb_in_a_header, "it goes on beyond the sizes that its manifest states"),
        (_bomb_after_the_end, "it goes on beyond the sizes that its manifest states"),
        (_bomb_for_a_manifest, f"expected {MANIFEST} at its beginning"),
    ],
)
def test_a_bomb_is_refused_before_it_bursts(refuse, tmp_path, monkeypatch, bomb, said):
    """64 MiB packed to 300 kB: most of it is not even read, and so neither written nor held."""
    archive = bomb(tmp_path)
    assert archive.stat().st_size < MIB
    unpacked = []
    read = gzip.GzipFile.read

    def counted(file, size=-1):
        block = read(file, size)
        unpacked.append(len(block))
        return block

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert said in refuse(archive)
    assert sum(unpacked) < 2 * MIB


def test_more_than_the_disk_holds_is_refused_first(refuse, write):
    """By what the manifest states."""
    seals = {name: asdict(seal(content)) for name, content in FILES.items()}
    seals[TRAIN_DATA]["bytes"] = 2**60
    said = refuse(write(manifest=manifest_of(FILES, files=seals)))
    assert "unpacked it takes 1,152,921,504,606,8" in said
    assert "are free where it is to go" in said


def test_a_disk_that_fills_up_is_named_as_such(refuse, tmp_path):
    """It is not the archive's fault; here a file may have no more than 100 kB."""
    files = {**FILES, TRAIN_DATA: bytes(MIB)}
    archive = write_archive(tmp_path / "bundle.tar.gz", manifest_of(files), members_of(files))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert "bundle.tar.gz cannot be unpacked: File too large" in refuse(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_exists_is_left_alone(write, tmp_path):
    """Whatever is in it."""
    (tmp_path / "new").mkdir()
    with pytest.raises(BundleError, match="new exists: name a new folder, or remove it"):
        unbundle(write(), tmp_path / "new", lambda _done, _total: None)
    assert not list((tmp_path / "new").iterdir())


def test_a_folder_that_cannot_be_made_is_an_error(taco, write, read_only_folder):
    """One line for people."""
    said = taco("cache", "unbundle", write(), read_only_folder / "new")
    assert said.code == 1
    assert "cannot be made: " in said.err
