"""Lists of entries, and searches by text, on both databases."""

import sqlite3
import stat
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from cache import CompletionStore, Refusal, SearchTooLong, StoreError, TeacherIdentity, Use
from cache.browsing import (
    Sought,
    found_by,
    keys_found_by,
    keys_used_by,
    latest,
    said_around,
    shown_text,
    used_by,
)
from cache.counting import count_new
from cache.forgetting import forget_text
from cache.promoting import promote_alternate
from cache.pruning import prune_store
from cache.selection import Selection
from cache.sqlite_file import word_file_of
from cache.words import parse_search
from tests.cache.conftest import TEACHER

OTHER = TeacherIdentity.from_definition("other", "builtin", {"rules": 2})


@pytest.fixture
def place(any_place, tmp_path, monkeypatch):
    """Each database in turn; commands on a server are logged in the test's folder."""
    monkeypatch.setenv("TACO_HOME", str(tmp_path / "home"))
    return any_place


@pytest.fixture
def keep(store, make_entry):
    """Store questions with their answers, in order."""

    def keep_them(*pairs):
        store.commit([make_entry(*pair) for pair in pairs]).result()

    return keep_them


def _index(store):
    index = store.word_index()
    while not index.catch_up().is_complete:
        pass
    return index


def _found(store, text, index=None, **sought):
    """What a search finds, once the index is up to date: the questions."""
    index = index or _index(store)
    ask = Sought(parse_search(text), **sought)
    return [
        line.asked
        for line in store.query(lambda connection: found_by(connection, index, ask)).lines
    ]


def _all_pages(page) -> list:
    """Every line of a list, page by page."""
    lines, before = [], None
    while True:
        part = page(before)
        lines += part.lines
        before = part.before
        if before is None:
            return lines


def test_the_latest_come_first_page_by_page(store, keep):
    """Each entry once, with how its request and its answer begin."""
    keep(*[(f"question {number}", f"answer {number}") for number in range(25)])

    def page(before):
        return store.query(lambda connection: latest(connection, None, before, limit=10))

    lines = _all_pages(page)
    assert [line.asked for line in lines] == [f"question {n}" for n in reversed(range(25))]
    assert [line.answered for line in lines] == [f"answer {n}" for n in reversed(range(25))]
    assert {line.teacher for line in lines} == {"demo"}
    assert store.query(lambda connection: latest(connection, "demo", limit=25)).before is None


def test_a_refusal_and_a_strange_text_are_lines_too(store, keep):
    """Whatever is in them."""
    keep(("refused", Refusal("content_filter", "No.")), ("nul", "\0after"), ("long", "x" * 100_000))
    long, nul, refused = store.query(latest).lines
    assert (refused.refused, refused.answered) == (True, "No.")
    assert nul.answered == "\0after"
    assert set(long.answered) == {"x"}
    assert len(long.answered) < 10_000


def test_entries_of_a_teacher_and_of_a_run(store, keep, make_entry, key_of):
    """A run's list has its uses; what was removed is not in it."""
    keep(("one", "1"), ("two", "2"))
    store.register_teacher(OTHER)
    assert store.query(lambda connection: latest(connection, "other")).lines == []
    with pytest.raises(StoreError, match="no teacher matches"):
        store.query(lambda connection: latest(connection, "nobody"))
    gone = b"g" * 32
    uses = {Use("demo", 3, key_of("two"), "miss"): 1, Use("demo", 4, key_of("two"), "hit"): 2}
    store.record_uses({**uses, Use("demo", 5, gone, "hit"): 1}, {}).result()
    lines = store.query(lambda connection: used_by(connection, "demo")).lines
    assert [(line.step, line.served, line.uses) for line in lines] == [
        (4, "hit", 2),
        (3, "miss", 1),
    ]
    by = {"demo": 2, OTHER.digest[:10]: 0}
    for teacher, count in by.items():
        page = store.query(lambda connection, it=teacher: used_by(connection, "demo", it))
        assert len(page.lines) == count
    keys = store.query(lambda connection: keys_used_by(connection, "demo"))
    assert sorted(keys) == sorted([gone, key_of("two")])
    assert _found(store, "two", run="demo") == ["two"]
    assert _found(store, "one", run="demo") == []
    assert _found(store, "one", teacher="demo") == ["one"]
    assert _found(store, "one", teacher=OTHER.digest[:10]) == []


