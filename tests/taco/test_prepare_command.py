"""`taco prepare`: reference completions for a file that has none."""

import json
from pathlib import Path

import pytest

from cache import CompletionStore
from taco.own_service import own_service
from trainer.tasks.data import load_examples

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/train_reinforce.yaml"


@pytest.fixture
def data(tmp_path):
    """The shipped questions, their reference completions taken away."""
    records = json.loads((ROOT / "examples/question_answering.json").read_text(encoding="utf-8"))
    for record in records.values():
        for part in [record, *record.get("questions", [])]:
            part.pop("gpt_output", None)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.fixture
def prepare(taco, teacher_url, monkeypatch):
    """Run `taco prepare` with the reference's config, by default at the tests' service."""

    def run(*arguments, url=teacher_url):
        monkeypatch.setenv("TACO_TEACHER_URL", url)
        return taco("prepare", *arguments, "--config", CONFIG)

    return run


def _questions(path):
    return sum(len(example.questions) for example in load_examples(path, require_references=False))


def test_what_is_missing_is_filled_and_nothing_is_asked_twice(prepare, data):
    """The second time it does nothing, and the file stays as it is to the byte."""
    first = prepare(data)
    assert first.code == 0, first.err
    total = _questions(data)
    assert f"{data}: {total} filled, 0 were there before" in first.out
    assert all(q.reference_completion for e in load_examples(data) for q in e.questions)
    before = data.read_bytes(), data.stat().st_mtime_ns
    second = prepare(data)
    assert f"{data}: 0 filled, {total} were there before" in second.out
    assert (data.read_bytes(), data.stat().st_mtime_ns) == before


def test_the_teacher_is_asked_as_in_training(prepare, data):
    """A file that is prepared anew costs nothing: the same requests, from the store."""
    original = data.read_bytes()
    prepare(data)
    filled = data.read_bytes()
    data.write_bytes(original)
    assert prepare(data).code == 0
    assert data.read_bytes() == filled


def test_another_output_leaves_the_data_alone(prepare, data, tmp_path):
    """Its folder is made."""
    before = data.read_bytes()
    output = tmp_path / "new/filled.json"
    assert prepare(data, "--output", output).code == 0
    assert data.read_bytes() == before
    assert load_examples(output)


def test_what_the_teacher_leaves_unanswered_is_listed(prepare, data, tmp_path):
    """A replay of an empty store answers nothing; the file is saved all the same."""
    store = tmp_path / "empty.sqlite"
    with own_service(store=store):
        pass
    with own_service(mode="replay", store=store) as url:
        said = prepare(data, url=url)
    total = _questions(data)
    assert said.code == 1
    assert said.err.startswith(
        f"{data}: the teacher left {total} unanswered:\n  0: failed: cache_miss"
    )
    assert prepare(data).code == 0


def test_a_data_file_that_is_none_is_said(prepare, tmp_path):
    """Missing, or without a prompt."""
    missing = prepare(tmp_path / "none.json")
    assert (missing.code, "none.json" in missing.err) == (1, True)
    (tmp_path / "bad.json").write_text('{"0": {"gpt_output": "x"}, "1": {"original_prompt": 1}}')
    bad = prepare(tmp_path / "bad.json")
    assert (bad.code, bad.err.splitlines()[0]) == (1, f"{tmp_path / 'bad.json'}: 2 problems")


def test_a_service_is_started_where_none_runs(taco, data, tmp_path):
    """With the store that is named; it is stopped again."""
    said = taco("prepare", data, "--config", CONFIG, "--store", tmp_path / "own.sqlite")
    assert said.code == 0, said.err
    assert "starting a teacher service: the built-in teacher" in said.out
    with CompletionStore.open(tmp_path / "own.sqlite") as store:
        assert 0 < store.stats().completions <= _questions(data)
