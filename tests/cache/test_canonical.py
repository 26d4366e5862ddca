import json
import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cache import CanonicalError, canonical_json, parse_json

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not 2**53 <= abs(number) < 1e21
    )
    | st.sampled_from([0.0, -0.0, 1e-4, 9.9e-5, 1e-6, 1e-7, 2.0**53 - 1, 1e21])
    | _TEXT
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(_VALUES)
def test_every_value_is_written_as_the_rfc_8785_package_writes_it(value):
    """The fast path and the reference implementation give the same bytes."""
    assert canonical_json(value) == rfc8785.dumps(value)


@given(_VALUES)
def test_what_was_written_reads_back_and_is_written_the_same_again(value):
    """A stored document can be read and written again without changing its hash."""
    written = canonical_json(value)
    assert canonical_json(parse_json(written)) == written


@pytest.mark.parametrize(
    ("number", "text"),
    [
        # RFC 8785, appendix B, less what is written as an integer beyond 2**53.
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (0.000001, "0.000001"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (333333333.33333329, "333333333.3333333"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (-0.0, "0"),
        (1.0, "1"),
    ],
)
def test_numbers_are_written_as_in_the_rfc(number, text):
    """The RFC's own table of doubles."""
    assert canonical_json(number) == text.encode()


def test_keys_are_sorted_by_utf_16_code_units():
    """The RFC's own example: an emoji comes before U+FB33, though its code point is larger."""
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical_json(value)).values()) == [2, 4, 6, 7, 1, 5, 3]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        2.0**53,
        -1e16,
        {"x": [999999999999999900000.0]},
        "\ud800",
        {"\udfff": 1},
        {1: "a"},
        {None: "a"},
        {"deep": [{"deeper": math.nan}]},
        object(),
        b"bytes",
        {1, 2},
    ],
)
def test_a_value_that_json_cannot_carry_exactly_is_refused(value):
    """NaN, infinities, large integers, lone surrogates, other keys and types: CanonicalError."""
    with pytest.raises(CanonicalError, match="no canonical JSON"):
        canonical_json(value)


def test_a_value_that_contains_itself_is_refused():
    """A cycle ends in a CanonicalError, not in a crash."""
    value: list[object] = []
    value.append(value)
    with pytest.raises(CanonicalError):
        canonical_json(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 1}', "'a' occurs twice"),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "'a' occurs twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("1e999", "1e999 is too large"),
        ('{"a": 1', "not JSON"),
        ("", "not JSON"),
        (b'"\xff"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
    ],
)
def test_a_text_on_whose_meaning_readers_differ_is_refused(text, message):
    """Duplicate keys, NaN, overflow and broken JSON each say what was wrong."""
    with pytest.raises(CanonicalError, match=message):
        parse_json(text)


def test_strict_json_is_read_as_it_is():
    """Text or UTF-8 bytes, with integers kept apart from floats."""
    assert parse_json(b'{"a": [1, 1.5, "\xc3\xa9", null, true]}') == {
        "a": [1, 1.5, "é", None, True]
    }
    assert parse_json('"x"') == "x"
