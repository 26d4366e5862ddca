"""The fields of a teacher request, with the reference's defaults."""

from collections.abc import Mapping
from typing import Any

_REFERENCE_CALL: Mapping[str, Any] = {
    "system_message": "You are a helpful assistant.",
    "temperature": 0,
    "top_p": 1,
    "seed": 42,
    "n": 1,
}


def initialize_api_config(partial: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Merge a partial API config over the fields of the reference's call.

    Any further field is kept, because servers differ in the sampling fields that they take. None
    removes a field: without `system_message` no system message is sent, and an unset sampling
    field is left to the server.
    """
    merged = {**_REFERENCE_CALL, **(partial or {})}
    return {name: value for name, value in merged.items() if value is not None}
