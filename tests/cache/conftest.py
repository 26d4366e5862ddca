import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cache import (
    Answer,
    Completion,
    CompletionStore,
    NewEntry,
    Refusal,
    TeacherIdentity,
    fingerprint,
)

_NOBODY = 65534
TEACHER = TeacherIdentity.from_definition("demo", "builtin", {"rules": 1})


@pytest.fixture
def teacher() -> TeacherIdentity:
    """The teacher that `store` knows and `make_entry` uses."""
    return TEACHER


@pytest.fixture
def make_entry() -> Callable[..., NewEntry]:
    """An entry for the request "content", answered with `answer` or with a text."""

    def make(
        content: str, answer: Answer | str = "Yes.", *, compressed_text: str | None = None
    ) -> NewEntry:
        request = {"messages": [{"role": "user", "content": content}], "temperature": 0}
        completion = Completion(answer, "stop") if isinstance(answer, str) else answer
        asked = fingerprint(TEACHER.digest, request)
        return NewEntry(asked, TEACHER.digest, compressed_text, completion)

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made; neither file nor folder exists yet."""
    return tmp_path / "store" / "completions.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(request: pytest.FixtureRequest) -> Path | str:
    """Where a store may be made, on each database in turn."""
    name = {"sqlite": "path", "postgresql": "postgres_url"}[request.param]
    place: Path | str = request.getfixturevalue(name)
    return place


@pytest.fixture
def place(path: Path) -> Path | str:
    """Where `store` is: a file, unless a test's own file says `any_place`."""
    return path


@pytest.fixture
def store(place: Path | str) -> Iterator[CompletionStore]:
    """An empty store, open for writing."""
    with CompletionStore.open(place) as opened:
        opened.register_teacher(TEACHER)
        yield opened


@pytest.fixture
def stock(
    teacher: TeacherIdentity, make_entry: Callable[..., NewEntry]
) -> Callable[[Path | str], None]:
    """Fill a store with 300 completions, an alternate and a refusal."""

    def fill(place: Path | str) -> None:
        pairs = [(str(number), f"Answer {number}.") for number in range(300)]
        pairs += [("7", "Seven."), ("refused", Refusal("content_filter", "No."))]
        entries = [make_entry(*pair, compressed_text=f"c {pair[0]}") for pair in pairs]
        with CompletionStore.open(place) as store:
            store.register_teacher(teacher)
            store.commit(entries).result()

    return fill


@pytest.fixture
def stocked(path: Path, stock: Callable[[Path | str], None]) -> Path:
    """A closed store, filled by `stock`; returns its path."""
    stock(path)
    return path


@pytest.fixture
def stocked_anywhere(
    any_place: Path | str,
    stock: Callable[[Path | str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path | str:
    """The same on each database in turn; commands on a server are logged in the test's folder."""
    monkeypatch.setenv("TACO_HOME", str(tmp_path / "home"))
    stock(any_place)
    return any_place


@pytest.fixture
def key_of(make_entry: Callable[..., NewEntry]) -> Callable[[str], bytes]:
    """The key of the request "content"."""
    return lambda content: make_entry(content).fingerprint.key


class GuardedFolder:
    """A folder that any user can read, and that can be guarded from writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Within, nobody can write to it: root, whom permissions do not stop, is nobody."""
        self.path.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.setresuid(_NOBODY, _NOBODY, 0)
        try:
            yield
        finally:
            if is_root:
                os.setresuid(0, 0, 0)
            self.path.chmod(0o755)


@pytest.fixture
def guarded_folder() -> Iterator[GuardedFolder]:
    """An empty one; not below pytest's own folder, which other users cannot enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield GuardedFolder(Path(folder))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 32 MB; making one takes the right to mount."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
