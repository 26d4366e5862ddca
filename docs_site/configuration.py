"""Every key of the trainer's config and of the service's settings, from their own models."""

from collections.abc import Iterator

from pydantic import BaseModel

from teacher_service import Settings
from trainer.config_table import is_section, key_table, one_line


def settings_tables(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """A table of a model's own keys, then one for each of its sections."""
    if any(not is_section(field.annotation) for field in model.model_fields.values()):
        yield key_table(model, prefix) + "\n"
    for name, field in model.model_fields.items():
        section = field.annotation
        if is_section(section):
            yield f"### `{prefix}{name}`\n\n{one_line(field.description or section.__doc__)}\n"
            yield from settings_tables(section, f"{prefix}{name}.")
