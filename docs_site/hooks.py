"""What MkDocs does to the pages on their way into the site; named in mkdocs.yml."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links into the repository are for who reads the pages there; the site names the file."""
    return _OUTWARD.sub(lambda link: _named(link, page.file.src_path), markdown)


def _named(link: re.Match[str], page: str) -> str:
    """The link's text, and the file where the text does not name it."""
    text, target = link.groups()
    if not (ROOT / target).exists():
        raise FileNotFoundError(f"{page} links to {target}, which is not there")
    return text if target in text else f"{text} (`{target}`)"
