"""A config from a YAML file and overrides, with every problem in them reported together."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from trainer.config import Config
from trainer.errors import ConfigError


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides such as `hyperparams.epochs=1`.

    Raises:
        ConfigError: the file is missing or no YAML, or values are wrong; it lists every problem.
    """
    return _checked(_read_yaml(path), overrides, path)


def overridden(config: Config, overrides: Sequence[str], source: Path) -> Config:
    """A config with overrides applied; `source` is what its errors name.

    Raises:
        ConfigError: with every problem.
    """
    return _checked(config.model_dump(mode="json"), overrides, source)


def _checked(document: dict[str, Any], overrides: Sequence[str], path: Path) -> Config:
    problems = [problem for text in overrides if (problem := _apply_override(document, text))]
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        problems.extend(_describe(error))
        raise ConfigError(str(path), problems) from None
    if problems:
        raise ConfigError(str(path), problems)
    return config


def restored(plain: object, source: Path) -> Config:
    """The config that `resolved` made plain data of.

    Raises:
        ConfigError: another version made it; with everything that this one does not know.
    """
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(str(source), list(_describe(error))) from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """A key that stands twice is an error: one of the two values would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key!r} stands here a second time")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"expected a YAML file: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"expected UTF-8 text: {error}"]) from error
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"expected YAML: {error}"]) from error
    if not isinstance(document, dict):
        what = "an empty file" if document is None else type(document).__name__
        raise ConfigError(str(path), [f"expected sections such as data, model, task; got {what}"])
    return document


def _apply_override(document: dict[str, Any], text: str) -> str | None:
    """Set one value in place; the answer is the problem, if there is one."""
    dotted, equals, raw = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        return f"{text!r}: expected an override such as hyperparams.epochs=1"
    try:
        value = yaml.load(raw, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        return f"{text!r}: the value is no YAML: {error}"
    section = document
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            return f"{text!r}: {key} is a value, no section"
    # The shell has taken the quotes away: an empty value is the empty text, `null` is None.
    section[keys[-1]] = "" if raw == "" else value
    return None


def _describe(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{place}: no such key{_nearest(fault['loc'])}"
        elif fault["type"] == "missing":
            yield f"{place}: missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            got = "" if fault["type"] == "value_error" else f", got {fault['input']!r}"
            yield f"{place}: {message[0].lower()}{message[1:]}{got}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """Name the right key nearest to a wrong one: its own section's first, then anyone's."""
    *sections, wrong = [str(part) for part in location]
    every = dict(_all_keys(Config))
    prefix = "".join(f"{section}." for section in sections)
    own = [place for place in every if place.startswith(prefix)]
    for places in (own, list(every)):
        names = {every[place]: place for place in places}
        if match := difflib.get_close_matches(wrong, names, n=1):
            return f"; did you mean {names[match[0]]}?"
    known = ", ".join(every[place] for place in own if place.count(".") == len(sections))
    return f"; expected one of: {known}"


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted place of the configuration with its last part."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")
