"""`taco data` and `taco base`: a run's files from nothing."""

import json

from trainer.tasks.data import load_examples


def test_a_tasks_files_are_made_and_described(taco, tmp_path):
    """Sizes, checksums, licence; the same seed gives the same files."""
    for name in ("first", "again"):
        said = taco("data", "meeting-qa", "-o", tmp_path / name, "--count", 20)
        assert said.code == 0, said.err
    about = json.loads((tmp_path / "first/about.json").read_text(encoding="utf-8"))
    assert {name: entry["records"] for name, entry in about["files"].items()} == {
        "train": 20, "validation": 1, "test": 4,
    }  # fmt: skip
    assert (about["task"], about["licence"], about["left_out"]) == ("meeting-qa", "MIT", [])
    for split in about["files"]:
        file = f"{split}.json"
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_meetings_to_summarise_have_no_questions(taco, tmp_path):
    """The same transcripts."""
    taco("data", "meeting-summary", "-o", tmp_path, "--count", 5)
    examples = load_examples(tmp_path / "train.json", require_references=False)
    assert [[part.question for part in example.questions] for example in examples] == [[None]] * 5


def test_a_task_that_is_not_there_is_said(taco, tmp_path):
    """With those that are."""
    said = taco("data", "poems", "-o", tmp_path)
    assert said.code == 1
    assert "expected one of meeting-qa, meeting-summary, code-summary" in said.err


def test_records_of_ones_own_are_checked_and_split(taco, tmp_path):
    """The bad ones are named, in the file that describes the data, too; a split may be empty."""
    texts = [
        "Ada leads Falcon.",
        "阿达领导这个项目。",
        "Bo pays 40.",
        " ",
        "Bo pays 40.",
        "x" * 1_100_000,
    ]
    lines = [json.dumps({"original_prompt": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "mine.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "validation.json").write_text("{}")  # Of other data.
    said = taco("data", tmp_path / "mine.jsonl", "-o", folder)
    assert said.code == 0, said.err
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    assert [(each["name"], each["reason"][:18]) for each in about["left_out"]] == [
        ("4", "original_prompt is"), ("5", "the same text as 3"), ("6", "original_prompt ha"),
        ("7", "not valid JSON: Ex"),
    ]  # fmt: skip
    assert "left out: 4, such as 4 (original_prompt is empty)" in said.out
    assert sum(entry["records"] for entry in about["files"].values()) == 3
    assert f"{folder / 'validation.json'}: no record fell into it" in said.out
    assert not (folder / "validation.json").exists()


def test_a_base_is_made_from_a_data_file(taco, tmp_path, meetings):
    """Its path carries the family's name, and it compresses."""
    said = taco("base", tmp_path / "base", "--data", meetings, "--rate", "0.3")
    assert said.code == 0, said.err
    path = tmp_path / "base/bert-base-multilingual-cased"
    assert f"base compressor: {path}" in said.out

    from trainer.policy.compressor import PromptCompressorReinforce
    from trainer.policy.inference import compress
    from trainer.policy.words import CompressionOptions

    compressor = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy")
    text = load_examples(meetings)[0].original_prompt
    assert 0 < compress(compressor, [text], CompressionOptions(), rate=0.3).rate < 0.5
