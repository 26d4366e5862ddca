"""Checkpoints: whole or not at all."""

import pytest
import torch

from trainer.errors import CheckpointError, WriteError
from trainer.learning.checkpoint import (
    Progress,
    cut_back_logs,
    load_latest,
    measure_logs,
    save_checkpoint,
)

CPU = torch.device("cpu")


def _save(folder, step, value=0.0):
    progress = Progress(step, step - 1, {"logs/a.csv": 10 * step}, teacher_calls=100 * step)
    return save_checkpoint(folder, progress, {"model": {"w": torch.tensor([value])}})


def test_what_was_saved_comes_back(tmp_path):
    """Progress and tensors, of the newest one."""
    _save(tmp_path, 1, value=0.1)
    _save(tmp_path, 2, value=0.2)
    progress, tensors = load_latest(tmp_path, CPU)
    assert progress == Progress(2, 1, {"logs/a.csv": 20}, teacher_calls=200)
    assert torch.equal(tensors["model"]["w"], torch.tensor([0.2]))


def test_two_are_kept(tmp_path):
    """The newest and the one before; step 100 is newer than step 20."""
    for step in (3, 20, 100):
        _save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000020.pt",
        "step-00000100.pt",
    ]


def test_an_unfinished_one_is_never_read(tmp_path):
    """What a killed run was writing lies beside the last whole one, and a later save removes it."""
    _save(tmp_path, 1)
    (tmp_path / "step-00000002.unfinished").write_bytes(b"half")
    assert load_latest(tmp_path, CPU)[0].step == 1
    _save(tmp_path, 2)
    assert load_latest(tmp_path, CPU)[0].step == 2
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_save_that_fails_leaves_the_last_one(tmp_path):
    """Here something that cannot be written."""
    _save(tmp_path, 1)
    with pytest.raises(AttributeError, match="pickle"):
        save_checkpoint(tmp_path, Progress(1, 0, {}, 0), {"model": lambda: None})
    assert load_latest(tmp_path, CPU)[1]["model"]["w"] == 0.0


def test_a_full_disk_costs_the_new_one(tmp_path):
    """With the reason; what was written of it makes room again."""
    _save(tmp_path, 1)
    (tmp_path / "step-00000002.unfinished").symlink_to("/dev/full")
    with pytest.raises(WriteError, match=r"step-00000002\.pt: .*No space left on device"):
        _save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_none_is_a_clear_message(tmp_path):
    """Also where the folder is missing."""
    with pytest.raises(CheckpointError, match="expected a checkpoint to resume from"):
        load_latest(tmp_path / "missing", CPU)


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", "cut", "other"])
def test_a_damaged_one_says_what_to_do(tmp_path, damage):
    """It names the file; once that is deleted, the one before is taken."""
    _save(tmp_path, 1)
    damaged = _save(tmp_path, 2)
    if damage == "other":
        torch.save({"something": "else"}, damaged)
    else:
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    with pytest.raises(CheckpointError, match=r"step-00000002\.pt.*delete it"):
        load_latest(tmp_path, CPU)
    damaged.unlink()
    assert load_latest(tmp_path, CPU)[0].step == 1


def test_logs_are_cut_back_to_the_checkpoint(tmp_path):
    """To the byte; what is missing was never there."""
    (tmp_path / "logs").mkdir()
    log, lock = tmp_path / "logs/a.csv", tmp_path / "run.lock"
    log.write_text("é, 1\n")
    remembered = measure_logs(tmp_path, [log, lock])
    log.write_text("é, 1\né, 2\n")
    cut_back_logs(tmp_path, remembered)
    assert log.read_text() == "é, 1\n"
    assert not lock.exists()


def test_logs_may_lie_outside_of_the_runs_folder(tmp_path):
    """Where `logging.log_dir` is an absolute path."""
    log = tmp_path / "elsewhere/a.csv"
    log.parent.mkdir()
    log.write_text("1\n")
    remembered = measure_logs(tmp_path / "run", [log])
    log.write_text("1\n2\n")
    cut_back_logs(tmp_path / "run", remembered)
    assert log.read_text() == "1\n"


def test_a_log_that_lost_something_is_refused(tmp_path):
    """It cannot be what the run wrote."""
    log = tmp_path / "a.csv"
    log.write_text("12345")
    for text in ("123", None):
        log.unlink() if text is None else log.write_text(text)
        with pytest.raises(CheckpointError, match=r"a\.csv: expected at least 5 bytes"):
            cut_back_logs(tmp_path, {"a.csv": 5})
