import pytest

from teacher_service.cache_control import CacheControl, cache_status, parse_cache_control
from teacher_service.errors import BadRequest


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, CacheControl()),
        ("", CacheControl()),
        ("No-Cache", CacheControl(no_cache=True)),
        ("no-store, max-age=5", CacheControl(no_store=True, max_age_s=5)),
        ('only-if-cached,max-age="0"', CacheControl(only_if_cached=True, max_age_s=0)),
        ("max-stale=3, no-transform", CacheControl()),
    ],
)
def test_directives_are_read_and_unknown_ones_ignored(header, expected):
    """RFC 9111, section 5.2.1."""
    assert parse_cache_control(header) == expected


@pytest.mark.parametrize("header", ["max-age", "max-age=", "max-age=-1", "max-age=x", "max-age=²"])
def test_a_max_age_without_seconds_is_refused(header):
    """A directive that cannot be read is never taken for one that allows more."""
    with pytest.raises(BadRequest, match="max-age"):
        parse_cache_control(header)


@pytest.mark.parametrize(
    ("control", "created_at", "expected"),
    [
        (CacheControl(), None, "miss"),
        (CacheControl(), 0.0, None),
        (CacheControl(max_age_s=10), 90.0, None),
        (CacheControl(max_age_s=10), 89.0, "stale"),
        (CacheControl(max_age_s=10), None, "miss"),
        (CacheControl(no_cache=True), 100.0, "request"),
        (CacheControl(no_cache=True), None, "request"),
        (CacheControl(no_store=True), 0.0, None),
    ],
)
def test_a_stored_answer_will_do_unless_the_request_says_otherwise(control, created_at, expected):
    """The clock stands at 100 seconds."""
    assert control.forward(created_at, now=100.0) == expected


def test_cache_status_reads_as_rfc_9211_has_it():
    """One cache, its parameters in a fixed order, the key as a string."""
    key = bytes.fromhex("ab" * 32)
    hit = cache_status(key, None, stored=False, collapsed=False)
    assert hit == f'taco; hit; key="{"ab" * 32}"'
    miss = cache_status(key, "miss", stored=True, collapsed=False)
    assert miss == f'taco; fwd=miss; stored; key="{"ab" * 32}"'
    joined = cache_status(key, "miss", stored=False, collapsed=True)
    assert joined == f'taco; fwd=miss; collapsed; key="{"ab" * 32}"'
