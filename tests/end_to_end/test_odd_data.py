"""Records that nobody would call a document go through: prepared, trained on, evaluated."""

import json
from pathlib import Path

import pytest

from tests.tiny_runs import tiny_config
from trainer.learning.launch import train_new
from trainer.policy.fresh import make_fresh_compressor
from trainer.tasks.meetings import generate_meetings

ODD = {
    "chinese": "阿达领导猎鹰项目。预算为四十万。",
    "arabic": "تقود آدا مشروع فالكون والميزانية أربعون ألفًا.",
    "emoji": "🦅🦅🦅 💰 40 👩‍💻",
    "zero width": "\u200b",
    "punctuation": "... --- !!!",
    "one word": "Falcon",
    "control characters": "Ada\x00leads\x07Falcon\r\nBudget 40",
    "a word of 5,000 letters": "a" * 5_000,
    "200 kB": "Ada leads Falcon and the budget is 40 thousand. " * 4_200,
}
PROMPT = "Summarize.\n\nTranscript:\n{transcript}\n\nSummary:"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Those, and some good ones."""
    good = [meeting["original_prompt"] for meeting in generate_meetings(4, 0, "train")]
    texts = ODD | {f"good {number}": text for number, text in enumerate(good)}
    path = tmp_path_factory.mktemp("odd") / "odd.json"
    records = {name: {"original_prompt": text} for name, text in texts.items()}
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return path


def test_odd_records_are_prepared_trained_on_and_evaluated(
    taco, data, teacher_url, tmp_path, monkeypatch
):
    """By every command, none of them left out; what is evaluated on its training data is told."""
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    texts = [text[:1_000] for text in ODD.values()]
    base = make_fresh_compressor(tmp_path, texts, vocab_size=600, layers=1, hidden=32)
    config = tiny_config(
        data,
        base,
        task={"prompt": PROMPT},
        hyperparams={"epochs": 1, "train_batch_size": 4},
        policy={"rollouts_per_example": 2},
        reward={"metric": "rougeL"},
    )
    file = tmp_path / "config.yaml"
    file.write_text(config.model_dump_json(), encoding="utf-8")
    said = taco("prepare", data, "--config", file)
    assert said.code == 0, said.err
    assert f"{data}: {len(ODD) + 4} filled" in said.out
    result = train_new(
        config, "odd", teacher_url=teacher_url, runs=tmp_path / "runs", report=lambda _line: None
    )
    lines = Path(result.folder, "logs/rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["example"] for line in lines} >= ODD.keys()
    said = taco("evaluate", result.folder, "--data", data, "--output", tmp_path / "report")
    assert said.code == 0, said.err
    assert f"{data}: {len(ODD) + 4} of its {len(ODD) + 4} texts are training texts, too" in said.out
    report = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in report["rows"]][-1] == "trained"
    assert {row["agreement"]["rougeL"]["of"] for row in report["rows"]} == {len(ODD) + 4}
