"""What to do with an answer that differs from the one that a store serves."""

from enum import StrEnum


class OnConflict(StrEnum):
    """The answer that the store serves stays in any case."""

    FAIL = "fail"  # Nothing at all is added.
    KEEP = "keep"  # The other answer is dropped.
    RECORD = "record"  # The other answer is kept beside it, as an alternate.
