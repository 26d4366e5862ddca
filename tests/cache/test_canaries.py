"""What a teacher answers to fixed prompts is kept beside it, on both databases."""

from dataclasses import replace

import pytest

from cache import CanaryProbe, CompletionStore, TeacherIdentity

STEADY = CanaryProbe("Name a river.", "The Rhine.", None, 1.0, None)
WAVERING = CanaryProbe("Name a city.", None, None, 1.0, None)


@pytest.fixture
def place(any_place):
    """Each database in turn."""
    return any_place


def test_what_was_recorded_is_found_again(store, teacher, place):
    """In its order, by its own teacher alone, and by who only reads."""
    other = TeacherIdentity.from_definition("other", "builtin", {"rules": 2})
    store.register_teacher(other)
    store.record_canary(teacher.digest, [STEADY, WAVERING])
    assert store.canary(teacher.digest) == [STEADY, WAVERING]
    assert store.canary(other.digest) == store.canary("0" * 64) == []
    with CompletionStore.open(place, read_only=True) as reader:
        assert reader.canary(teacher.digest) == [STEADY, WAVERING]


def test_the_first_recording_stays(store, teacher):
    """Of two services that ask at one time, one is compared with the other's."""
    store.record_canary(teacher.digest, [STEADY])
    store.record_canary(teacher.digest, [replace(STEADY, text="The Elbe.", recorded_at=2.0)])
    assert store.canary(teacher.digest) == [STEADY]


def test_a_check_is_noted_beside_what_was_recorded(store, teacher):
    """A prompt without an answer of its own cannot change."""
    store.record_canary(teacher.digest, [STEADY, WAVERING])
    seen = [replace(one, seen="The Elbe.", checked_at=5.0) for one in (STEADY, WAVERING)]
    store.note_canary(teacher.digest, seen)
    river, city = store.canary(teacher.digest)
    assert (river.text, river.seen, river.checked_at, river.changed) == (
        "The Rhine.",
        "The Elbe.",
        5.0,
        True,
    )
    assert city == WAVERING
    assert not city.changed
    store.note_canary(teacher.digest, [replace(STEADY, seen="The Rhine.", checked_at=6.0)])
    assert not store.canary(teacher.digest)[0].changed
