"""The table of all config keys, made from the config's own models.

python -m trainer.config_table > configs/README.md
"""

import sys
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
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


def config_table() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for name, field in Config.model_fields.items():
        section: type[BaseModel] = field.annotation  # type: ignore[assignment]
        yield f"## `{name}`\n\n{_one_line(section.__doc__)}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        for key, key_field in section.model_fields.items():
            yield (
                f"| `{key}` | {_type_name(key_field.annotation)} | {_default(key_field)} "
                f"| {_one_line(key_field.description)} |"
            )
        yield ""


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " \\| ".join(map(_type_name, arguments))
    if origin is tuple:
        return "text \\| list of texts"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    return {str: "text", int: "integer", float: "number", bool: "true \\| false"}[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "`null`"
    if field.default == ():
        return '`""`'
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(config_table())
