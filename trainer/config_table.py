"""The table of all config keys, made from the config's own models.

python -m trainer.config_table > configs/README.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, HttpUrl
from pydantic.fields import FieldInfo

from trainer.config import Config

_INTRODUCTION = """\
# Configuration

One YAML file is one training run: `taco train FILE [section.key=value ...]`. Unknown keys, wrong
types and values out of range are reported together, before anything heavy is loaded.

- `train_reinforce.yaml`: the reference implementation's file, its keys and values.
- `demo.yaml`: what `taco demo` trains.
- `tasks/*.yaml`: the paper's three tasks, and a stand-in for each that needs no download; every
  file begins with its commands.
- `teacher/*.yaml`: settings of the teacher service, `taco serve --config FILE`.

`data`, `model`, `task`, `hyperparams`, `logging` and `device` are the reference's sections; the
others are ours. This page is made by
`python -m trainer.config_table > configs/README.md`.
"""


_TYPE_NAMES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true \\| false",
    Path: "path",
    HttpUrl: "URL",
}


def config_table() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *sections()])


def sections() -> Iterator[str]:
    """Each section of the config, with its keys."""
    for name, field in Config.model_fields.items():
        section: type[BaseModel] = field.annotation  # type: ignore[assignment]
        yield f"## `{name}`\n\n{one_line(section.__doc__)}\n"
        yield key_table(section)
        yield ""


def key_table(section: type[BaseModel], prefix: str = "") -> str:
    """A section's keys as a table in Markdown; sections within it are left out."""
    rows = [
        f"| `{prefix}{key}` | {_type_name(field.annotation)} | {_default(field)} "
        f"| {one_line(field.description)} |"
        for key, field in section.model_fields.items()
        if not is_section(field.annotation)
    ]
    return "\n".join(["| key | type | default | meaning |\n|---|---|---|---|", *rows])


def is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a field is a mapping of further keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " \\| ".join(map(_type_name, arguments))
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}s"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    return _TYPE_NAMES[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "`null`"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def one_line(text: str | None) -> str:
    """A docstring as a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(config_table())
