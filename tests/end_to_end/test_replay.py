"""The same run again, from its lock file and the store alone."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from cache import Completion, CompletionStore, Fingerprint, NewEntry, content_digest
from cache.promoting import promote_alternate
from cache.records import read_records
from taco.own_service import own_service
from tests.tiny_runs import make_tiny_compressor, rows_of, write_meetings
from trainer.config import Config
from trainer.errors import ReplayError
from trainer.learning.launch import train_new
from trainer.learning.lockfile import Lock


@pytest.fixture(scope="module")
def replay_url(recorded):
    """A service over that store, with no backend."""
    with own_service(mode="replay", store=recorded[1]) as url:
        yield url


@pytest.fixture
def replay(recorded, replay_url, document, tmp_path):
    """Replay the recorded run with changed sections; the result."""

    def replay(url=replay_url, lock=None, said=None, locked_masks=False, **sections):
        config = Config.model_validate(document(**sections))
        return train_new(
            config,
            "replay",
            teacher_url=url,
            runs=tmp_path / "runs",
            replay=Lock(lock or Path(recorded[0].lock)),
            locked_masks=locked_masks,
            report=[].append if said is None else said.append,
        )

    return replay


def test_a_replay_costs_nothing_and_gives_the_same_weights(recorded, replay):
    """Bit for bit, and the same lock; the first run asked the backend, the replay did not."""
    first, again = recorded[0], replay()
    assert first.backend_calls > 0
    assert again.backend_calls == 0
    assert again.weights_digest == first.weights_digest
    assert again.lock_root == first.lock_root
    assert again.teacher_calls == first.teacher_calls
    ours, theirs = (Path(run.model_path, "model.safetensors") for run in (first, again))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_replay_against_a_recording_service_asks_no_model_either(replay, tmp_path):
    """It has an empty store and would gladly ask: the first text departs from the lock."""
    store = tmp_path / "empty.sqlite"
    said = r"first divergence at train step 1, example '\d+', sample 0: the completions differ"
    with own_service(store=store) as url, pytest.raises(ReplayError, match=said):
        replay(url)


def _rewards(result):
    return rows_of(Path(result.folder, "logs/rewards_logs_updated.csv"))


def _distance(one, other):
    """Relative L2 distance of two runs' weights."""
    ours, theirs = (load_file(Path(run.model_path, "model.safetensors")) for run in (one, other))
    squares = [((ours[name] - theirs[name]) ** 2).sum() for name in theirs]
    return float((sum(squares) / sum((value**2).sum() for value in theirs.values())).sqrt())


def test_the_recorded_masks_give_the_same_run_on_the_same_machine(recorded, replay):
    """Bit for bit, like masks drawn again."""
    said = []
    again = replay(locked_masks=True, said=said)
    assert "training on the recorded masks, as asked (--locked-masks)" in said
    assert again.weights_digest == recorded[0].weights_digest
    assert again.lock_root == recorded[0].lock_root
    assert again.backend_calls == 0


def test_on_other_arithmetic_masks_are_locked_rewards_exact_and_weights_close(recorded, replay):
    """Attention is summed in another order here; the bound is the one that the docs state."""
    with sdpa_kernel(SDPBackend.MATH):
        again = replay(locked_masks=True)
    assert _rewards(again) == _rewards(recorded[0])
    assert again.lock_root == recorded[0].lock_root
    assert 0 < _distance(again, recorded[0]) < 1e-5


def test_the_policy_of_the_moment_learns_from_the_recorded_masks(recorded, replay):
    """With twice the learning rate: the same texts and rewards, other weights."""
    again = replay(locked_masks=True, hyperparams={"policy_lr": 2e-3})
    assert _rewards(again) == _rewards(recorded[0])
    assert again.lock_root == recorded[0].lock_root
    assert _distance(again, recorded[0]) > 1e-2


def _with_environment(lock, target, **changes):
    """A copy of a lock that was recorded elsewhere: the header is no leaf."""
    header, rest = lock.read_text().split("\n", 1)
    document = json.loads(header)
    document["environment"].update(changes)
    target.write_text(f"{json.dumps(document)}\n{rest}")
    return target


