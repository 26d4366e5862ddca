"""The page of config keys is made from the models, and kept up to date."""

from pathlib import Path

from trainer.config import Config
from trainer.config_table import config_table

PAGE = Path(__file__).parents[2] / "configs" / "README.md"


def test_the_page_is_what_the_models_say() -> None:
    """Otherwise: `python -m trainer.config_table > configs/README.md`."""
    assert PAGE.read_text(encoding="utf-8") == config_table()


def test_every_key_says_what_it_means() -> None:
    """No field without a docstring."""
    silent = [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key, key_field in field.annotation.model_fields.items()
        if not key_field.description
    ]
    assert silent == []
