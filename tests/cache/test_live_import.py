import pytest

from cache import CompletionStore, ExportError, Refusal, TeacherIdentity
from cache.exporting import export_store
from cache.live_import import import_into
from cache.merging import Conflict

REFUSED = Refusal("content_filter", "No.")


@pytest.fixture
def place(any_place):
    """Every test runs on each database."""
    return any_place


@pytest.fixture
def exported(tmp_path, teacher, make_entry):
    """An export of 600 requests, which is more than a page, and what the odd ones may hold."""
    with CompletionStore.open(tmp_path / "other.sqlite") as other:
        other.register_teacher(teacher)
        other.commit([make_entry(str(n), f"answer {n}", compressed_text="t") for n in range(600)])
        other.commit([make_entry("0", "a later answer"), make_entry("refused", REFUSED)])
    target = tmp_path / "export.ndjson"
    export_store(tmp_path / "other.sqlite", target)
    return target


@pytest.fixture
def counts(store):
    """Completions, alternates and refusals that the store holds."""

    def count():
        stats = store.stats()
        return stats.completions, stats.alternates, stats.refusals

    return count


def test_an_open_store_takes_an_export_in(tmp_path, place, store, exported, make_entry, counts):
    """All of it, with its times: what it holds afterwards exports to the same bytes."""
    report = import_into(store, exported)
    assert (report.added, report.same, report.conflicts) == (601, 0, 0)
    assert counts() == (600, 1, 1)
    key = make_entry("0").fingerprint.key
    assert store.lookup([key])[key].answer.text == "answer 0"
    again = tmp_path / "again.ndjson"
    export_store(place, again)
    old, new = (path.read_bytes().splitlines() for path in (exported, again))
    assert new[1:-1] == old[1:-1]


def test_a_second_import_adds_nothing(store, exported, counts):
    """So an import that a crash interrupted may simply be given again."""
    import_into(store, exported)
    before = counts()
    report = import_into(store, exported)
    assert (report.added, report.same, report.conflicts) == (0, 601, 0)
    assert counts() == before


def test_what_the_store_serves_stays(store, exported, make_entry, counts):
    """A differing answer is kept beside it; a completion is served in place of a refusal."""
    served = make_entry("7", "mine")
    store.commit([served, make_entry("8", REFUSED), make_entry("9", "answer 9")]).result()
    report = import_into(store, exported)
    assert (report.added, report.same, report.conflicts) == (598, 1, 1)
    assert report.refusals_superseded == 1
    [conflict] = report.named
    assert isinstance(conflict, Conflict)
    key = served.fingerprint.key
    assert conflict.key == key
    assert store.lookup([key])[key].answer.text == "mine"
    key = make_entry("8").fingerprint.key
    assert store.lookup([key])[key].answer.text == "answer 8"
    assert counts() == (600, 2, 2)


def test_an_export_that_was_cut_short_adds_nothing(store, exported, counts):
    """Not even its first page: the trailer is looked at before."""
    exported.write_bytes(exported.read_bytes()[:-20])
    with pytest.raises(ExportError, match="nothing was imported"):
        import_into(store, exported)
    assert counts() == (0, 0, 0)


def test_new_teachers_come_along_and_known_ones_keep_their_place(tmp_path, store, exported):
    """The store's own teacher is not taken for a newly registered one."""
    newest = TeacherIdentity.from_definition("newest", "builtin", {"rules": 9})
    store.register_teacher(newest)
    assert import_into(store, exported).teachers_added == 0
    assert store.teachers()[-1].digest == newest.digest
    with CompletionStore.open(tmp_path / "empty.sqlite") as empty:
        assert import_into(empty, exported).teachers_added == 1
