"""What is PostgreSQL's alone; what both databases promise is in test_store and test_commit."""

import subprocess
import sys
import textwrap
import threading

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cache import (
    CompletionStore,
    SchemaTooNew,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
    migrate,
    models,
)
from cache.postgres.address import shown
from cache.postgres.sessions import transaction


@pytest.fixture
def place(postgres_url):
    """Every store here is in PostgreSQL."""
    return postgres_url


def _run(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _rows(url, query):
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_a_database_without_a_schema_is_refused_until_it_is_migrated(postgres_server):
    """The message gives the command; migrating twice, or twice at once, is harmless."""
    with postgres_server.database(template="template1") as url:
        for read_only in (False, True):
            with pytest.raises(StoreError, match=r"no tables of a store.*taco cache migrate"):
                CompletionStore.open(url, read_only=read_only)
        threads = [threading.Thread(target=migrate, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        CompletionStore.open(url).close()


def test_the_migrations_make_the_tables_of_the_models(place):
    """Alembic finds no difference."""
    with transaction(place) as connection:
        assert compare_metadata(MigrationContext.configure(connection), models.metadata) == []


def test_an_older_schema_is_named(place):
    """It is brought up to date by command, and never by opening."""
    _run(place, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StoreError, match=r"has schema 0001.*taco cache migrate"):
        CompletionStore.open(place)


def test_a_newer_schema_is_refused_by_all(place):
    """Opening and migrating alike."""
    _run(place, "UPDATE alembic_version SET version_num = '9999'")
    for use in (CompletionStore.open, migrate):
        with pytest.raises(SchemaTooNew, match=r"schema 9999.*upgrade taco-rewards"):
            use(place)


def test_another_programs_tables_are_left_alone(postgres_server):
    """Many programs use Alembic: its table alone is no sign of a store."""
    with postgres_server.database(template="template1") as url:
        _run(url, "CREATE TABLE alembic_version (version_num text)")
        for use in (CompletionStore.open, migrate):
            with pytest.raises(StoreError, match="another program's tables"):
                use(url)


def test_a_database_in_another_encoding_is_refused(postgres_server):
    """Text must come back as it went in, whatever its script."""
    with (
        postgres_server.database("template0 ENCODING 'LATIN1' LOCALE 'C'") as url,
        pytest.raises(StoreError, match=r"keeps its text in LATIN1.*UTF8"),
    ):
        CompletionStore.open(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/completions",
        "postgresql://127.0.0.1:1/completions?user=me&password=s3cret",
        "postgresql://me:s3cret@[::1",
    ],
)
def test_no_message_shows_a_password(url):
    """Neither the URL's, nor one quoted by the driver."""
    with pytest.raises(StoreError) as refused:
        CompletionStore.open(url)
    error = refused.value
    while error:
        assert "s3cret" not in str(error)
        error = error.__cause__


def test_what_is_shown_of_a_url_says_where_it_is():
    """User, host, port and database; defaults are left out."""
    assert shown("postgres://me:pw@db.example:5433/c?sslmode=require") == (
        "postgresql://me@db.example:5433/c"
    )
    assert shown("postgresql:///c") == "postgresql://localhost/c"


def test_the_url_of_another_database_is_refused():
    """The message says what a store can be."""
    with pytest.raises(StoreError, match="cannot be at mysql://…: expected a file, or postgresql:"):
        CompletionStore.open("mysql://me:s3cret@host/db")


def test_a_server_that_does_not_answer_is_named():
    """And the message says what to look at."""
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:1/c: .*see that the server runs"):
        CompletionStore.open("postgresql://127.0.0.1:1/c")


def test_the_live_writer_waits_for_the_disk(place, postgres_server):
    """`synchronous_commit` is on even where the server's own default is not."""
    name = place.partition("?")[0].rpartition("/")[2]
    postgres_server.command(f"ALTER DATABASE {name} SET synchronous_commit = off")

    def ask(connection):
        return connection.execute("SELECT current_setting('synchronous_commit')").fetchone()

    with CompletionStore.open(place) as store:
        assert store._writer.submit(ask).result() == ("on",)
    postgres_server.command(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    with CompletionStore.open(place) as store:
        assert store._writer.submit(ask).result() == ("remote_apply",)


def test_a_lost_connection_is_made_again(store, make_entry, place, postgres_server):
    """Reads, writes and reports go on as if nothing had been."""
    first, second = make_entry("first"), make_entry("second")
    store.commit([first]).result()
    postgres_server.disconnect(place)
    assert first.fingerprint.key in store.lookup([first.fingerprint.key])
    store.commit([second]).result()
    store.check_writable()
    assert store.stats().completions == 2


def test_a_connection_lost_within_a_commit_loses_nothing(store, make_entry, place, postgres_server):
    """The whole group is written again on a new connection."""
    breaks = iter([lambda: postgres_server.disconnect(place), lambda: None])

    def break_once(_):
        next(breaks)()

    future = store.commit([make_entry("before")])
    broken = store._writer.submit(break_once)
    after = store.commit([make_entry("after")])
    for each in (future, broken, after):
        each.result(timeout=30)
    assert store.stats().completions == 2


def test_while_the_database_is_away_nothing_is_bought(store, make_entry, place, postgres_server):
    """Every use says so, the store comes back by itself, and `close` does not hang."""
    entry = make_entry("q")
    store.commit([entry]).result()
    with postgres_server.away(place):
        for use in (
            lambda: store.lookup([entry.fingerprint.key]),
            store.check_writable,
            lambda: store.commit([make_entry("lost")]).result(timeout=30),
            store.stats,
        ):
            with pytest.raises(StoreUnreachable):
                use()
    store._database._reader._failure = store._database._writer._failure = None  # A second later.
    assert entry.fingerprint.key in store.lookup([entry.fingerprint.key])
    store.commit([make_entry("kept")]).result()


def test_a_server_that_takes_no_writes_still_serves(store, make_entry, place, postgres_server):
    """As managed servers become when their disk is full, and standbys are."""
    entry = make_entry("q")
    store.commit([entry]).result()
    name = place.partition("?")[0].rpartition("/")[2]
    postgres_server.command(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres_server.disconnect(place)
    with pytest.raises(StoreReadOnly, match="name the primary"):
        store.commit([make_entry("new")]).result()
    with pytest.raises(StoreReadOnly):
        store.check_writable()
    assert entry.fingerprint.key in store.lookup([entry.fingerprint.key])


def test_a_user_without_rights_is_told_which_to_ask_for(place, postgres_server, teacher):
    """Reading may be all that a user is allowed."""
    postgres_server.command("CREATE ROLE reader LOGIN")
    _run(place, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    with CompletionStore.open(place.replace("postgres:@", "reader:@")) as store:
        assert store.lookup([bytes(32)]) == {}
        with pytest.raises(StoreReadOnly, match="grant this user SELECT, INSERT"):
            store.register_teacher(teacher)


def test_two_writers_agree_on_every_answer(place, teacher, make_entry):
    """Stores that commit the same keys at once, in opposite orders, serve the same answers."""
    numbers = range(60)

    def work(store, name, order, served):
        for start in range(0, len(order), 20):
            entries = [make_entry(str(n), f"{name} {n}") for n in order[start : start + 20]]
            for each in store.commit(entries).result(timeout=60):
                served[each.key] = each.answer.text

    with CompletionStore.open(place) as one, CompletionStore.open(place) as other:
        one.register_teacher(teacher)
        served = [{}, {}]
        threads = [
            threading.Thread(target=work, args=(one, "one", list(numbers), served[0])),
            threading.Thread(target=work, args=(other, "other", list(numbers)[::-1], served[1])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(served[0]) == 60
        assert served[0] == served[1]
        assert (one.stats().completions, one.stats().alternates) == (60, 60)


def test_a_deadlock_is_resolved_by_writing_again(place, store):
    """The server ends one of two transactions that wait for each other; nobody notices."""
    insert = (
        "INSERT INTO runs (name, started_at, last_used_at) VALUES (?, 0, 0) ON CONFLICT DO NOTHING"
    )
    wrote = {"a": threading.Event(), "b": threading.Event()}

    def crosswise(first, second):
        def work(connection):
            connection.execute(insert, [first])
            wrote[first].set()
            assert wrote[second].wait(timeout=30)
            connection.execute(insert, [second])

        return work

    with CompletionStore.open(place) as other:
        futures = [
            store._writer.submit(crosswise("a", "b")),
            other._writer.submit(crosswise("b", "a")),
        ]
        for future in futures:
            future.result(timeout=30)
    assert _rows(place, "SELECT name FROM runs ORDER BY name") == [("a",), ("b",)]


def test_a_store_that_is_up_to_date_opens_without_the_migration_tools(place):
    """Opening, looking up and committing import neither Alembic nor SQLAlchemy."""
    code = """
        import sys
        from cache import CompletionStore
        with CompletionStore.open(sys.argv[1]) as store:
            store.lookup([bytes(32)])
            store.commit([]).result()
        assert not {"alembic", "sqlalchemy"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), place], check=True)


def test_without_the_driver_the_extra_is_named(place, monkeypatch):
    """A file store needs none of it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'taco-rewards\[postgres\]'"):
        CompletionStore.open(place)
