"""What the values in a config may be, and what all of its sections have in common."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _number_in_text(value: object) -> object:
    """Read `1e-5` as a number: without a dot it is a string to a YAML 1.1 loader."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


Float = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number_in_text)]
Share = Annotated[Float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Some keys that belong together: unknown ones are refused, and nothing is changed later."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )
