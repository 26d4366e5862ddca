from benchmarks import bulk, page
from tests.teacher_service.conftest import running

SHOWN = {
    "list, middle": 148,
    "entry": 150,
    "search, one entry": 150,
    "search, two words": 150,
    "search, all, middle": 148,
    "search, beginning": 298,
}
"""By the kind of page, an entry that is on it; on all others the last one."""


def test_every_kind_of_page_is_there_and_finds_what_it_should(tmp_path):
    """A search that found nothing would be quick."""
    bulk.build(tmp_path / "store.sqlite", 300)
    with running({"store": tmp_path / "store.sqlite"}) as service:
        page.index(service.http)
        times = page.page_times(service.http, 300, 2)
        for name, path in page.paths(300).items():
            expected = bulk.key(SHOWN.get(name, 299)).hex()
            assert expected in service.http.get(path).text, name
    assert all(len(spent) == 2 and min(spent) > 0 for spent in times.values())


def test_inserts_are_compared_with_those_into_an_index_kept_by_triggers(tmp_path):
    """Both stores take them; which is the quicker is the benchmark's to say."""
    assert page.insert_ratio(tmp_path, 2) > 0
