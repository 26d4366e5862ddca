"""What a run writes as it goes."""

import json
from pathlib import Path

import pytest

from tests.tiny_runs import rows_of
from trainer.errors import WriteError
from trainer.learning.logs import AppendedFile, CsvLog, RunLogs, log_files


@pytest.fixture
def logs(tmp_path):
    """The logs of a run in `tmp_path`; closed by the test's end."""
    logs = RunLogs(tmp_path / "logs")
    yield logs
    logs.close()


def test_the_csv_files_have_the_references_names_and_headers(tmp_path, logs):
    """Word for word; rows are there as soon as they are written."""
    logs.loss("Train", 1, 7, -0.25, 1e-5)
    logs.rewards("TrainR", 1, 10, 0.5, 2.5)
    logs.rewards("ValR", 1, 10, 0.25, 2.0)
    assert (tmp_path / "logs/reinforce_logs_updated.csv").read_text().splitlines() == [
        "Train/Val,Epoch,Step,Policy Loss,LR",
        "Train,1,7,-0.25,1e-05",
    ]
    assert (tmp_path / "logs/rewards_logs_updated.csv").read_text().splitlines() == [
        "Train/Val,Epoch,Step,Rewards,Comp Ratio",
        "TrainR,1,10,0.5,2.5",
        "ValR,1,10,0.25,2.0",
    ]


def test_a_log_that_is_opened_again_goes_on(tmp_path):
    """The header is written once."""
    for row in ((1, 2), (3, "a, b")):
        log = CsvLog(tmp_path / "log.csv", ("x", "y"))
        log.write(row)
        log.close()
    assert (tmp_path / "log.csv").read_text() == 'x,y\n1,2\n3,"a, b"\n'


def test_a_full_disk_is_one_sentence():
    """With the file, the reason and what to do, whichever call meets it."""
    file = AppendedFile(Path("/dev/full"))
    file.write_line("buffered")
    for call in (file.flush, file.close):
        with pytest.raises(WriteError, match=r"/dev/full: .*No space left.*make room.*--resume"):
            call()


def test_metrics_and_rollouts_are_json_lines(tmp_path, logs, make_rollout):
    """A rollout's line has its text, its completions and how each was served."""
    logs.metrics({"step": 1, "reward/mean": 0.5})
    logs.rollouts("train", 1, [make_rollout(), make_rollout(sample_index=1)])
    [metrics] = map(json.loads, (tmp_path / "logs/metrics.jsonl").read_text().splitlines())
    assert metrics == {"step": 1, "reward/mean": 0.5}
    first, second = map(json.loads, (tmp_path / "logs/rollouts.jsonl").read_text().splitlines())
    assert first == {
        "phase": "train",
        "step": 1,
        "example": "a",
        "sample": 0,
        "outcome": "scored",
        "reward": 0.5,
        "original_tokens": 100,
        "compressed_tokens": 20,
        "compressed_text": "on Monday",
        "completions": ["Monday"],
        "fingerprints": ["f1"],
        "judgements": [],
        "served": ["miss"],
        "reused": None,
    }
    assert second["sample"] == 1


def test_sizes_count_bytes_not_letters(tmp_path):
    """What a checkpoint remembers is where to cut the file."""
    file = AppendedFile(tmp_path / "log")
    file.write_line("é\r\nx")
    assert file.size() == (tmp_path / "log").stat().st_size == len("é\r\nx\n".encode())
    file.close()


def test_every_growing_file_is_named(tmp_path, logs):
    """Those that a resume cuts back are all that `RunLogs` opens, and the lock."""
    named = log_files(tmp_path, "logs", tmp_path / "run.lock")
    assert set(named) == {*(tmp_path / "logs").iterdir(), tmp_path / "run.lock"}
    assert rows_of(named[0]) == [["Train/Val", "Epoch", "Step", "Policy Loss", "LR"]]
