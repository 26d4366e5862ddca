"""Code to summarise that every machine has: the standard library of the running Python.

A record is a function without its docstring; the docstring's first paragraph stands beside it as a
human's answer.
"""

import ast
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from trainer.tasks.assembling import Draft

CODE_WORDS = range(20, 301)
SUMMARY_WORDS = range(3, 61)

_NOT_CODE_TO_READ = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def standard_library_functions(root: Path | None = None) -> Iterator[Draft]:
    """Every function of a useful size with a docstring, in a fixed order.

    Args:
        root: the folder of the library; None: that of the running Python.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not _NOT_CODE_TO_READ.intersection(parts):
            module = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
            yield from _functions(path, module)


def without_docstring(source: str) -> str:
    """One function's source without its docstring; "" where it is no function of this Python."""
    source = textwrap.dedent(source)
    try:
        with warnings.catch_warnings(action="ignore"):
            body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ""
    if len(body) != 1 or not isinstance(body[0], Function):
        return ""
    lines = source.splitlines()
    return _without_docstring(body[0], lines) or "\n".join(lines).strip()


def _functions(path: Path, module: str) -> Iterator[Draft]:
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings(action="ignore"):  # Old escapes are no concern of ours.
            tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return  # Deliberately broken files are part of some libraries.
    lines = source.splitlines()
    for name, function in _named(tree, module):
        summary = _first_paragraph(function)
        code = _without_docstring(function, lines)
        if len(summary.split()) in SUMMARY_WORDS and len(code.split()) in CODE_WORDS:
            yield Draft(name, {"original_prompt": code, "answer": summary})


def _named(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """Functions and methods with their dotted names; a function's inner ones are part of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{prefix}.{child.name}:{child.lineno}", child
        elif isinstance(child, ast.ClassDef):
            yield from _named(child, f"{prefix}.{child.name}")
        else:
            yield from _named(child, prefix)


def _first_paragraph(function: Function) -> str:
    paragraphs = (ast.get_docstring(function) or "").split("\n\n")
    return " ".join(paragraphs[0].split())


def _without_docstring(function: Function, lines: list[str]) -> str:
    """The function's source; "" where it has no docstring on lines of its own."""
    docstring = function.body[0]
    if ast.get_docstring(function) is None or docstring.end_lineno is None:
        return ""
    before = lines[function.lineno - 1 : docstring.lineno - 1]
    after = lines[docstring.end_lineno : function.end_lineno]
    return textwrap.dedent("\n".join([*before, *after])).strip() if before else ""
