"""What a check says: fine, a warning, or what is wrong and what to do."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    """That was looked at, in a word or two."""
    state: State
    """Only `wrong` would stop a run."""
    said: str
    """What was found."""
    advice: str = ""
    """What to do; empty where there is nothing to do, or where `said` has it already."""


def ok(what: str, said: str) -> Finding:
    """All is well."""
    return Finding(what, "ok", said)


def warning(what: str, said: str, advice: str = "") -> Finding:
    """A run would go on, though perhaps not as was meant."""
    return Finding(what, "warning", said, advice)


def wrong(what: str, said: str, advice: str = "") -> Finding:
    """A run would stop."""
    return Finding(what, "wrong", said, advice)
