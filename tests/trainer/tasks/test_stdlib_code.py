"""Code to summarise, from a small library."""

import pytest

from trainer.tasks.stdlib_code import standard_library_functions, without_docstring

MODULE = '''
class Box:
    """A class is no function."""

    @property
    def content(self):
        """
        Give the   content
        of the box.

        Details follow.
        """
        {body}

def bare(x):
    {body}

def short(x):
    """Give back what came."""
    return x

def terse(x):
    """Do it."""
    {body}
'''
BODY = "value = self.value if self.value is not None else self.fallback ; " * 3 + "return value"


@pytest.fixture
def library(tmp_path):
    """Two modules, a broken one, and tests that are not read."""
    for name in ("pack/__init__.py", "pack/sub.py", "test/test_box.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(MODULE.replace("{body}", BODY))
    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    return tmp_path


def test_functions_of_a_useful_size_lose_their_docstring(library):
    """Its first paragraph is the human's answer; the rest of the function stays as it was."""
    drafts = list(standard_library_functions(library))
    assert [draft.name for draft in drafts] == ["pack.Box.content:6", "pack.sub.Box.content:6"]
    assert drafts[0].record == {
        "original_prompt": f"def content(self):\n    {BODY}",
        "answer": "Give the content of the box.",
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('    def f(x):\n        """Doc."""\n        return x\n', "def f(x):\n    return x"),
        ("def f(x):\n    return x", "def f(x):\n    return x"),
        ("def f(x):\n    print x", ""),  # Another Python.
        ("x = 1", ""),
    ],
)
def test_one_functions_docstring_is_taken_away(source, expected):
    """What this Python cannot read as one function becomes empty, which is then reported."""
    assert without_docstring(source) == expected
