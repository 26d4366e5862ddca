"""Checkpoints: whole or not at all."""

import pytest
import torch

from trainer.errors import CheckpointError, WriteError
from trainer.learning.checkpoint import (
    Progress,
    cut_back_logs,
    load_best,
    load_latest,
    measure_logs,
    save_best,
    save_checkpoint,
    set_damaged_aside,
)
from trainer.learning.standing import Standing

CPU = torch.device("cpu")


def _save(folder, step, value=0.0, keep=2):
    progress = Progress(step, step - 1, {"logs/a.csv": 10 * step}, teacher_calls=100 * step)
    return save_checkpoint(folder, progress, {"model": {"w": torch.tensor([value])}}, keep=keep)


def test_what_was_saved_comes_back(tmp_path):
    """Progress and tensors, of the newest one."""
    _save(tmp_path, 1, value=0.1)
    _save(tmp_path, 2, value=0.2)
    progress, tensors = load_latest(tmp_path, CPU)
    assert progress == Progress(2, 1, {"logs/a.csv": 20}, teacher_calls=200)
    assert torch.equal(tensors["model"]["w"], torch.tensor([0.2]))


def test_the_newest_are_kept(tmp_path):
    """As many as are asked for; step 100 is newer than step 20."""
    for step in (3, 20, 100):
        _save(tmp_path, step, keep=3)
    assert len(list(tmp_path.iterdir())) == 3
    _save(tmp_path, 100)
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
        save_checkpoint(tmp_path, Progress(1, 0, {}, 0), {"model": lambda: None}, keep=2)
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


def test_the_best_weights_stay_until_a_checkpoint_speaks_of_better_ones(tmp_path):
    """A run killed in between goes on from a checkpoint whose best ones are still there."""
    for step, score in ((3, 0.3), (6, 0.6)):
        save_best(tmp_path, step, {"w": torch.tensor([score])})
    assert len(list(tmp_path.iterdir())) == 2
    progress = Progress(6, 6, {}, 0, Standing(6, 0.6))
    save_checkpoint(tmp_path, progress, {}, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-00000006.pt",
        "step-00000006.pt",
    ]
    assert load_latest(tmp_path, CPU)[0] == progress
    assert torch.equal(load_best(tmp_path, 6)["w"], torch.tensor([0.6]))
    with pytest.raises(CheckpointError, match=r"best-00000003\.pt: expected the weights"):
        load_best(tmp_path, 3)


def test_damaged_ones_are_set_aside(tmp_path, caplog):
    """Newest first, until there is a whole one; they are kept, under another name."""
    for step in (1, 2, 3):
        _save(tmp_path, step, keep=3)
    for step in (2, 3):
        (tmp_path / f"step-0000000{step}.pt").write_bytes(b"half")
    assert set_damaged_aside(tmp_path)
    assert load_latest(tmp_path, CPU)[0].step == 1
    assert (tmp_path / "step-00000003.damaged").read_bytes() == b"half"
    assert "going on from the one before" in caplog.text
    assert not set_damaged_aside(tmp_path / "none")
