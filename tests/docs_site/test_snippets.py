"""Every command and snippet of the docs, run as the pages have them."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cache import CompletionStore
from cache.schema import SCHEMA_VERSION
from docs_site.pages import DOCS
from taco.cli import app
from teacher_service import Settings
from tests.docs_site import warm_taco as warm
from tests.docs_site.filled_store import Replacements, fill
from tests.docs_site.snippets import RUN, blocks_of, commands_of, script_of, taco_commands
from tests.run_folders import write_run
from tests.tiny_models import make_xlm_roberta
from tests.tiny_runs import write_meetings
from trainer.config import resolved
from trainer.config_file import load_config
from trainer.policy.families import XLM_ROBERTA
from trainer.tasks.meetings import generate_meetings

ROOT = DOCS.parent
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
ON_A_SERVER = "postgresql.md"
TYPED = [
    name for name, text in PAGES.items() if script_of(text).count("\n") > 1 and name != ON_A_SERVER
]

_TIMEOUT_S = 280


def _for_compressing(folder: Path, base: Path) -> Replacements:
    """Texts, a compressor, and a finished run of it."""
    for name in ("prompt.txt", "a.txt", "b.txt"):
        (folder / name).write_text("Ana Petrov leads Falcon. The budget is 40 thousand.\n")
    make_xlm_roberta(folder / "models")
    run = folder / "runs/train_reinforce"
    shutil.copytree(base, run / "model" / base.name)
    config = resolved(load_config(ROOT / "configs/tasks/meeting_qa.yaml"))
    (run / "run.json").write_text(json.dumps({"config": config}))
    at = "runs/train_reinforce"
    result = {"folder": at, "model_path": f"{at}/model/{base.name}"}
    (run / "result.json").write_text(json.dumps(result))
    return [('"PATH"', f'"models/{XLM_ROBERTA}"')]


def _for_report(folder: Path, base: Path) -> Replacements:
    """Three runs that were never trained, with the demo's config, and texts to show."""
    config = resolved(load_config(ROOT / "configs/demo.yaml"))
    config["model"]["model_load_path"] = str(base)
    for name in ("demo/train", "meeting_qa", "meeting_qa-2"):
        run = write_run(folder / "runs" / name, **config)
        shutil.copytree(base, run / "model" / base.name)
        result = {"folder": str(run), "model_path": str(run / "model" / base.name)}
        (run / "result.json").write_text(json.dumps(result))
    (folder / "runs/demo/data").mkdir()
    write_meetings(folder / "runs/demo/data/test.json", 3)
    return []


def _for_tasks(folder: Path, _base: Path) -> Replacements:
    """What the page's reader brings: records of their own, one of them bad."""
    records = generate_meetings(40, 8, "train")
    lines = [json.dumps(record) for record in [*records, {"original_prompt": " "}]]
    (folder / "my_records.jsonl").write_text("\n".join(lines))
    return [
        ("--count 480", "--count 24"),
        ("--rates 0.3,0.5", "--rates 0.3"),
        ("epochs: 4", "epochs: 1"),
    ]


PREPARED: dict[str, Callable[[Path, Path], Replacements]] = {
    "cache.md": fill,
    "compressing.md": _for_compressing,
    "distill.md": lambda *_: [("--count 120", "--count 24"), ("--epochs 20", "--epochs 1")],
    "reproducing.md": lambda *_: [("--count 48", "--count 24")],
    "report.md": _for_report,
    "reuse.md": lambda *_: [
        ("--count 160", "--count 24"),
        ("budget.calls=5000", "budget.calls=200"),
    ],
    "tasks.md": _for_tasks,
}
"""By page, what has to be there before (scratch folder, a compressor's folder), and what is
replaced: sizes, so that a test takes seconds, and what is another one each time.
"""


@pytest.fixture(scope="module")
def warm_taco(tmp_path_factory) -> Iterator[Path]:
    """A folder with a `taco` whose imports are done."""
    folder = Path(tempfile.mkdtemp(prefix="taco-"))  # A socket's path is short.
    command = [sys.executable, str(Path(warm.__file__)), str(folder / "socket")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        give_up = time.monotonic() + 120
        while not (folder / "socket").exists():
            assert server.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.1)
        warm.write_shim(folder / "taco", str(folder / "socket"))
        yield folder
        _stop_group(server.pid)
    shutil.rmtree(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TYPED)
