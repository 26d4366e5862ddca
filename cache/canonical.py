"""Canonical JSON (RFC 8785): one value, one text, on every machine."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import orjson
import rfc8785

from cache.errors import CanonicalError

_MAX_INT = 2**53 - 1  # Beyond it a double skips integers (RFC 8785, section 3.2.2.3).
_WITH_EXPONENT = 1e21  # From here on a whole number is written with one, and read as a double.
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER  # Refuses integers beyond _MAX_INT.
_WRITTEN_ALIKE = frozenset({str, bool, int, type(None)})
"""Types that orjson, with these options, writes as RFC 8785 does."""

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def canonical_json(value: JSON) -> bytes:
    """The canonical form of `value`, in UTF-8 (RFC 8785).

    Keys are sorted, numbers are written as ECMAScript does (`0.0` and `0` are the same), text is
    kept as it is, without Unicode normalisation.

    Raises:
        CanonicalError: NaN, an infinity, an integer beyond 2**53 - 1 (a double that would be
            written as one, too: it could not be read again), a lone surrogate, an object key that
            is no string, or a type that JSON does not have.
    """
    try:
        try:
            return orjson.dumps(_plain(value), option=_OPTIONS)
        except TypeError:  # Not plain, or what the other refuses in words.
            _refuse_large(value)
            return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"no canonical JSON for this value: {error}") from error


def _plain(value: Any) -> Any:
    """`value` with whole floats as integers, if orjson then writes it canonically.

    It takes a fifth of rfc8785's time and differs from it only in how it writes very large and very
    small numbers and in how it sorts keys beyond ASCII. A test holds them together.
    """
    kind = type(value)
    if kind in _WRITTEN_ALIKE:
        return value
    if kind is float and (value == 0 or 1e-4 <= abs(value) < _MAX_INT):
        return int(value) if value.is_integer() else value
    if kind is dict and all(map(str.isascii, value)):  # A TypeError for other keys.
        if _WRITTEN_ALIKE.issuperset(map(type, value.values())):
            return value
        return {key: _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    raise TypeError(kind)


def _refuse_large(value: Any) -> None:
    """Refuse doubles that look like integers too large for one.

    Raises:
        ValueError: with the number.
    """
    if type(value) is float and _MAX_INT < abs(value) < _WITH_EXPONENT:
        raise ValueError(f"{value:.0f} is an integer beyond 2**53 - 1; send it as text")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_large(item)


def parse_json(data: str | bytes) -> JSON:
    """The value of a strict JSON text.

    Raises:
        CanonicalError: no JSON, or JSON on whose meaning readers differ: an object with the same
            key twice, NaN, or a number too large for a double.
    """
    try:
        value: JSON = _DECODER.decode(data if isinstance(data, str) else _decoded(data))
    except CanonicalError:
        raise
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"not JSON: {error}") from error
    return value


def _decoded(data: bytes) -> str:
    """A JSON text's characters, in whichever encoding RFC 4627 allows."""
    return data.decode(json.detect_encoding(data), "surrogatepass")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CanonicalError(f"the key {twice!r} occurs twice in one JSON object; send it once")
    return parsed


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise CanonicalError(f"the number {digits} is too large for a double")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise CanonicalError(f"{name} is not JSON; send a finite number or null")


# One for all: to make a decoder takes as long as to read a small text with it.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_duplicates,
    parse_float=_finite,
    parse_constant=_refuse_constant,
)
