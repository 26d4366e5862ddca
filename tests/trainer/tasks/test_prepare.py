import json

import pytest

from trainer.errors import DataError, TeacherUnreachable
from trainer.tasks.data import load_examples, write_records
from trainer.tasks.prepare import Preparation, Unfilled, prepare
from trainer.types import Outcome, TeacherReply

RECORDS = {
    "0": {"original_prompt": "a", "gpt_output": "kept"},
    "1": {"original_prompt": ["b", "c"], "note": "stays"},
    "2": {"original_prompt": "d", "questions": [{"question": "Q1"}, {"question": "Q2"}]},
    "3": {
        "original_prompt": "e",
        "questions": [{"question": "Q3"}, {"question": "Q4"}],
        "gpt_output": [None, "kept"],
    },
}


@pytest.fixture
def path(tmp_path):
    """A data file with the records above."""
    write_records(tmp_path / "data.json", RECORDS)
    return tmp_path / "data.json"


def echo(items):
    """Answers with what was asked."""
    return [TeacherReply(Outcome.SCORED, f"{item.text}|{item.question}") for item in items]


def test_fills_what_is_missing_and_only_that(path):
    """Each reference lands where its record keeps them; other fields stay."""
    assert prepare(path, echo) == Preparation(filled=4, present=2, unfilled=())
    assert [[q.reference_completion for q in e.questions] for e in load_examples(path)] == [
        ["kept"],
        ["b\n\nc|None"],
        ["d|Q1", "d|Q2"],
        ["e|Q3", "kept"],
    ]
    assert json.loads(path.read_text())["1"]["note"] == "stays"


def test_a_full_file_is_not_touched(path):
    """Nothing is asked, and not a byte changes."""
    prepare(path, echo)
    path.write_text(json.dumps(json.loads(path.read_text())))
    before = path.read_bytes()
    assert prepare(path, lambda items: pytest.fail("asked")) == Preparation(0, 6, ())
    assert path.read_bytes() == before


def test_another_output_leaves_the_data_file_alone(path, tmp_path):
    """The filled records go to `output`."""
    before = path.read_bytes()
    prepare(path, echo, output=tmp_path / "filled.json")
    assert path.read_bytes() == before
    assert len(load_examples(tmp_path / "filled.json")) == 4


def test_asks_in_batches_and_reports_progress(path):
    """Four gaps in batches of three."""
    sizes, progress = [], []

    def ask(items):
        sizes.append(len(items))
        return echo(items)

    prepare(path, ask, batch_size=3, on_progress=lambda *counts: progress.append(counts))
    assert sizes == [3, 1]
    assert progress == [(3, 4), (4, 4)]


def test_what_the_teacher_does_not_answer_stays_missing(path):
    """Refused, failed and empty answers are reported by record and question."""
    replies = [
        TeacherReply(Outcome.REFUSED, error="content_filter"),
        TeacherReply(Outcome.FAILED, error="timeout"),
        TeacherReply(Outcome.SCORED, " "),
        TeacherReply(Outcome.SCORED, "fine"),
    ]
    assert prepare(path, lambda items: replies) == Preparation(
        filled=1,
        present=2,
        unfilled=(
            Unfilled("1", None, "refused: content_filter"),
            Unfilled("2", "Q1", "failed: timeout"),
            Unfilled("2", "Q2", "the answer is empty"),
        ),
    )
    with pytest.raises(DataError, match=r"missing in 2 of 4 records \(1, 2\)"):
        load_examples(path)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, TeacherUnreachable])
def test_an_interrupted_run_resumes_where_it_stopped(path, interruption):
    """What was answered is on disk, and is not asked for again."""
    asked = []

    def ask(items):
        if len(asked) == 2:
            raise interruption
        asked.extend(items)
        return echo(items)

    with pytest.raises(interruption):
        prepare(path, ask, batch_size=1)
    assert prepare(path, echo) == Preparation(filled=2, present=4, unfilled=())


def test_saves_while_it_works(path):
    """After every second batch the file holds what was answered so far."""
    on_disk = []

    def ask(items):
        data = json.loads(path.read_text())
        on_disk.append(sum("|" in json.dumps(record) for record in data.values()))
        return echo(items)

    prepare(path, ask, batch_size=1, batches_per_save=2)
    assert on_disk == [0, 0, 2, 2]
