"""The pages: what is made from the code is as the code says, and what they quote is in it."""

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs_site.pages import DOCS, made_files
from teacher_service import Settings, create_app
from trainer.config_table import is_section

ROOT = DOCS.parent
PACKAGES = ("cache", "taco", "teacher_service", "trainer")
PAGES = sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("path", made_files(), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_up_to_date(path):
    """Otherwise: `python -m docs_site`."""
    assert path.read_text(encoding="utf-8") == made_files()[path], "run: python -m docs_site"


def test_every_setting_says_what_it_means():
    """No key of the service without a docstring."""
    silent = [name for name, description in _settings(Settings) if not description]
    assert silent == []


def _settings(model, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from _settings(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description


def test_the_openapi_document_has_every_route_and_points_to_schemas_that_it_has(tmp_path):
    """Of the application as it is served."""
    document = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    app = create_app(Settings(store=tmp_path / "completions.sqlite", keys_file=tmp_path / "none"))
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if getattr(route, "include_in_schema", False)
        for method in route.methods
    }
    told = {(path, method) for path, each in document["paths"].items() for method in each}
    assert told == served
    text = json.dumps(document)
    named = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert named <= document["components"]["schemas"].keys()
    app.state.teacher.store.close()


def test_the_site_builds_without_a_broken_link(tmp_path):
    """Pages that nobody finds are told too: each is in the navigation."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "not included in the" not in done.stderr, done.stderr
    for page in PAGES:
        html = (tmp_path / page.with_suffix(".html").name).read_text(encoding="utf-8")
        hosts = set(re.findall(r"(?:src|href)=\"https?://([^/\"]+)[^\"]*\.(?:js|css|woff2?)", html))
        assert hosts == set(), f"{page.name} loads something from another host"


def test_messages_in_troubleshooting_are_in_the_code():
    """Word for word; stock messages are those of other programs."""
    literals = {text for package in PACKAGES for text in _literals(ROOT / package) if len(text) > 5}
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `([^`]+)`", page, flags=re.MULTILINE)
    assert len(quoted) > 20
    missing = [each for each in quoted if not any(each in text for text in literals)]
    assert missing == []


def _literals(folder: Path) -> Iterator[str]:
    """Every text in the code, its parts joined where they stand side by side."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_references_keys_are_all_told():
    """Each key of the shipped file has its line, by name or with its family."""
    config = yaml.safe_load((ROOT / "configs/train_reinforce.yaml").read_text())
    page = (DOCS / "reference-implementation.md").read_text(encoding="utf-8")
    missing = [
        key
        for section in config.values()
        for key in section
        if f"`{key}`" not in page and f".{key}" not in page and not key.startswith("context_level_")
    ]
    assert missing == []


def test_the_tests_that_show_the_references_defects_are_there():
    """A line for each of them; each test that it names is in its file."""
    page = (DOCS / "reference-implementation.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", page, flags=re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, 44))
    for number, tests in lines:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, number
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


def test_pictures_are_well_formed_and_tell_what_they_show():
    """With a title and a description, for those who do not see them; nothing from elsewhere."""
    pictures = sorted((DOCS / "images").glob("*.svg"))
    assert len(pictures) >= 2
    for picture in pictures:
        root = ET.parse(picture).getroot()
        names = {child.tag.rpartition("}")[2] for child in root}
        assert {"title", "desc"} <= names
        assert "http" not in picture.read_text().replace("http://www.w3.org/2000/svg", "")
