import hashlib
import json
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cache import FINGERPRINT_VERSION, CanonicalError, fingerprint, parse_json
from cache.fingerprint import DENIED_FIELDS

_FILE = json.loads(Path(__file__).with_name("fingerprint_vectors.json").read_text("utf-8"))
_TEACHER = hashlib.sha256(b"a teacher").hexdigest()
_REQUEST = {
    "model": "gpt-4o-mini-2024-07-18",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Who leads it?"},
    ],
    "temperature": 0,
    "top_p": 1,
    "max_tokens": 100,
    "stop": ["\n"],
    "seed": 7,
}


@pytest.mark.parametrize("vector", _FILE["vectors"], ids=lambda vector: vector["name"])
def test_the_published_vectors_hold(vector):
    """Each request has the published document and key."""
    made = fingerprint(vector["teacher"], vector["request"], vector["sample_index"])
    assert made.document == vector["document"]
    assert made.key.hex() == vector["key"]


def test_the_published_vectors_are_of_this_version():
    """A new version of the fingerprint needs new vectors."""
    assert _FILE["fingerprint_version"] == FINGERPRINT_VERSION


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 10**6))
def test_the_key_is_the_hash_of_the_document(content, sample_index):
    """A key can be computed again from the document that is stored beside it."""
    made = fingerprint(_TEACHER, {"prompt": content}, sample_index)
    assert made.key == hashlib.sha256(made.document.encode()).digest()
    document = json.loads(made.document)
    assert document["request"] == {"prompt": content}
    assert rfc8785.dumps(document) == made.document.encode()


_JSON = st.integers(-1000, 1000) | st.floats(-2, 2) | st.text("abc€\n") | st.lists(st.text("ab"))


@given(st.sampled_from(sorted(_REQUEST)), _JSON)
def test_another_value_in_any_field_is_another_key(field, value):
    """No field of the request is overlooked."""
    changed = _REQUEST | {field: value}
    same = fingerprint(_TEACHER, changed) == fingerprint(_TEACHER, _REQUEST)
    assert same == (value == _REQUEST[field])


@given(st.text("abcdefgh_", min_size=1), _JSON)
def test_a_field_that_nobody_has_thought_of_is_another_key(field, value):
    """There is no allow-list: an unknown field counts as soon as it is set."""
    assert field not in DENIED_FIELDS
    extended = _REQUEST | {field: value}
    assert fingerprint(_TEACHER, extended).key != fingerprint(_TEACHER, _REQUEST).key


@given(st.sampled_from(sorted(DENIED_FIELDS)), _JSON)
def test_what_cannot_change_an_answer_does_not_change_the_key(field, value):
    """The deny-listed fields never enter the document."""
    extended = _REQUEST | {field: value}
    assert fingerprint(_TEACHER, extended) == fingerprint(_TEACHER, _REQUEST)


def test_a_field_that_is_null_counts_as_not_set():
    """A client that spells out its unset fields hits the same entries."""
    extended = _REQUEST | {"frequency_penalty": None}
    assert fingerprint(_TEACHER, extended) == fingerprint(_TEACHER, _REQUEST)


def test_teacher_and_sample_index_change_the_key():
    """Another teacher, or another completion of the same request, is another key."""
    other = hashlib.sha256(b"another teacher").hexdigest()
    keys = {
        fingerprint(_TEACHER, _REQUEST).key,
        fingerprint(other, _REQUEST).key,
        fingerprint(_TEACHER, _REQUEST, 1).key,
        fingerprint(_TEACHER, _REQUEST, 2).key,
    }
    assert len(keys) == 4


@given(st.permutations(sorted(_REQUEST)))
def test_the_order_of_keys_does_not_matter(fields):
    """Two clients that order their fields differently share entries."""
    reordered = {field: _REQUEST[field] for field in fields}
    assert fingerprint(_TEACHER, reordered) == fingerprint(_TEACHER, _REQUEST)


def test_a_whole_number_is_the_same_as_integer_and_float():
    """0 and 0.0, 1 and 1.0, sent by different clients, are one key."""
    floats = _REQUEST | {"temperature": 0.0, "top_p": 1.0, "max_tokens": 100.0}
    assert fingerprint(_TEACHER, floats) == fingerprint(_TEACHER, _REQUEST)


def test_text_is_not_normalised():
    """Two spellings of the same accent are two requests: a model may answer them differently."""
    one, two = fingerprint(_TEACHER, {"p": "\u00e9"}), fingerprint(_TEACHER, {"p": "e\u0301"})
    assert one.key != two.key


@pytest.mark.parametrize("value", [float("nan"), 2**53 + 1, "\ud83d", float("inf")])
def test_a_value_without_canonical_form_is_refused(value):
    """No key for what two machines might read differently."""
    with pytest.raises(CanonicalError):
        fingerprint(_TEACHER, {"field": value})


def test_duplicate_keys_are_refused_where_the_request_is_read():
    """A body with the same key twice never reaches the fingerprint."""
    with pytest.raises(CanonicalError, match="'temperature' occurs twice"):
        parse_json('{"temperature": 0, "temperature": 1}')


@pytest.mark.parametrize("digest", ["", "demo", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_teacher_is_named_by_its_digest_only(digest):
    """A name or a URL in place of the digest is refused."""
    with pytest.raises(CanonicalError, match="64 hex digits"):
        fingerprint(digest, _REQUEST)


@pytest.mark.parametrize("sample_index", [-1, 2**53])
def test_a_sample_index_out_of_range_is_refused(sample_index):
    """Samples are counted from 0, and written as RFC 8785 writes whole numbers."""
    with pytest.raises(CanonicalError, match=f"counts from 0, below 2..53; it was {sample_index}"):
        fingerprint(_TEACHER, _REQUEST, sample_index)