def test_on_another_machine_the_recorded_masks_are_trained_on(recorded, replay, tmp_path):
    """It says what differs; nobody has to ask for it."""
    said = []
    changes = {"threads": 64, "device": "NVIDIA H200", "packages": {"torch": "2.10.0"}}
    elsewhere = _with_environment(Path(recorded[0].lock), tmp_path / "run.lock", **changes)
    again = replay(lock=elsewhere, said=said, hyperparams={"policy_lr": 2e-3})
    assert again.lock_root == recorded[0].lock_root
    [announced] = [line for line in said if "recorded machine" in line]
    assert "torch: recorded 2.10.0, here" in announced
    assert "threads: recorded 64, here 1" in announced
    assert "device: recorded NVIDIA H200, here cpu" in announced
    assert "platform" not in announced


def test_a_text_that_is_cut_up_another_way_fits_no_recorded_mask(replay):
    """By step, example and sample, with what to do."""
    said = r"first divergence at train step 1, example '\d+', sample 0: the recorded mask does not"
    with pytest.raises(ReplayError, match=said):
        replay(locked_masks=True, hyperparams={"max_seq_len": 30})


def test_an_answer_is_found_though_another_is_served_by_now(recorded, replay, tmp_path):
    """Every answer was replaced since; the recorded ones are alternates, and asked for as such."""
    result, store = recorded
    changed = tmp_path / "changed.sqlite"
    shutil.copy(store, changed)
    with CompletionStore.open(changed) as opened:
        records = opened.query(lambda connection: list(read_records(connection)))
        other = Completion("Something else.", "stop")
        entries = [
            NewEntry(Fingerprint(each.key, each.document), each.teacher_digest, None, other)
            for each in records
        ]
        opened.commit(entries).result()
    digest = content_digest(other).hex()
    for each in records:
        promote_alternate(changed, each.key.hex(), digest)
    with own_service(mode="replay", store=changed) as url:
        again = replay(url)
    assert again.lock_root == result.lock_root
    assert again.weights_digest == result.weights_digest


def test_another_base_is_refused_before_training(replay, meetings, tmp_path):
    """Nothing is asked and no folder is left."""
    other = make_tiny_compressor(tmp_path / "other", meetings, seed=1)
    with pytest.raises(ReplayError, match="the model to start from is not the recorded one"):
        replay(model={"model_load_path": str(other)})
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("key", ["train_file_path", "val_file_path"])
def test_other_data_is_refused_before_training(replay, tmp_path, key):
    """Training or validation."""
    other = write_meetings(tmp_path / "other.json", 12, seed=3)
    with pytest.raises(ReplayError, match="the data is not the recorded one"):
        replay(data={key: str(other)})


def test_data_that_was_only_formatted_anew_is_the_same(replay, recorded, meetings, tmp_path):
    """A digest is of what the file says."""
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(json.loads(meetings.read_text()), indent=8))
    result = replay(data={"train_file_path": str(copy)})
    assert result.lock_root == recorded[0].lock_root


def test_another_length_tokenizer_is_refused_before_training(replay, base):
    """It decides budgets, lengths and the deployed cut."""
    with pytest.raises(ReplayError, match="lengths are counted with another tokenizer: expected p"):
        replay(policy={"length_tokenizer": str(base / "tokenizer.json")})


def test_a_changed_lock_is_refused(recorded, tmp_path):
    """Here one outcome."""
    changed = tmp_path / "run.lock"
    shutil.copy(recorded[0].lock, changed)
    text = changed.read_text()
    changed.write_text(text.replace('"outcome":"scored"', '"outcome":"failed"', 1))
    with pytest.raises(ReplayError, match="changed or damaged"):
        Lock(changed)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"hyperparams": {"policy_lr": 2e-3}}, r"train step 2, .*the keep mask differs"),
        ({"run": {"seed": 1}}, r"has no rollout at train step 1|step 1, .*the keep mask differs"),
        ({"reward": {"compression_tolerance": 0.02}}, r"step 1, .*the length case differs"),
        ({"hyperparams": {"train_batch_size": 4}}, r"has no rollout at train step 1"),
        ({"task": {"max_tokens": 31}}, r"step 1, .*the completions differ"),
        ({"hyperparams": {"epochs": 3}}, r"(train|val) step \d"),
        ({"evaluation": {"val_interval": 2}}, r"has no rollout at val step 2"),
    ],
)
def test_a_run_that_departs_is_stopped_where_it_does(replay, sections, said):
    """By step, example and sample, with what differs."""
    with pytest.raises(ReplayError, match=said):
        replay(**sections)
