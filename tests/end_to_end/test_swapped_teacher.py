"""The same experiment with one teacher after another: only the config's one line is changed."""

from pathlib import Path

import pytest
import yaml

from taco.own_service import own_service
from tests.tiny_causal_lm import make_causal_lm
from trainer.config import Config
from trainer.learning.launch import train_new
from trainer.learning.lockfile import Lock


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory) -> Path:
    """Settings with a section for each teacher, all but the line that chooses one."""
    folder = tmp_path_factory.mktemp("teachers")
    model = make_causal_lm(folder / "model")
    file = folder / "teacher.yaml"
    sections = {
        "store": str(folder / "completions.sqlite"),
        "builtin": {"latency_ms": 0},
        "transformers": {"model": str(model), "device": "cpu"},
    }
    file.write_text(yaml.safe_dump(sections))
    return file


@pytest.mark.parametrize("backend", ["builtin", "transformers"])
def test_one_line_swaps_the_teacher_of_an_experiment(
    document, teacher_file, tmp_path, backend, monkeypatch
):
    """Both end with a compressor and a whole lock, in one store; the lock names its teacher."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # The model is tiny, and cores are shared.
    config = Config.model_validate(document(task={"max_tokens": 4}, hyperparams={"epochs": 1}))
    chosen = tmp_path / "teacher.yaml"
    chosen.write_text(f"backend: {backend}\n{teacher_file.read_text()}")
    with own_service(chosen) as url:
        result = train_new(config, backend, teacher_url=url, runs=tmp_path, report=lambda _: None)
    assert Path(result.model_path, "model.safetensors").is_file()
    assert result.backend_calls > 0
    lock = Lock(Path(result.lock))
    assert len(lock.header["teacher"]) == 64
