"""What is made from the code: parts of pages, between two comments, and whole files."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from docs_site.command_line import commands
from docs_site.configuration import settings_tables
from docs_site.http_api import api_document, error_rows, header_rows, routes_of
from trainer.config_table import sections

DOCS = Path(__file__).parents[1] / "docs"

_PARTS: dict[str, Callable[[], Iterable[str]]] = {
    "commands": commands,
    "config": lambda: (text.replace("## `", "### `") for text in sections()),
    "errors": error_rows,
    "headers": header_rows,
    "routes": lambda: routes_of(api_document()),
    "settings": settings_tables,
}
_PART = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- /made -->)", re.DOTALL)


def made_files() -> dict[Path, str]:
    """Each file that is made, wholly or in part, with what it has to say."""
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
    made = {page: _PART.sub(_made, text) for page, text in pages.items() if _PART.search(text)}
    document = json.dumps(api_document(), indent=1, ensure_ascii=False) + "\n"
    return made | {DOCS / "openapi.json": document}


def _made(part: re.Match[str]) -> str:
    begin, name, end = part.groups()
    text = "\n".join(_PARTS[name]()).strip()
    return f"{begin}\n{text}\n\n{end}"
