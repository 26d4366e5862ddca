"""Any text in a PostgreSQL column, also one with U+0000, which PostgreSQL refuses.

U+0000 travels as two characters, and so does the first of these; every other text is stored as it
is. Prompts taken from damaged documents do hold such characters, and an answer that was paid for
must not be lost over one. Done by the driver, so that no statement has to think of it.
"""

import re
from typing import Any

import psycopg
from psycopg.adapt import Buffer
from psycopg.types.string import StrDumperUnknown, TextLoader

_MARK = "\ufdd0"  # A noncharacter: Unicode keeps it for uses like this one.
_TO_STORED = {"\0": _MARK + "0", _MARK: _MARK + "1"}
_FROM_STORED = {stored: text for text, stored in _TO_STORED.items()}
_SPECIAL = re.compile(f"[\0{_MARK}]")
_STORED = re.compile(f"{_MARK}[01]")


def register_text(connection: psycopg.Connection[Any]) -> None:
    """Let every text that this connection writes or reads go through here."""
    connection.adapters.register_dumper(str, _Dumper)
    connection.adapters.register_loader("text", _Loader)


def to_stored(text: str) -> str:
    """`text` as it can be stored."""
    if "\0" in text or _MARK in text:
        return _SPECIAL.sub(lambda found: _TO_STORED[found[0]], text)
    return text


def from_stored(stored: str) -> str:
    """The text that was stored."""
    if _MARK in stored:
        return _STORED.sub(lambda found: _FROM_STORED[found[0]], stored)
    return stored


class _Dumper(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(to_stored(obj))


class _Loader(TextLoader):
    def load(self, data: Buffer) -> Any:
        return from_stored(str(data, "utf-8"))
