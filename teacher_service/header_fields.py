"""A request's headers, read once for all who look into them."""

from collections.abc import Mapping
from typing import TypeAlias

from starlette.types import Scope

Headers: TypeAlias = Mapping[str, str]
"""By name in lower case; the first of each."""

_KEPT = "teacher_service.headers"


def headers_of(scope: Scope) -> Headers:
    """The headers of the request that `scope` belongs to."""
    known: Headers | None = scope.get(_KEPT)
    if known is None:
        # From the last to the first, so that the first stays.
        pairs = reversed(scope["headers"])
        known = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        scope[_KEPT] = known
    return known
