"""The shipped config and examples train as they are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import MAKERS
from tests.tiny_runs import make_tiny_compressor, phases, rows_of
from trainer.config_file import load_config
from trainer.learning.launch import train_new
from trainer.policy.families import XLM_ROBERTA

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONFIG = ROOT / "configs/train_reinforce.yaml"

ASKING = "Text:\n{transcript}\n\nQuestion: {question}\nAnswer:"


def test_the_references_file_drives_a_run_unmodified(tmp_path, teacher_url):
    """As the README calls it; XLM-R, and a GPU that is asked for and not used.

    Only the checkpoint is another, and one epoch is enough; the folders are the reference's.
    """
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    model = MAKERS[XLM_ROBERTA](tmp_path)
    launcher = Path(sys.executable).with_name("accelerate")
    command = [launcher, "launch", "--num_processes", "2", "--cpu", "-m", "trainer", CONFIG]
    done = subprocess.run(
        [*command, f"model.model_load_path={model}", "hyperparams.epochs=1"],
        cwd=tmp_path,
        env={**os.environ, "TACO_TEACHER_URL": teacher_url, "TIKTOKEN_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/train_reinforce"
    result = json.loads((run / "result.json").read_text())
    assert (
        result["model_path"] == f"runs/train_reinforce/models/reinforce_trained_model/{XLM_ROBERTA}"
    )
    assert (tmp_path / result["model_path"] / "model.safetensors").is_file()
    assert phases(rows_of(run / "logs_new/reinforce_logs_updated.csv")) == [("Train", 1)]
    rewards = phases(rows_of(run / "logs_new/rewards_logs_updated.csv"))
    assert rewards[0] == ("TrainR", 1)
    assert f"trained compressor: {result['model_path']}" in done.stdout
    assert "so lengths are counted with the policy's own tokenizer" in done.stderr
    if json.loads((run / "run.json").read_text())["environment"]["device"] == "cpu":
        assert "there is no GPU here: training on the CPU" in done.stderr


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("meeting_summary", []),
        ("question_answering", [f"task.prompt={json.dumps(ASKING)}", "reward.metric=f1"]),
        ("code_summary", ['hyperparams.force_tokens="\\n"', "policy.loss=reference"]),
        ("question_answering", ["hyperparams.use_context_level_filter=true"]),
    ],
)
def test_every_example_file_trains(tmp_path, teacher_url, name, overrides):
    """One step over all its records, by the reference's file and what the task needs."""
    data = EXAMPLES / f"{name}.json"
    base = make_tiny_compressor(tmp_path / "base", data)
    config = load_config(
        CONFIG,
        [
            f"data.train_file_path={data}",
            f"model.model_load_path={base}",
            "hyperparams.epochs=1",
            "device.use_cuda=false",
            "policy.length_tokenizer=policy",
            "evaluation.val_share=0",
            *overrides,
        ],
    )
    result = train_new(
        config, name, teacher_url=teacher_url, runs=tmp_path / "runs", report=lambda _: None
    )
    rollouts = [
        json.loads(line)
        for line in Path(result.folder, "logs_new/rollouts.jsonl").read_text().splitlines()
    ]
    assert {rollout["example"] for rollout in rollouts} == json.loads(data.read_text()).keys()
    assert {rollout["outcome"] for rollout in rollouts} <= {"scored", "out_of_range"}
    assert "scored" in {rollout["outcome"] for rollout in rollouts}
    if name == "code_summary":
        assert all("\n" in rollout["compressed_text"] for rollout in rollouts)
