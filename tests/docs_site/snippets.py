"""Fenced blocks of a page, and the script that they are when one follows the page.

`bash` is run as it stands, `console` by its lines after `$ `, `python` as a program; `python
title="NAME"` is written to that file. All of a page is one shell, so that variables, folders and
services in the background last. A comment above a block says what is not as usual:

    <!-- not run: REASON -->        it is left out
    <!-- ends with status 1 -->     its last command fails, and so must it here
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

RUN = ("bash", "console", "python")

_FENCE = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+?)|(?P<fails>ends with status 1)) -->\n)?"
    r"^```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    line: int
    language: str
    """Empty where the fence names none."""
    text: str
    title: str | None
    """The file that it is to be written to."""
    reason: str | None
    """Why it is not run."""
    fails: bool
    """Whether its last command is to end with status 1."""


def blocks_of(page: str) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    for found in _FENCE.finditer(page):
        title = re.search(r'title="([^"]+)"', found["rest"])
        yield Block(
            line=page.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            title=title and title[1],
            reason=found["reason"],
            fails=found["fails"] is not None,
        )


def script_of(page: str) -> str:
    """What somebody types who follows the page; it says on standard error where it is."""
    parts = ["set -euo pipefail"]
    for block in blocks_of(page):
        if block.language in RUN and block.reason is None:
            parts += [f"echo 'line {block.line}' >&2", _typed(block)]
            if block.fails:
                *before, last = parts[-1].rstrip().splitlines()
                parts[-1:] = [*before, f"set +e; {last}; test $? -eq 1 || exit 99; set -e"]
    return "\n".join(parts) + "\n"


def commands_of(console: str) -> str:
    """The lines after a prompt, with those that go on after a backslash."""
    typed, goes_on = [], False
    for line in console.splitlines():
        if goes_on or line.startswith("$ "):
            typed.append(line if goes_on else line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(typed)


def taco_commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each `taco` in a block, whether or not it is run."""
    text = commands_of(block.text) if block.language == "console" else block.text
    lines = text.replace("\\\n", " ").splitlines()
    for line in [line for line in lines if "taco " in line]:
        words = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        words.whitespace_split = True
        for ends, part in groupby(words, key=lambda word: set(word) <= set("();<>|&")):
            command = [word for word in part if not ends]
            while command and re.match(r"[A-Z_]+=", command[0]):
                command.pop(0)
            if command[:1] == ["taco"]:
                yield command[1:]


def _typed(block: Block) -> str:
    if block.language == "bash":
        return block.text
    if block.language == "console":
        return commands_of(block.text)
    if block.title:
        return f"printf %s {shlex.quote(block.text)} > {shlex.quote(block.title)}"
    return f"python -c {shlex.quote(block.text)}"
