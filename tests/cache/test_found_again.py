"""Which requests find a stored answer again, on both databases."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import Completion, NewEntry, canonical_json, fingerprint
from cache.fingerprint import DENIED_FIELDS

_REQUEST = {
    "model": "pinned-2024-07-18",
    "messages": [{"role": "user", "content": "Who leads it?"}],
    "temperature": 0,
    "top_p": 1,
    "max_tokens": 100,
    "stop": ["\n"],
    "seed": 7,
}
_UNSET = (
    "best_of",
    "chat_template_kwargs",
    "frequency_penalty",
    "guided_json",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "min_p",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "service_tier",
    "tool_choice",
    "tools",
    "top_k",
)
"""What APIs know beside; none of it is in `_REQUEST`."""

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUE = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_both_databases = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def place(any_place):
    """Each database in turn."""
    return any_place


@pytest.fixture
def stored(store, teacher):
    """The store, and the key under which it has the answer to `_REQUEST`."""
    asked = fingerprint(teacher.digest, _REQUEST)
    store.commit([NewEntry(asked, teacher.digest, None, Completion("Anna.", "stop"))]).result()
    return store, asked.key


@given(_VALUE, _TEXT.filter(lambda name: name not in DENIED_FIELDS | _REQUEST.keys()))
@_both_databases
def test_whatever_can_change_an_answer_finds_another_one(stored, teacher, value, unheard_of):
    """Every field, set to any value that it does not have: never the stored answer, always its own.

    So does a field that nobody has heard of, another sample, and another teacher.
    """
    store, key = stored
    fields = [
        field
        for field in (*_REQUEST, *_UNSET, unheard_of)
        if field not in _REQUEST or canonical_json(value) != canonical_json(_REQUEST[field])
    ]
    asked = {field: fingerprint(teacher.digest, _REQUEST | {field: value}) for field in fields}
    asked["(sample)"] = fingerprint(teacher.digest, _REQUEST, 1)
    other = hashlib.sha256(canonical_json(value)).hexdigest()
    assert store.lookup([fingerprint(other, _REQUEST).key]) == {}
    entries = [
        NewEntry(each, teacher.digest, None, Completion(each.key.hex(), "stop"))
        for each in asked.values()
    ]
    store.commit(entries).result()
    found = store.lookup([key, *(each.key for each in asked.values())])
    assert found.pop(key).answer.text == "Anna."
    assert len(found) == len(asked)
    assert all(entry.answer.text == key.hex() for key, entry in found.items())


@given(_VALUE, st.permutations(list(_REQUEST)))
@_both_databases
def test_whatever_cannot_change_an_answer_finds_it_again(stored, teacher, value, order):
    """Every deny-listed field with any value, alone and with all others; fields in any order."""
    store, _ = stored
    reordered = {field: _REQUEST[field] for field in order}
    requests = [reordered | {field: value} for field in sorted(DENIED_FIELDS)]
    requests.append(reordered | dict.fromkeys(DENIED_FIELDS, value))
    for request in requests:
        [found] = store.lookup([fingerprint(teacher.digest, request).key]).values()
        assert found.answer.text == "Anna."
