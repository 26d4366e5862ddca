"""Steps that cannot be taken, and steps that take less memory at a time."""

import json
import re
import resource
from pathlib import Path

import pytest
import torch

from trainer.config import Config
from trainer.errors import NotFinite, OutOfMemory
from trainer.learning import passes
from trainer.learning.checkpoint import load_latest
from trainer.learning.launch import resume, train_new
from trainer.learning.run_folder import read_description, tensors_digest

CPU = torch.device("cpu")
MEASURED = ("loss/policy", "loss/grad_norm", "policy/entropy_per_word", "reward/mean")


def enormous(completion: str, _reference: str) -> float:
    """A metric beyond the range of a float32."""
    return 1e300 * len(completion)


@pytest.fixture
def train(tmp_path, document, teacher_url):
    """Train with changed sections; the result."""

    def train(name="trial", report=lambda _: None, **sections):
        config = Config.model_validate(document(**sections))
        runs = tmp_path / "runs"
        return train_new(config, name, teacher_url=teacher_url, runs=runs, report=report)

    return train


def _steps(folder):
    """The metrics of every step."""
    log = Path(folder) / "logs/metrics.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _assert_same_step(ours, theirs):
    # A loss is what is left of terms that cancel out: advantages add up to 0 in each group.
    for key in MEASURED:
        rounding = 1e-6 if key == "loss/policy" else 1e-9
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=rounding), key


@pytest.mark.parametrize(
    "sections",
    [
        {"reward": {"metric": f"{__name__}:enormous"}},
        {"policy": {"entropy_per_word": 1e38}},
        {"policy": {"entropy_per_word": 1e38, "passes": 2}},
    ],
    ids=["reward", "gradient", "several passes"],
)
def test_a_step_that_is_not_finite_is_refused(train, tmp_path, sections):
    """It is named, no weight has changed, and what there is is saved."""
    reported = []
    with pytest.raises(NotFinite, match=r"step 1 was not taken: expected a finite"):
        train(report=reported.append, **sections)
    assert reported[-1].startswith("saved; go on with")
    progress, tensors = load_latest(tmp_path / "runs/trial/checkpoints", CPU)
    assert progress.step == 0
    before = read_description(tmp_path / "runs/trial")["base_digest"]
    assert tensors_digest(tensors["model"].items()) == before


def test_broken_weights_are_noticed_before_the_teacher_is_asked(train, teacher_url, tmp_path):
    """A learning rate that throws them far away; the step after it is refused, by its number."""
    with pytest.raises(NotFinite, match=r"step 2 was not taken: expected keep probabilities"):
        train(hyperparams={"policy_lr": 1e30})
    folder = tmp_path / "runs/trial"
    assert load_latest(folder / "checkpoints", CPU)[0].step == 1
    assert [step["step"] for step in _steps(folder)] == [1]
    with pytest.raises(NotFinite, match=r"step 2 was not taken"):
        resume(folder, teacher_url=teacher_url, report=lambda _: None)


def test_micro_batches_make_the_same_update(train):
    """Of one example, or of two and then one: the same masks, and gradients within 1e-5."""
    sections = {
        "policy": {"passes": 2, "kl_coeff": 0.01, "credit": "word"},
        "hyperparams": {"epochs": 1},
    }
    whole = train("whole", **sections)
    for size in (1, 2):
        parts = train(f"by-{size}", compute={"micro_batch_size": size}, **sections)
        ours, theirs = _steps(parts.folder), _steps(whole.folder)
        _assert_same_step(ours[0], theirs[0])
        assert [step["loss/passes"] for step in ours] == [step["loss/passes"] for step in theirs]
        assert parts.teacher_calls == whole.teacher_calls


@pytest.fixture
def little_memory():
    """The process may take 1.5 GiB beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 3 * 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _gpu_memory(chunks):
    """As torch says that a GPU is full."""
    if chunks > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _machine_memory(chunks):
    """A GiB a chunk, for real."""
    torch.empty(chunks * 2**30, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("where", "take", "said"),
    [
        ("forward", _gpu_memory, "CUDA out of memory"),
        ("backward", _gpu_memory, "CUDA out of memory"),
        ("backward", _machine_memory, r"\[enforce fail at .*can't allocate memory"),
    ],
)
def test_out_of_memory_makes_micro_batches_smaller(
    train, finished, little_memory, monkeypatch, caplog, where, take, said
):
    """The step makes the same update, says so, and later ones remember."""
    forward, tried = passes.word_keep_probs, []

    class TooLarge(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value, chunks):
            ctx.chunks = chunks
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            take(ctx.chunks)
            return gradient, None

    def limited(model, chunks, *rest):
        tried.append(len(chunks))
        if where == "forward":
            take(len(chunks))
        prob_CW, is_word_CW = forward(model, chunks, *rest)
        return TooLarge.apply(prob_CW, len(chunks)), is_word_CW

    monkeypatch.setattr(passes, "word_keep_probs", limited)
    result = train()
    _assert_same_step(_steps(result.folder)[0], _steps(finished.folder)[0])
    assert [step["step"] for step in _steps(result.folder)] == list(range(1, 9))
    assert tried.count(3) == 1
    assert re.search(rf"out of memory with 3 examples in a forward pass \({said}", caplog.text)
    assert "going on with 1" in caplog.text


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MemoryError()],
)
def test_memory_that_takes_no_example_stops_the_run(train, monkeypatch, tmp_path, error):
    """The message says what to change, and the run is saved."""

    def full(*_):
        raise error

    monkeypatch.setattr(passes, "word_keep_probs", full)
    with pytest.raises(OutOfMemory, match=r"step 1 was not taken.*one example at a time"):
        train()
    assert load_latest(tmp_path / "runs/trial/checkpoints", CPU)[0].step == 0
