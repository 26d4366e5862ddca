"""Style, script and picture of the page.

Style and script stand in the page itself, where nothing has to be fetched before a browser can
paint; the policy allows these two texts by their hashes, and nothing else that is inline.
"""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_FOLDER = files("teacher_service.page") / "static"

STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")
ICON = (_FOLDER / "icon.svg").read_bytes()


def source_of(text: str) -> str:
    """How a Content-Security-Policy names one text that may stand in a page."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
