import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import bulk, scale
from cache import CompletionStore

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The store of 200 thousand rows; removed at the end."""
    folder = tmp_path_factory.mktemp("scale")
    scale.elsewhere("", bulk.build, folder / "large.sqlite", 200_000)
    yield folder / "large.sqlite"
    shutil.rmtree(folder)


def test_the_fast_way_makes_the_rows_that_the_store_makes(tmp_path):
    """Every column of every table, and every index."""
    committed, built = tmp_path / "committed.sqlite", tmp_path / "built.sqlite"
    with CompletionStore.open(committed) as store:
        store.register_teacher(bulk.TEACHER)
        store.commit([bulk.entry(number) for number in range(300)]).result()
    bulk.build(built, 300)
    assert _content(built) == _content(committed)


def test_two_hundred_thousand_rows_are_served(large):
    """The first, the last and one between, as they were made; and no more than those."""
    with CompletionStore.open(large, read_only=True) as store:
        for number in (0, 77_777, 199_999):
            [served] = store.lookup([bulk.key(number)]).values()
            assert served.answer == bulk.entry(number).answer
        assert store.lookup([bulk.key(200_000)]) == {}


def test_the_figures_have_their_shape(tmp_path, large):
    """Those that the README quotes are there, and are ratios, seconds and bytes."""
    small = tmp_path / "small.sqlite"
    bulk.build(small, scale.SMALL)
    figures = scale.figures_of(scale.measure(small, large, lookups=1024, runs=2))
    assert figures["rows"] == 200_000
    assert figures.pop("huge_page_mib") >= 0  # 0 where the system has them switched off.
    assert all(value > 0 for value in figures.values())
    for name in ("p50", "p99", "p50_256", "p99_256", "sqlite3_p50_256", "sqlite3_p99_256"):
        assert 0.01 < figures[f"{name}_10m_vs_10k"] < 1000
    assert 300 < figures["bytes_per_row"] < 3000


def test_another_process_starts_with_the_tunables(monkeypatch):
    """And ours keep what they were."""
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    assert scale.elsewhere(scale.HUGE_PAGES, os.getenv, "GLIBC_TUNABLES") == scale.HUGE_PAGES
    assert os.environ["GLIBC_TUNABLES"] == ""


def test_the_service_is_started_with_them():
    """In the image and under systemd, as the figures say."""
    for name in ("docker/Dockerfile.service", "deploy/taco-teacher.service"):
        assert f"GLIBC_TUNABLES={scale.HUGE_PAGES}" in (ROOT / name).read_text()


def test_a_disk_that_is_too_small_is_noticed_first(tmp_path):
    """It says what is missing and what to do; nothing is written."""
    with pytest.raises(SystemExit, match=r"rows take up to .* GB free: name a folder on a larger"):
        scale.require_room(tmp_path, 10**12)
    assert list(tmp_path.iterdir()) == []


def _content(path: Path) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema")]
        tables = [name for name in names if name in ("teachers", "requests", "completions")]
        content = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        content["teachers"] = [row[:-1] for row in content["teachers"]]  # Less the time.
        return content | {"schema": sorted(names)}
