"""What the page on the store begins with: a store in its default place, and a run that used it."""

import contextlib
import json
import shutil
from pathlib import Path

import httpx2
import yaml

from cache import Completion, CompletionStore, NewEntry, fingerprint
from cache.forgetting import forget_keys
from cache.sqlite_file import connect
from taco.own_service import own_service
from teacher_service.backends.builtin_rules import RULES_VERSION
from teacher_service.identity import builtin_identity
from tests.tiny_runs import tiny_document, write_meetings
from trainer.config import Config

_TEXT = "Ana Petrov leads Falcon. Budget Falcon 40 thousand. Lisbon Monday."
_TEMPLATE = "Answer in a few words.\n\n{transcript}\n\nQuestion: {question}\nAnswer:"
_QUESTIONS = ("Who leads Falcon?", "When is the review?")
_TEACHER = builtin_identity(RULES_VERSION)

Replacements = list[tuple[str, str]]


def fill(folder: Path, base: Path) -> Replacements:
    """Make all of it; returns what the page calls otherwise: keys and a run's id."""
    store = folder / ".local/share/taco/completions.sqlite"
    data = write_meetings(folder / "data.json", 12)
    document = tiny_document(data, base, run={"name": "mine", "threads": 1, "seed": 0})
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    with own_service(store=store) as url:
        keys = _ask(url)
        _train(document, url, folder)
    asked = {**_request(_QUESTIONS[0]), "temperature": 0.7}
    (folder / "asked.json").write_text(json.dumps({"request": asked}))
    _write(store, _entry(_request(_QUESTIONS[0]), "Ana"))  # Kept beside the served one.
    for copy in ("other", "drifted", "damaged"):
        shutil.copy(store, folder / f"{copy}.sqlite")
    forget_keys(folder / "other.sqlite", [_used_key(folder)])
    with contextlib.closing(connect(folder / "damaged.sqlite", "rw")) as damaged:
        damaged.execute(
            "UPDATE completions SET text = 'x' WHERE id = (SELECT min(id) FROM completions)"
        )
    for other in ("colleague", "a", "b"):
        _write(
            folder / f"{other}.sqlite",
            _entry(_request(_QUESTIONS[1]), f"as {other} has it"),
            _entry(_request(f"Only {other} asked this?"), "yes"),
        )
    run_id = json.loads((folder / "runs/mine/run.json").read_text())["run_id"]
    return [("e3672e", keys[0]), ("4c7895", keys[1]), ("mine-e942aa32", run_id)]


def _ask(url: str) -> list[str]:
    """The page's two questions and a message of its own; the questions' keys."""
    items = [{"text": _TEXT, "question": question} for question in _QUESTIONS]
    sampling = {"model": _TEACHER.name, "temperature": 0, "max_tokens": 100}
    batch = {**sampling, "prompt_template": _TEMPLATE, "items": items}
    chat = {**sampling, "messages": [{"role": "user", "content": "Something new"}]}
    with httpx2.Client(base_url=url) as client:
        replies = client.post("/v1/teacher/completions", json=batch).json()["data"]
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
    return [reply["key"] for reply in replies]


def _train(document: dict[str, object], url: str, folder: Path) -> None:
    from trainer.learning.launch import train_new

    with contextlib.chdir(folder):
        train_new(Config.model_validate(document), "mine", teacher_url=url, report=lambda _: None)


def _request(question: str) -> dict[str, object]:
    content = _TEMPLATE.replace("{transcript}", _TEXT).replace("{question}", question)
    return {
        "model": _TEACHER.name,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 100,
    }


def _entry(request: dict[str, object], answer: str) -> NewEntry:
    asked = fingerprint(_TEACHER.digest, request)
    return NewEntry(asked, _TEACHER.digest, _TEXT, Completion(answer, "stop"))


def _write(store: Path, *entries: NewEntry) -> None:
    with CompletionStore.open(store) as opened:
        opened.register_teacher(_TEACHER)
        opened.commit(entries).result()


def _used_key(folder: Path) -> str:
    """Of an answer that the run used."""
    for line in (folder / "runs/mine/logs/rollouts.jsonl").read_text().splitlines():
        if prints := json.loads(line)["fingerprints"]:
            return str(prints[0])
    raise AssertionError("no rollout was asked about")