def test_words_of_request_and_answer_find_an_entry(store, keep):
    """In any order and case; a star ends one that is unfinished; all have to be there."""
    keep(("Who leads Orion?", "Anna"), ("Who leads Vega?", "Bo"), ("Straße in 東京", "x_1"))
    assert _found(store, "leads who") == ["Who leads Vega?", "Who leads Orion?"]
    assert _found(store, "ANNA orion") == ["Who leads Orion?"]
    assert _found(store, "anna veg*") == []
    assert _found(store, "wh* Ori*") == ["Who leads Orion?"]
    assert _found(store, "ori") == []
    for text in ("STRASSE", "京", "x_1", "東京"):
        assert _found(store, text) == ["Straße in 東京"]


def test_pages_of_a_search_hold_every_match_once(store, keep, key_of):
    """With entries that come meanwhile, and with a run that has few of many matches."""
    keep(*[(f"same {number}", "yes") for number in range(45)])
    used = {Use("demo", 1, key_of(f"same {number}"), "miss"): 1 for number in (3, 44)}
    store.record_uses(used, {}).result()
    index = _index(store)

    def page(before, run=None):
        sought = Sought(parse_search("same"), run=run)
        return store.query(lambda connection: found_by(connection, index, sought, before, limit=10))

    assert [line.asked for line in _all_pages(page)] == [f"same {n}" for n in reversed(range(45))]
    of_run = _all_pages(lambda before: page(before, "demo"))
    assert [line.asked for line in of_run] == ["same 44", "same 3"]
    sought = Sought(parse_search("same"))
    keys = store.query(lambda connection: keys_found_by(connection, index, sought))
    assert len(set(keys)) == 45


def test_an_answer_that_comes_after_a_refusal_is_found(store, keep):
    """And both do not make two of it."""
    keep(("one", Refusal("content_filter", "No.")), ("two", "Bo"))
    assert _found(store, "anna") == []
    keep(("one", "Anna"))
    assert _found(store, "anna") == ["one"]
    assert _found(store, "one") == ["one"]


def test_new_entries_are_found_after_the_next_catching_up(store, keep):
    """It says how far it goes."""
    keep(*[(f"same {number}", "yes") for number in range(3)])
    index = store.word_index()
    reach = index.catch_up()
    assert reach.is_complete
    keep(("new", "yes"))
    assert _found(store, "new", index) == []
    assert index.catch_up().last == reach.last + 1
    assert _found(store, "new", index) == ["new"]


def test_what_is_forgotten_is_in_no_index(place, keep, store, make_entry):
    """Not its words, not its row; what is left is found."""
    keep(("forgettable sesquipedalian", "x"), ("kept", "y"))
    assert _found(store, "sesquipedalian") == ["forgettable sesquipedalian"]
    store.close()
    forget_text(place, "forgettable sesquipedalian")
    if isinstance(place, Path):
        assert not list(place.parent.glob("*.words*"))
    with CompletionStore.open(place) as again:
        assert _found(again, "sesquipedalian") == []
        assert _found(again, "kept") == ["kept"]


def test_numbers_given_anew_after_a_removal_lead_nowhere_wrong(place, keep, store, make_entry):
    """SQLite gives the last rows' numbers to the next ones."""
    keep(("kept", "y"), ("removed early", "x"), ("removed late", "x"))
    assert _found(store, "removed") == ["removed late", "removed early"]
    store.close()
    doomed = [make_entry(text).fingerprint.key for text in ("removed early", "removed late")]
    prune_store(place, Selection(keys=doomed))
    with CompletionStore.open(place) as again:
        again.commit([make_entry("quite new", "z"), make_entry("newer", "z")]).result()
        assert _found(again, "removed") == []
        assert _found(again, "new*") == ["newer", "quite new"]
        assert _found(again, "kept") == ["kept"]


def test_a_promoted_answer_is_found(place, keep, store, make_entry):
    """By its own words."""
    keep(("one", "Anna"), ("one", "Boris"))
    assert _found(store, "boris") == []
    key = make_entry("one").fingerprint.key.hex()
    store.close()
    promote_alternate(place, key, "")
    with CompletionStore.open(place) as again:
        assert _found(again, "boris") == ["one"]


def test_counts_go_on_from_what_was_counted(store, keep):
    """As a count of all rows would say."""
    keep(("one", "1"), ("one", "2"), ("two", Refusal("content_filter", "No.")))
    first = store.query(count_new)
    keep(("three", "3"), ("two", "late"))
    later = store.query(lambda connection: count_new(connection, first))
    assert later == store.query(count_new)
    assert {name: count.rows for name, count in later.items()} == {
        "requests": 3,
        "alternates": 1,
        "refusals": 1,
    }


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ('{"request": {"messages": [{"content": "a"}, {"content": "b"}]}}', "b"),
        ('{"request": {"messages": [{"content": [{"type": "text", "text": "t"}]}]}}', "t"),
        ('{"request": {"messages": [{"tool": 1}]}}', '{"tool": 1}'),
        ('{"request": {"prompt": "p"}}', "p"),
        ('{"request": {"prompt": [1, 2]}}', "[1, 2]"),
        ('{"request": {"prom', '{"request": {"prom'),
        ('{"request": {"messages": []}}', '{"messages": []}'),
        ('{"request": [1]}', "[1]"),
        ('{"teacher": "t"}', '{"teacher": "t"}'),
        ("[]", "[]"),
    ],
)
def test_a_request_is_shown_by_its_last_message(document, shown):
    """Or by what comes nearest to one."""
    assert shown_text(document) == shown


