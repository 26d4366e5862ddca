"""Options of learning, in whole runs: what they change, and that a run with them resumes."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from trainer.config import Config
from trainer.learning.launch import resume, train_new
from trainer.learning.lockfile import Lock
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.sampling import uniform_noise
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples

STRONG = {"passes": 3, "kl_coeff": 0.05, "warmup_steps": 2, "credit": "word"}
ON_THE_WAY = {
    "loss": "moving_average",
    "start_rate": 0.7,
    "start_rate_steps": 6,
    "entropy_per_word": 0.01,
    "final_entropy_per_word": 0.0,
}
"""What has a state or a schedule."""


@pytest.fixture
def train(tmp_path, document, teacher_url):
    """Train with a changed policy section; the result."""

    def train(name="trial", report=lambda _: None, replay=None, **policy):
        return train_new(
            Config.model_validate(document(policy=policy)),
            name,
            teacher_url=teacher_url,
            runs=tmp_path / "runs",
            report=report,
            replay=replay,
            locked_masks=replay is not None,
        )

    return train


def _steps(result):
    """The metrics of every step."""
    log = Path(result.folder) / "logs/metrics.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_a_run_with_every_option_goes_on_bit_for_bit(train, teacher_url):
    """Stopped after the fourth of eight steps; the KL is still to the compressor it began with."""
    whole = train(**STRONG)

    def stop(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop, **STRONG)
    folder = Path(whole.folder).with_name("stopped")
    resumed = resume(folder, teacher_url=teacher_url, report=lambda _: None)
    assert resumed.weights_digest == whole.weights_digest
    assert resumed.lock_root == whole.lock_root
    distances = [step["policy/kl_to_start"] for step in _steps(resumed)]
    assert distances == [step["policy/kl_to_start"] for step in _steps(whole)]
    assert distances[0] == 0.0
    assert min(distances[1:]) > 0.0


def test_a_runs_average_and_rate_go_on_where_they_were(train, teacher_url):
    """Stopped after the fourth of eight steps, with the rate still on its way."""
    whole = train(**ON_THE_WAY)

    def stop(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop, **ON_THE_WAY)
    folder = Path(whole.folder).with_name("stopped")
    resumed = resume(folder, teacher_url=teacher_url, report=lambda _: None)
    assert resumed.weights_digest == whole.weights_digest
    rates = [step["rate/achieved"] for step in _steps(resumed)]
    assert rates[:2] == pytest.approx([0.7, 0.65], abs=0.05)
    assert rates[-2:] == pytest.approx([0.4, 0.4], abs=0.05)


def test_the_greedy_baseline_asks_about_one_more_text(train, finished):
    """It is judged and recorded as the last of its group, counts as a call, and replays as such."""
    result = train(loss="greedy")
    log = Path(result.folder) / "logs/rollouts.jsonl"
    rollouts = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    samples = [rollout["sample"] for rollout in rollouts if rollout["phase"] == "train"]
    assert sorted(set(samples)) == [0, 1, 2, 3]
    again = train("again", replay=Lock(Path(result.lock)), loss="greedy")
    assert again.weights_digest == result.weights_digest
    assert result.teacher_calls > finished.teacher_calls
    assert result.weights_digest != finished.weights_digest


def test_passes_learn_more_from_the_same_rollouts(train, finished):
    """Three optimiser steps where there was one; the first batch is as it was, at its cost."""
    result = train(passes=3)
    steps, plain = _steps(result), _steps(finished)
    assert [step["loss/passes"] for step in steps] == [3] * 8
    assert [step["loss/passes"] for step in plain] == [1] * 8
    assert steps[0]["loss/policy"] == plain[0]["loss/policy"]
    assert steps[0]["teacher/calls"] == plain[0]["teacher/calls"]
    assert result.weights_digest != finished.weights_digest


def test_passes_end_where_the_policy_has_moved_too_far(train, finished):
    """A bound that any update exceeds leaves one pass a step: the run without further passes."""
    result = train(passes=3, max_kl=1e-12)
    assert [step["loss/passes"] for step in _steps(result)] == [1] * 8
    assert result.weights_digest == finished.weights_digest


def test_kl_holds_the_policy_near_the_compressor_it_began_with(train):
    """With a weight that swamps the reward, it stays nearer than without."""
    free, held = (
        [step["policy/kl_to_start"] for step in _steps(train(kl_coeff=weight))]
        for weight in (1e-9, 10.0)
    )
    assert held[-1] < 0.5 * free[-1]


def test_every_step_says_how_much_of_its_gradient_is_signal(train):
    """From AdamW's own means, so that a single step says nothing yet."""
    ratios = [step["loss/signal_to_noise"] for step in _steps(train())]
    assert ratios[0] == 0.0
    assert max(ratios) > 0.0


