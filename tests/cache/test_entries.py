import hashlib

import pytest

from cache import CanonicalError, Completion, Refusal, TeacherIdentity, content_digest


def test_the_digest_of_a_completion_is_that_of_what_the_client_sees():
    """Text and finish reason, as canonical JSON, and nothing of how it came about."""
    seen = '{"finish_reason":"stop","text":"é"}'
    answer = Completion("é", "stop", {"total_tokens": 3}, None, {"engine": "builtin"}, 12.5)
    assert content_digest(answer) == hashlib.sha256(seen.encode()).digest()


def test_the_digest_of_a_refusal_is_that_of_reason_and_message():
    """A refusal never has the digest of a completion with the same words."""
    seen = '{"refusal":{"message":"No.","reason":"content_filter"}}'
    answer = Refusal("content_filter", "No.", {"engine": "azure"}, 3.0)
    assert content_digest(answer) == hashlib.sha256(seen.encode()).digest()


def test_answers_that_differ_have_different_digests():
    """Text, finish reason, tool calls, refusal: each counts, and no text is not an empty one."""
    answers = [
        Completion("a", "stop"),
        Completion("b", "stop"),
        Completion("a", "length"),
        Completion("", "stop"),
        Completion(None, "stop"),
        Completion("a", "stop", extra={"tool_calls": []}),
        Completion("a", "stop", extra={}),
        Refusal("stop", "a"),
        Refusal("stop", "b"),
        Refusal("content_filter", "a"),
    ]
    assert len({content_digest(answer) for answer in answers}) == len(answers)


def test_a_teacher_is_the_digest_of_its_definition():
    """Name and backend are labels; equal definitions are one teacher."""
    definition = {"rules": 1, "backend": "builtin"}
    teacher = TeacherIdentity.from_definition("demo", "builtin", definition)
    assert teacher.digest == hashlib.sha256(b'{"backend":"builtin","rules":1}').hexdigest()
    renamed = TeacherIdentity.from_definition("other", "builtin", definition)
    assert renamed.digest == teacher.digest


def test_a_definition_without_canonical_form_is_refused():
    """What defines a teacher must hash the same everywhere."""
    with pytest.raises(CanonicalError):
        TeacherIdentity.from_definition("demo", "builtin", {"scale": float("nan")})