def test_a_page_can_be_followed(name, tmp_path, base, warm_taco):
    """From its first line to its last, in a folder with the repository's configs and examples."""
    for folder in ("configs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    replacements = PREPARED[name](tmp_path, base) if name in PREPARED else []
    port = _free_port()
    script = script_of(PAGES[name]).replace(":8080", f":{port}")
    for old, new in replacements:
        assert old in script
        script = script.replace(old, new)
    ended, said = _follow(script, tmp_path, port, warm_taco)
    assert ended == 0, f"{name}, {said}"


@pytest.mark.timeout(300)
def test_the_page_on_postgresql_can_be_followed(tmp_path, postgres_url, warm_taco):
    """With a real server where the page has one of its reader's."""
    CompletionStore.open(tmp_path / "completions.sqlite").close()
    page = PAGES[ON_A_SERVER].replace("postgresql://taco@db.example/completions", postgres_url)
    script = f"export STORE={shlex.quote(postgres_url)}\n{script_of(page)}"
    ended, said = _follow(script, tmp_path, _free_port(), warm_taco)
    assert ended == 0, said


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _follow(script: str, folder: Path, port: int = 0, *commands: Path) -> tuple[int, str]:
    """How it ended, and the end of what it said; what it left running is stopped."""
    environment = {
        **os.environ,
        "PATH": ":".join(map(str, [*commands, Path(sys.executable).parent, os.environ["PATH"]])),
        "HOME": str(folder),
        "TACO_SERVICE__PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "said").open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = shell.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            ended = -1
        finally:
            _stop_group(shell.pid)
    return ended, (folder / "said").read_text(encoding="utf-8", errors="replace")[-3000:]


def _stop_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_to_type_hides_from_the_tests(name):
    """A block with commands says its language; one that is not run has a reason of some words."""
    for block in blocks_of(PAGES[name]):
        place = f"{name}, line {block.line}"
        if block.language not in RUN:
            lines = block.text.splitlines()
            typed = [line for line in lines if line.startswith(("$ ", "taco ", "pip ", "make "))]
            assert not typed, f"{place}: name its language: {typed[0]}"
        if block.reason is not None:
            assert len(block.reason.split()) >= 2, place


@pytest.mark.parametrize("name", [*PAGES, "README.md"])
def test_every_taco_command_is_one(name):
    """Those that are not run here too: the command line takes their names and options."""
    page = PAGES[name] if name in PAGES else (ROOT / name).read_text(encoding="utf-8")
    for block in blocks_of(page):
        if block.language in (*RUN, "") and not block.text.startswith("┏"):
            for arguments in taco_commands(block):
                _parse(typer.main.get_command(app), arguments)


def _parse(command: Any, arguments: list[str]) -> None:
    context = command.make_context("taco", list(arguments))
    rest = [*context._protected_args, *context.args]
    if rest and hasattr(command, "resolve_command"):
        _, child, its = command.resolve_command(context, rest)
        _parse(child, its)


def test_the_schema_that_pages_show_is_the_newest():
    """A reader's own store says so, too."""
    shown = [
        version
        for page in PAGES.values()
        for version in re.findall(r"schema(?: version │)? (\d{4})\b", page)
    ]
    assert len(shown) >= 3
    assert set(shown) == {SCHEMA_VERSION}


def test_settings_on_pages_load():
    """Each block of YAML whose keys are the service's."""
    loaded = 0
    for text in PAGES.values():
        for block in blocks_of(text):
            tree = yaml.safe_load(block.text) if block.language == "yaml" else None
            if isinstance(tree, dict) and tree.keys() <= Settings.model_fields.keys():
                Settings.model_validate(tree)
                loaded += 1
    assert loaded >= 3


def test_a_console_is_its_prompts_lines():
    """With what goes on after a backslash, and without what was printed."""
    assert commands_of("$ one \\\n    two\nprinted\n$ three\n") == "one \\\n    two\nthree"


def test_a_command_that_fails_fails_the_page(tmp_path):
    """Also in the middle; what comes after is not run."""
    page = "```bash\nfalse\n```\n```bash\ntouch after\n```\n"
    ended, said = _follow(script_of(page), tmp_path)
    assert (ended, "line 1" in said) == (1, True)
    assert not (tmp_path / "after").exists()


def test_what_a_page_leaves_running_is_stopped(tmp_path):
    """Even where the shell does not wait for it."""
    page = "```bash\nsleep 300 &\necho $! > pid\n```\n"
    ended, _ = _follow(script_of(page), tmp_path)
    assert ended == 0
    pid, give_up = (tmp_path / "pid").read_text().strip(), time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
