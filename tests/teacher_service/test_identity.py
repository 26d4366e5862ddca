import logging

import pytest

from teacher_service.errors import StartError
from teacher_service.identity import builtin_identity, hosted_identity, stored_identity


def test_the_rules_version_defines_the_builtin_teacher():
    """New rules are a new teacher: none of its old answers is served."""
    assert builtin_identity(1) == builtin_identity(1)
    assert builtin_identity(1).digest != builtin_identity(2).digest


def test_provider_and_model_define_a_hosted_teacher():
    """The same model by another route is the same teacher; the backend is not in the digest."""
    here = hosted_identity("openai", "gpt-4o-2024-08-06", backend="openai")
    there = hosted_identity("openai", "gpt-4o-2024-08-06", backend="azure")
    assert here.digest == there.digest
    assert here.digest != hosted_identity("other", "gpt-4o-2024-08-06", backend="openai").digest
    assert here.digest != hosted_identity("openai", "gpt-4o-2024-05-13", backend="openai").digest


@pytest.mark.parametrize(
    ("provider", "model", "warns"),
    [
        ("openai", "gpt-4o", True),
        ("openai", "gpt-4o-2024-08-06", False),
        ("openai", "gpt-3.5-turbo-0125", False),
        ("openai", "ft:gpt-4o-mini:org::id", False),
        ("mine", "llama", False),
    ],
)
def test_a_bare_alias_of_openai_warns(provider, model, warns, caplog):
    """Answers kept under a moving name would mix several models."""
    with caplog.at_level(logging.WARNING):
        hosted_identity(provider, model, backend="openai")
    assert ("pin one" in caplog.text) is warns


def test_the_only_teacher_of_a_store_need_not_be_named():
    """Replay speaks for it."""
    one = builtin_identity(1)
    assert stored_identity([one], None) == one


def test_one_of_several_is_found_by_name_or_digest():
    """Any unambiguous start of the digest will do."""
    one, two = builtin_identity(1), hosted_identity("p", "m", backend="openai")
    assert stored_identity([one, two], "m") == two
    assert stored_identity([one, two], one.digest[:8]) == one


@pytest.mark.parametrize("wanted", [None, "builtin", "nobody", ""])
def test_an_ambiguous_or_unknown_teacher_lists_all(wanted):
    """Two rule versions share a name."""
    teachers = [builtin_identity(1), builtin_identity(2)]
    with pytest.raises(StartError) as caught:
        stored_identity(teachers, wanted)
    assert all(teacher.digest in str(caught.value) for teacher in teachers)
    assert "teacher:" in str(caught.value)


def test_an_empty_store_has_nothing_to_replay():
    """The message says what to do first."""
    with pytest.raises(StartError, match="record first"):
        stored_identity([], None)
