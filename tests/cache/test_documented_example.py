"""What docs/cache.md shows of the Python API runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

ALONE = """
import sys

assert not {"torch", "fastapi", "trainer", "teacher_service"} & set(sys.modules)
"""
DOCS = Path(__file__).parents[2] / "docs/cache.md"


def test_the_example_stores_once_and_finds_again(tmp_path):
    """In a process of its own, twice; and it needs nothing but the cache."""
    [example] = [
        block
        for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
        if "from cache import" in block
    ]
    script = tmp_path / "example.py"
    script.write_text(
        f"{example}\nimport sys\nassert not {{'torch', 'fastapi', 'trainer'}} & set(sys.modules)\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.stdout, done.stderr) == ("Ana Petrov\n", "")