@pytest.mark.parametrize(
    ("content", "around"),
    [
        ("Text:\\nAnna leads.\\n\\nQuestion: Who?", "Text: … Question: Who?"),
        ("Anna leads.\\nWho?", "Who?"),
        ("Anna leads.", None),
        ("Another text.", None),
    ],
)
def test_what_stands_around_a_compressed_text_is_told_apart(content, around):
    """One text with several questions is several entries."""
    document = f'{{"request":{{"messages":[{{"content":"{content}","role":"user"}}]}}}}'
    assert said_around(document, "Anna leads.") == around
    assert said_around(document[:-3], "Anna leads.") is None


def test_a_search_without_time_is_given_up(store, keep, busy_words, monkeypatch):
    """With what to do; the index is there for the next one."""
    keep(*[(f"question {number}", "yes") for number in range(20)])
    index = _index(store)
    with busy_words(store), monkeypatch.context() as patch:
        patch.setattr("cache.word_file._PATIENCE_S", -1.0)
        patch.setattr("cache.word_file._INSTRUCTIONS", 1)
        patch.setattr("cache.postgres.word_table._LONGEST_MS", 50)
        with pytest.raises(SearchTooLong, match="add a rarer word"):
            _found(store, "ques*", index)
    assert len(_found(store, "ques*", index)) == 20


@pytest.fixture
def busy_words(place):
    """Context manager: while it lasts, nobody reads the words of a store on a server."""

    @contextmanager
    def lock(store):
        if isinstance(place, Path):
            yield
            return
        with psycopg.connect(place) as connection:
            connection.execute("LOCK TABLE search_words IN ACCESS EXCLUSIVE MODE")
            yield

    return lock


class TestTheFile:
    """What only an index in a file has."""

    @pytest.fixture
    def place(self, path):
        """A file."""
        return path

    def test_it_lies_beside_the_store_for_its_owner_alone(self, store, keep, path):
        """Like the store itself."""
        keep(("one", "1"))
        _index(store)
        assert stat.S_IMODE(word_file_of(path).stat().st_mode) == 0o600

    def test_a_damaged_one_is_made_anew(self, store, keep, path):
        """It says so once."""
        keep(*[(f"question {number}", "yes") for number in range(200)])
        _index(store).close()
        word_file_of(path).write_bytes(b"x" * 100_000)
        with pytest.raises(StoreError, match="is made anew: search again"):
            _index(store)
        assert len(_found(store, "question")) == 50

    def test_that_of_another_store_is_made_anew(self, store, keep, path, make_entry):
        """As after a backup was put back."""
        keep(("one", "1"))
        _index(store).close()
        other = path.with_name("other.sqlite")
        with CompletionStore.open(other) as opened:
            opened.register_teacher(TEACHER)
            opened.commit([make_entry("another", "1")]).result()
            word_file_of(path).rename(word_file_of(other))
            assert _found(opened, "one") == []
            assert _found(opened, "another") == ["another"]

    def test_a_file_that_was_removed_is_not_written_on(self, store, keep, path):
        """Somebody forgot a text, and with it the index."""
        keep(("one", "1"))
        index = _index(store)
        word_file_of(path).unlink()
        assert index.catch_up().is_complete
        assert word_file_of(path).exists()
        assert _found(store, "one", index) == ["one"]

    def test_a_store_that_may_only_be_read_is_searched_too(self, stocked, tmp_path):
        """On a medium or in a folder where nothing can be written."""
        word_file_of(stocked).mkdir()  # Nothing can be opened there for writing, by root either.
        with CompletionStore.open(stocked, read_only=True) as store:
            assert _found(store, "7 seven") == []
            assert _found(store, "answer 7") == ["c 7"]

    def test_two_processes_may_build_it_together(self, store, keep, path):
        """Each entry once."""
        keep(*[(f"question {number}", "yes") for number in range(300)])
        indexes = [store.word_index() for _ in range(3)]
        while not all(index.catch_up().is_complete for index in indexes):
            pass
        with closing(sqlite3.connect(word_file_of(path))) as connection:
            query = "SELECT count(*) FROM entries WHERE entries MATCH 'question'"
            assert connection.execute(query).fetchone() == (300,)