def test_the_learning_rate_warms_up(train):
    """From a third of the schedule's to all of it in the third step; then as scheduled."""
    warm = [step["loss/lr"] for step in _steps(train(warmup_steps=2, lr_schedule="constant"))]
    assert warm == pytest.approx([1e-3 / 3, 2e-3 / 3, *[1e-3] * 6])


def test_the_exact_sampler_trains_in_further_passes_too(train):
    """Its words' log-probs make ratios like any; every text is as long as the last one."""
    result = train(sampler="exact_count", passes=2, entropy_per_word=0.003, kl_coeff=0.01)
    assert [step["loss/passes"] for step in _steps(result)] == [2] * 8
    log = Path(result.folder) / "logs/rollouts.jsonl"
    rollouts = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lengths = {}
    for rollout in rollouts:
        if rollout["phase"] == "train":
            lengths.setdefault(rollout["example"], set()).add(rollout["compressed_tokens"])
    assert all(len(tokens) == 1 for tokens in lengths.values())


def test_one_compressor_is_trained_for_several_rates(train):
    """Each text aims at one of them, and validation at the run's own."""
    result = train(rates=[0.25, 0.6], sampler="exact_count")
    log = Path(result.folder) / "logs/rollouts.jsonl"
    rollouts = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rates = {
        phase: [
            rollout["compressed_tokens"] / rollout["original_tokens"]
            for rollout in rollouts
            if rollout["phase"] == phase
        ]
        for phase in ("train", "val")
    }
    low = [rate for rate in rates["train"] if rate < 0.4]
    assert low == pytest.approx([0.25] * len(low), abs=0.02)
    high = [rate for rate in rates["train"] if rate >= 0.4]
    assert high == pytest.approx([0.6] * len(high), abs=0.02)
    assert low
    assert high
    assert rates["val"] == pytest.approx([0.4] * len(rates["val"]), abs=0.1)


@pytest.mark.parametrize("policy", [{"credit": "word"}, {"loss": "group_normalized"}])
def test_credit_changes_what_is_learnt_and_costs_no_call(train, finished, policy):
    """The first batch is drawn and asked as ever; the weights that it leaves are others."""
    result = train(**policy)
    first, plain = _steps(result)[0], _steps(finished)[0]
    assert first["teacher/calls"] == plain["teacher/calls"]
    assert first["reward/mean"] == plain["reward/mean"]
    assert first["advantage/scale"] != plain["advantage/scale"]
    assert result.weights_digest != finished.weights_digest


def test_the_padded_loss_is_the_references(train, document):
    """As its own code has it: Bernoullis at 512 positions, their means, times the rewards."""
    result = train(loss="reference_padded", sampler="bernoulli")
    config = Config.model_validate(document())
    lines = (Path(result.folder) / "logs/rollouts.jsonl").read_text().splitlines()
    rollouts = [line for line in map(json.loads, lines) if line["phase"] == "train"][:3]
    compressor = PromptCompressorReinforce(
        config.model.model_load_path, "cpu", length_tokenizer="policy"
    )
    segmenter = compressor.segmenter(CompressionOptions())
    texts = {
        example.id: example.original_prompt
        for example in load_examples(Path(config.data.train_file_path))
    }
    ids, mask = torch.zeros(2, 3, 512, dtype=torch.long)
    noise = []
    for row, rollout in enumerate(rollouts):
        [chunk] = segmenter.segment([texts[rollout["example"]]]).chunks
        pieces = torch.from_numpy(chunk.piece_ids)
        ids[row, : len(pieces)], mask[row, : len(pieces)] = pieces, 1
        noise.append(torch.from_numpy(uniform_noise(0, 1, rollout["example"], 0, 512)))
    probabilities = compressor.model(input_ids=ids, attention_mask=mask).logits.softmax(-1)[..., 1]
    policy = torch.distributions.Bernoulli(probabilities.detach())
    action = (torch.stack(noise) < policy.probs).float()
    rewards = torch.tensor([rollout["reward"] for rollout in rollouts])[:, None]
    expected = -(policy.log_prob(action) * rewards).mean() - 0.01 * policy.entropy().mean()
    assert _steps(result)[0]["loss/policy"] == pytest.approx(float(expected), rel=1e-4)
