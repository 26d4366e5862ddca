"""Rollouts made by hand."""

from collections.abc import Callable

import pytest

from trainer.types import Outcome, Rollout, Served, TeacherReply

MakeRollout = Callable[..., Rollout]


@pytest.fixture
def make_rollout() -> MakeRollout:
    """A scored rollout of example "a": 20 of 100 tokens, one reply; fields may be changed."""

    def make(**changes: object) -> Rollout:
        reply = TeacherReply(Outcome.SCORED, "Monday", "f1", "d1", Served.MISS)
        fields: dict[str, object] = {
            "example_id": "a",
            "sample_index": 0,
            "keep_mask": (b"\xa0",),
            "compressed_text": "on Monday",
            "original_tokens": 100,
            "compressed_tokens": 20,
            "outcome": Outcome.SCORED,
            "reward": 0.5,
            "length_case": None,
            "replies": (reply,),
        }
        return Rollout(**{**fields, **changes})  # type: ignore[arg-type]

    return make
