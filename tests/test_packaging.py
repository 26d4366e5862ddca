"""`pyproject.toml` says what is installed, and what that needs: neither more nor less."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
OURS = ("cache", "taco", "teacher_service", "trainer")


def _names(requirements):
    """The distributions of a list of requirements, spelt as PEP 503 has it."""
    return {re.split(r"[^\w.-]", line)[0].replace("_", "-").lower() for line in requirements}


EXTRAS = {extra: _names(of) for extra, of in PROJECT["optional-dependencies"].items()}
DECLARED = _names(PROJECT["dependencies"]).union(
    *(names for extra, names in EXTRAS.items() if extra != "dev")
)


def _imports(package):
    """The top-level modules of others that a package imports, wherever in its code."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(OURS)


def _undeclared(modules, declared):
    """The modules that no declared distribution provides."""
    providers = packages_distributions()
    return {
        module
        for module in modules
        if not {name.replace("_", "-").lower() for name in providers.get(module, ())} & declared
    }


@pytest.mark.parametrize("package", OURS)
def test_every_import_is_declared(package):
    """In the base or in an extra that users install; no import hangs on another's dependency."""
    assert _undeclared(_imports(package), DECLARED) == set()


def _files(package):
    return [
        file
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]


def test_every_package_is_installed():
    """A development install finds those that are missing from the list; a wheel does not."""
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in OURS
        for file in _files(package)
        if file.suffix == ".py"
    }
    assert set(SETUPTOOLS["packages"]) == found


def test_every_file_beside_the_code_is_installed():
    """Templates and the like; no pattern is left over."""
    listed = {
        package: [set((ROOT / package.replace(".", "/")).glob(pattern)) for pattern in patterns]
        for package, patterns in SETUPTOOLS["package-data"].items()
    }
    assert all(matched for sets in listed.values() for matched in sets)
    matched = set().union(*(each for sets in listed.values() for each in sets))
    assert matched == {file for package in OURS for file in _files(package) if file.suffix != ".py"}
