"""The README's real run, by copy and paste."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from teacher_service import load_settings
from tests.tiny_models import MAKERS
from trainer.policy.families import XLM_ROBERTA
from trainer.policy.lengths import resolve_length_tokenizer

ROOT = Path(__file__).parents[2]
HUB_MODEL = "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"

RESULT = "runs/train_reinforce/result.json"


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """The code of the section, in its order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## A real run\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def commands(blocks) -> list[str]:
    """The command lines of the section but for the servers, which run already."""
    lines = "\n".join(blocks).replace("\\\n", "").splitlines()
    found = [line for line in lines if line.startswith(("taco ", "accelerate ", "echo "))]
    return [line for line in found if not line.startswith("taco serve")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, teacher_url):
    """A copy of the configs that names a small compressor, and the README's data file."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", folder / "configs")
    model = MAKERS[XLM_ROBERTA](folder)
    config = folder / "configs/train_reinforce.yaml"
    text = config.read_text(encoding="utf-8")
    assert HUB_MODEL in text
    config.write_text(text.replace(HUB_MODEL, str(model)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def paste(checkout, teacher_url):
    """Run one line as a shell would, with the environment's commands first on the path."""

    def paste(line: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=checkout,
            env={
                **os.environ,
                "PATH": path,
                "TACO_TEACHER_URL": teacher_url,
                "OMP_NUM_THREADS": "1",  # Several are slower on so small a model.
            },
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done

    return paste


def test_the_services_settings_load(blocks):
    """Those of each line that starts one."""
    files = re.findall(r"^taco serve --config (\S+)", "\n".join(blocks), flags=re.MULTILINE)
    assert len(files) >= 2
    for file in files:
        load_settings(ROOT / file)


def test_any_client_is_told_where_an_answer_came_from(blocks, paste, teacher_url):
    """By curl, with the address of the test's own service."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    [line] = [block for block in blocks if block.startswith("curl ")]
    said = paste(line.replace("http://127.0.0.1:8080", teacher_url)).stdout
    assert said.lower().startswith("cache-status: taco; ")


@pytest.mark.timeout(900)  # Six commands, five of which load torch.
def test_data_is_prepared_trained_on_resumed_and_replayed(blocks, commands, checkout, paste):
    """Every command, in the README's order; the replay gives the same weights."""
    [data] = [block for block in blocks if block.startswith('{"0"')]
    (checkout / "my_data.json").write_text(data)
    for line in commands:
        said = paste(line).stdout
        if line.startswith("taco prepare"):
            records = json.loads((checkout / "my_data.json").read_text())
            assert all("gpt_output" in json.dumps(record) for record in records.values())
        elif "taco compress" in line:
            assert set(said.split()) <= {"a", "long", "prompt", "..."}
        elif "--replay" in line:
            assert "weights: bit for bit the recorded ones" in said
        elif line.startswith("taco report"):
            assert "report: runs/train_reinforce/report.html" in said
        else:
            assert "trained compressor: " in said
    assert sum("train" in line for line in commands) >= 4


def test_the_trained_compressor_is_used_as_written(blocks, checkout, monkeypatch):
    """The path goes where PATH stands; a local tokenizer stands in for tiktoken's download."""
    from llmlingua import prompt_compressor

    path = checkout / json.loads((checkout / RESULT).read_text())["model_path"]
    from transformers import AutoTokenizer

    counter = resolve_length_tokenizer("policy", AutoTokenizer.from_pretrained(path))
    monkeypatch.setattr(
        prompt_compressor, "tiktoken", SimpleNamespace(encoding_for_model=lambda _: counter)
    )
    [code] = [block for block in blocks if "compress_prompt_llmlingua2" in block]
    *setup, last = code.replace("PATH", str(path)).strip().splitlines()
    names: dict[str, object] = {}
    with contextlib.chdir(checkout):
        exec("\n".join(setup), names)
        text = eval(last, names)
    assert set(text.split()) <= {"a", "long", "prompt", "..."}
