"""`taco distill`: a base compressor from what the built-in teacher leaves of the texts."""

import json

import httpx2
import pytest

from tests.tiny_models import load_stock
from trainer.policy.compressor import PromptCompressorReinforce


@pytest.fixture
def distill(taco, config_file, teacher_url, tmp_path, monkeypatch):
    """Run it on the tests' meetings, at the tests' service."""
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)

    def run(*arguments):
        return taco("distill", config_file, "-o", tmp_path / "base", *arguments)

    return run


def _backend_calls(url):
    return httpx2.get(f"{url}/v1/cache/stats").json()["since_start"]["backend_calls"]


def test_a_base_is_distilled_and_nothing_is_asked_twice(distill, teacher_url, tmp_path):
    """It loads in the stock package; labels and counts lie beside it."""
    first = distill("--small", "--epochs", 1, "--lr", "1e-3")
    assert first.code == 0, first.err
    calls = _backend_calls(teacher_url)
    again = distill("--epochs", 2, "--lr", "1e-3")
    assert again.code == 0, again.err
    assert _backend_calls(teacher_url) == calls > 0
    path = again.out.rpartition("base compressor: ")[2].strip()
    ours = PromptCompressorReinforce(path, "cpu", length_tokenizer="policy")
    stock = load_stock(path, ours.length_tokenizer)
    compressed = stock.compress_prompt_llmlingua2(["Anna leads the project."], rate=0.5)
    assert compressed["compressed_prompt"]
    about = json.loads((tmp_path / "base/distilled.json").read_text())
    lines = (tmp_path / "base/labels.jsonl").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line) for line in lines]
    assert about["learnt_from"] == len(labels) > 0
    assert len(about["teacher"]) == 64
    for each in labels:
        kept = [word for word, keep in zip(each["words"], each["kept"], strict=True) if keep]
        assert "".join(kept).replace(" ", "") == each["left"].replace(" ", "")


def test_an_instruction_of_ones_own_is_sent(distill, teacher_url, tmp_path):
    """Another instruction is another request."""
    instruction = tmp_path / "instruction.txt"
    instruction.write_text("Keep only names.\n\nShorten:\n{transcript}")
    before = _backend_calls(teacher_url)
    done = distill("--instruction", instruction, "--epochs", 1)
    assert done.code == 0, done.err
    assert _backend_calls(teacher_url) > before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--small", "--encoder", "xlm-roberta-large"], "got both"),
        (["--instruction", "/nowhere.txt"], "expected an instruction to read"),
        (["--encoder", "./nowhere"], "to be an encoder's folder"),
    ],
)
def test_a_bad_order_leaves_nothing_behind(distill, tmp_path, arguments, message):
    """One message, no folder."""
    done = distill(*arguments)
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "base").exists()
