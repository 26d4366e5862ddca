"""The paper's tasks with LLMLingua-2's XLM-R-large and a 7B teacher, up to the download."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from teacher_service import load_settings
from trainer.config_file import load_config
from trainer.policy.families import XLM_ROBERTA, family_of
from trainer.rollouts.scores import load_metric

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "configs/teacher/vllm_7b.yaml"
ROWS = {
    "meetingbank": {"transcript": "Ada leads Falcon. {}", "summary": "Ada leads."},
    "squad": {
        "context": "Ada leads Falcon. {}",
        "question": "Who leads Falcon?",
        "answers": {"text": ["Ada"], "answer_start": [0]},
    },
    "codesearchnet": {
        "func_code_string": 'def lead_{}():\n    """Lead."""\n    return "Ada"',
        "func_documentation_string": "Lead.",
    },
}


def config_of(task):
    """The task's shipped file."""
    return ROOT / f"configs/tasks/{task}.yaml"


@pytest.fixture
def offline(tmp_path):
    """Run `taco` in a folder of its own, where no model is, and none can be fetched."""
    home = tmp_path / "home"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HOME": str(home)}
    environment.pop("TACO_TEACHER_URL", None)
    command = Path(sys.executable).with_name("taco")

    def run(*arguments):
        return subprocess.run(
            [command, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
        )

    return run


@pytest.mark.parametrize("task", ROWS)
def test_config_and_teacher_belong_together(task):
    """The teacher is asked by a name that it serves, and may answer as long as the task wants."""
    config, settings = load_config(config_of(task)), load_settings(TEACHER)
    assert config.task.gpt_model in settings.served_models
    assert config.data.train_file_path == f"data/{task}/train.json"
    assert config.data.val_file_path == f"data/{task}/validation.json"
    assert ("{question}" in config.task.prompt) == (task == "squad")
    assert family_of(config.model.model_load_path) == XLM_ROBERTA
    assert load_metric(config.reward.metric).signature
    arguments = settings.vllm.arguments
    longest = int(arguments[arguments.index("--max-model-len") + 1])
    assert config.task.max_tokens < longest


@pytest.mark.parametrize("task", ROWS)
def test_the_commands_in_a_configs_head_are_those_of_its_files(task):
    """Whoever copies them works on what the config names."""
    head = config_of(task).read_text(encoding="utf-8").partition("\ndata:")[0]
    for command in (
        f"taco serve --config {TEACHER.relative_to(ROOT)}",
        f"taco data {task} -o data/{task}\n",
        f"taco prepare data/{task}/$split.json --config configs/tasks/{task}.yaml\n",
        f"taco train configs/tasks/{task}.yaml\n",
        f"taco evaluate runs/{task} --data data/{task}/test.json --rates ",
    ):
        assert command in head


def test_the_doctor_says_what_is_missing(offline, tmp_path):
    """With the data made, the answers of the teacher, its weights and the compressor: no more."""
    pytest.importorskip("datasets", reason="the extra `data` is not installed")
    task = "squad"
    rows = tmp_path / "rows"
    rows.mkdir()
    lines = [json.dumps(ROWS[task]).replace("{}", str(number)) for number in range(40)]
    for split in ("train", "validation"):
        here = lines[:30] if split == "train" else lines[30:]
        (rows / f"{split}.jsonl").write_text("\n".join(here), encoding="utf-8")
    made = offline("data", task, "--source", rows, "-o", f"data/{task}")
    assert made.returncode == 0, made.stderr
    said = offline(
        "doctor", config_of(task), "--teacher", TEACHER, "device.use_cuda=false", "--json"
    )
    found = json.loads(said.stdout)["findings"]
    missing = {each["what"]: each for each in found if each["state"] != "ok"}
    assert {what for what, each in missing.items() if each["state"] == "wrong"} == {
        "data",
        "validation",
    }
    assert "`taco prepare data/squad/train.json --config" in missing["data"]["said"]
    assert "Qwen/Qwen2.5-7B-Instruct" in missing["weights"]["said"]
    assert "training would download it" in missing["model"]["said"]
    assert {"weights", "model"} <= missing.keys() <= {
        "data", "validation", "weights", "model", "teacher", "tokenizer", "memory",
    }  # fmt: skip
    dry = offline("train", config_of(task), "--dry-run")
    assert dry.returncode == 1
    assert "microsoft/llmlingua-2-xlm-roberta-large-meetingbank" in dry.stderr
    assert "Traceback" not in dry.stderr
