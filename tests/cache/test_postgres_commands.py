"""What the commands do to a store in PostgreSQL."""

import threading
import time

import pytest
from typer.testing import CliRunner

from cache import CompletionStore, Refusal, StoreError, shown_place
from cache.command_log import command_log
from cache.exporting import export_store
from cache.importing import import_store
from cache.merging import merge_stores
from cache.verifying import verify_store
from taco.cli import app


@pytest.fixture
def place(postgres_url):
    """Where `store` is."""
    return postgres_url


@pytest.fixture
def file_store(path, teacher, make_entry):
    """A file of a thousand answers, with an alternate and a refusal."""
    with CompletionStore.open(path) as store:
        store.register_teacher(teacher)
        store.commit([make_entry(str(number), f"answer\0{number}") for number in range(1000)])
        store.commit([make_entry("0", "other"), make_entry("no", Refusal("content_filter", "No"))])
    return path


def test_a_store_moves_from_a_file_to_a_server_and_back(file_store, place, tmp_path):
    """Export and import: the same records, to the byte, and all of them verify."""
    first = export_store(file_store, tmp_path / "file.jsonl")
    import_store(place, tmp_path / "file.jsonl")
    second = export_store(place, tmp_path / "server.jsonl")
    assert (first.entries, first.sha256) == (1001, second.sha256)
    assert verify_store(place).bad == 0
    import_store(tmp_path / "back.sqlite", tmp_path / "server.jsonl")
    assert export_store(tmp_path / "back.sqlite", tmp_path / "3.jsonl").sha256 == first.sha256


def test_files_are_merged_into_a_server(file_store, place, store, make_entry):
    """One planted conflict is one conflict; what the server serves stays."""
    store.commit([make_entry("7", "the server's")]).result()
    assert merge_stores(place, [file_store]).conflicts == 1
    assert store.stats().completions == 1000
    key = make_entry("7").fingerprint.key
    assert store.lookup([key])[key].answer.text == "the server's"


def test_a_server_is_merged_into_a_file(file_store, place, store, make_entry):
    """As a file is into a server; and nothing into itself."""
    store.commit([make_entry("7", "the server's"), make_entry("new", "here")]).result()
    report = merge_stores(file_store, [place])
    assert (report.added, report.conflicts) == (1, 1)
    assert verify_store(file_store).bad == 0
    with pytest.raises(StoreError, match="is the target itself"):
        merge_stores(place, [file_store, place])


def test_a_service_waits_while_a_command_writes(file_store, place, store, make_entry, tmp_path):
    """It goes on serving, and its own answer comes after the import's, as an alternate."""
    export_store(file_store, tmp_path / "file.jsonl")
    inside, go_on = threading.Event(), threading.Event()

    def hold(done, total):
        inside.set()
        assert go_on.wait(timeout=30)

    importing = threading.Thread(
        target=import_store, args=(place, tmp_path / "file.jsonl"), kwargs={"progress": hold}
    )
    importing.start()
    assert inside.wait(timeout=30)
    committed = store.commit([make_entry("7", "the service's")])
    assert store.lookup([make_entry("7").fingerprint.key]) == {}
    time.sleep(0.2)
    assert not committed.done()
    go_on.set()
    assert committed.result(timeout=30)[0].answer.text == "answer\x007"
    importing.join()
    assert store.stats().alternates == 2


def test_a_database_that_is_not_migrated_is_refused(postgres_server, file_store, tmp_path):
    """By commands that read as by those that write."""
    with postgres_server.database(template="template1") as url:
        for command in (verify_store, lambda url: merge_stores(url, [file_store])):
            with pytest.raises(StoreError, match="taco cache migrate"):
                command(url)


def test_the_command_line_takes_a_url_and_hides_its_password(
    place, store, make_entry, monkeypatch, tmp_path
):
    """All commands but `backup`, which says what to do instead."""
    monkeypatch.setenv("TACO_HOME", str(tmp_path))
    store.commit([make_entry("q", compressed_text="short")]).result()
    url = place.replace("postgres:@", "postgres:s3cret@")
    run = CliRunner().invoke
    for command in (
        ["migrate"],
        ["stats"],
        ["find", "short"],
        ["verify"],
        ["prune", "--teacher", "demo"],
        ["forget", "short"],
    ):
        result = run(app, ["cache", *command, "--store", url])
        assert result.exit_code == 0, result.output
        assert "s3cret" not in result.output
    refused = run(app, ["cache", "backup", "new.sqlite", "--store", url])
    assert "back a database up with its own pg_dump" in str(refused.exception)
    assert "s3cret" not in str(refused.exception)
    logged = command_log(url).read_text()
    assert '"command": "forget"' in logged
    assert shown_place(url) in logged
    assert "s3cret" not in logged


def test_a_place_is_shown_without_its_password(tmp_path):
    """A file is shown as it is."""
    assert shown_place("postgresql://me:s3cret@db/c") == "postgresql://me@db/c"
    assert shown_place(tmp_path) == str(tmp_path)
