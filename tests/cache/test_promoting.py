"""Promote: an alternate becomes the answer."""

import json

import pytest

from cache import (
    Completion,
    CompletionStore,
    StoreError,
    content_digest,
)
from cache.command_log import command_log
from cache.promoting import promote_alternate
from cache.verifying import verify_store


def _log(place):
    return [json.loads(line) for line in command_log(place).read_text().splitlines()]


def _served(place, *keys):
    with CompletionStore.open(place, read_only=True) as store:
        return {key: entry.answer for key, entry in store.lookup(keys).items()}


def test_an_alternate_is_promoted_and_back_again(stocked_anywhere, key_of):
    """The two answers change places; twice, and all is as before."""
    key, seven = key_of("7"), content_digest(Completion("Seven.", "stop")).hex()
    former = content_digest(Completion("Answer 7.", "stop")).hex()
    record = promote_alternate(stocked_anywhere, key.hex()[:20], seven[:8])
    assert record.served.answer.text == "Seven."
    assert [each.answer.text for each in record.alternates] == ["Answer 7."]
    assert _served(stocked_anywhere, key)[key].text == "Seven."
    assert verify_store(stocked_anywhere).bad == 0
    promote_alternate(stocked_anywhere, key.hex(), former)
    assert _served(stocked_anywhere, key)[key].text == "Answer 7."
    entries = [(entry["command"], entry["from"], entry["to"]) for entry in _log(stocked_anywhere)]
    assert entries == [("promote", former, seven), ("promote", seven, former)]


def test_what_cannot_be_promoted_says_what_there_is(stocked_anywhere, key_of):
    """An unknown key, too short a key, an unknown digest, a digest that is none."""
    seven = content_digest(Completion("Seven.", "stop")).hex()
    with pytest.raises(StoreError, match="no stored key starts with ffffffffffff"):
        promote_alternate(stocked_anywhere, "f" * 12, seven)
    with pytest.raises(StoreError, match="several keys start with"):
        promote_alternate(stocked_anywhere, key_of("7").hex()[:1], seven)
    with pytest.raises(StoreError, match="a key is up to 64 hexadecimal digits, not 'seven'"):
        promote_alternate(stocked_anywhere, "seven", seven)
    with pytest.raises(StoreError, match=f"no alternate starts with '0000'.*are: {seven}"):
        promote_alternate(stocked_anywhere, key_of("7").hex(), "0000")
    with pytest.raises(StoreError, match="its alternates are: none"):
        promote_alternate(stocked_anywhere, key_of("8").hex(), seven)
