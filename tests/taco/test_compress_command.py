"""`taco compress`: files or stdin to stdout."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.tiny_models import CORPUS, load_stock
from tests.tiny_runs import tiny_config
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce

TEXT = " ".join(CORPUS[:4])


@pytest.fixture(scope="module")
def ours(base):
    """The compressor of the tests, which says what its texts should be."""
    return PromptCompressorReinforce(str(base), "cpu", length_tokenizer="policy")


@pytest.fixture
def compress(taco, base, monkeypatch):
    """Run `taco compress` with lengths that need no file, and bytes on stdin."""

    def run(*arguments, stdin=b"", model=base):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return taco("compress", "--model", model, "--length-tokenizer", "policy", *arguments)

    return run


def test_stdin_comes_out_as_the_stock_package_compresses_it(compress, base, ours):
    """Word for word."""
    said = compress("--rate", "0.3", stdin=TEXT.encode())
    stock = load_stock(base, ours.length_tokenizer).compress_prompt_llmlingua2([TEXT], rate=0.3)
    assert (said.code, said.err) == (0, "")
    assert said.out == stock["compressed_prompt"] + "\n"


def test_several_files_come_out_in_their_order(compress, tmp_path):
    """One text a line, the same as each by itself; stdin takes its place among them."""
    files = [tmp_path / f"{index}.txt" for index in range(3)]
    for file, text in zip(files, CORPUS[1:4], strict=True):
        file.write_text(text, encoding="utf-8")
    alone = "".join(compress(file).out for file in files)
    assert compress(*files).out == alone
    assert compress(files[0], "-", files[2], stdin=files[1].read_bytes()).out == alone


def test_json_tells_rate_and_words_and_why(compress):
    """Words above the threshold of their chunk are the kept ones, and the text is made of them."""
    (line,) = compress("--json", "--rate", "0.4", stdin=TEXT.encode()).out.splitlines()
    result = json.loads(line)
    assert result["rate"] == pytest.approx(
        result["compressed_tokens"] / result["original_tokens"], abs=1e-4
    )
    (chunk,) = result["chunks"]
    assert chunk["keep"] == [prob > chunk["threshold"] for prob in chunk["probabilities"]]
    kept = [word for word, keep in zip(chunk["words"], chunk["keep"], strict=True) if keep]
    assert "".join(kept) == result["text"].replace(" ", "")


def test_original_spacing_keeps_lines(compress):
    """Where the stock package would write one line."""
    text = b"The council met.\n\n    The council met on Tuesday.\n" * 3
    folded = compress("--rate", "0.8", stdin=text).out
    kept = compress("--rate", "0.8", "--spacing", "original", stdin=text).out
    assert folded.count("\n") == 1 < kept.count("\n")
    assert "\n    " in kept
    assert "".join(kept.split()) == "".join(folded.split())


def test_nothing_in_is_nothing_out(compress):
    """Not even a model is loaded for it."""
    said = compress(stdin=b"", model="no-such-folder/compressor")
    assert (said.code, said.out, said.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt: expected a text file: No such file"),
        (["--rate", "0"], "--rate: expected a share of the tokens, above 0 and up to 1; got 0.0"),
        (["--rate", "1.5"], "--rate: expected a share of the tokens"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(compress, arguments, message):
    """No traceback, and nothing on stdout."""
    said = compress(*arguments, stdin=b"some text")
    assert (said.code, said.out) == (1, "")
    assert message in said.err
    assert "Traceback" not in said.err


def test_bytes_that_are_no_text_are_named(compress):
    """By their place, with a way out."""
    said = compress(stdin=b"caf\xe9 noir")
    assert said.code == 1
    assert "-: expected text in UTF-8, got byte 0xe9 at 3; convert it first" in said.err


def test_a_model_that_is_not_there_is_named(compress):
    """As everywhere in the trainer."""
    said = compress(stdin=b"some text", model="./nowhere")
    assert said.code == 1
    assert "nowhere" in said.err


def test_a_run_that_is_not_there_is_not_looked_for_on_the_hub(compress, tmp_path, monkeypatch):
    """`runs/x` is a name there too; where there are runs, it is told which."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo").mkdir(parents=True)
    said = compress(stdin=b"some text", model="runs/dmeo")
    assert (said.code, said.err) == (1, "--model: there is no folder runs/dmeo; runs has demo\n")


def test_a_run_brings_its_own_rate_and_options(compress, config_file, teacher_url, tmp_path):
    """The folder of a run is enough, also when it was moved; an unfinished one is refused."""
    from trainer.config_file import load_config

    config = load_config(config_file, ["hyperparams.force_tokens=[council]"])
    result = train_new(
        config, "run", teacher_url=teacher_url, runs=tmp_path, report=lambda _line: None
    )
    moved = Path(result.folder).rename(tmp_path / "moved")
    as_run = compress(stdin=TEXT.encode(), model=moved)
    assert as_run.code == 0, as_run.err
    model = moved / Path(result.model_path).relative_to(result.folder)
    spelt_out = compress(
        "--rate",
        config.hyperparams.compression_rate,
        "--force-token",
        "council",
        stdin=TEXT.encode(),
        model=model,
    )
    assert as_run.out == spelt_out.out
    assert "council" in as_run.out
    (moved / "result.json").unlink()
    unfinished = compress(stdin=TEXT.encode(), model=moved)
    assert "expected a finished run" in unfinished.err


def test_one_threshold_for_every_text(compress, ours):
    """Words above it are kept, whatever the rate; the JSON has both."""
    lines = compress("--json", "--threshold", "0.5", "--rate", "0.1", stdin=TEXT.encode()).out
    (chunk,) = json.loads(lines)["chunks"]
    assert chunk["threshold"] == 0.5
    assert chunk["keep"] == [probability > 0.5 for probability in chunk["probabilities"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--threshold", "much"), "expected auto, or a probability below 1; got much"),
        (("--threshold", "1"), "expected auto, or a probability below 1; got 1"),
        (("--threshold", "0.5", "--exact"), "choose one"),
        (("--threshold", "auto"), "train with evaluation.rate: threshold"),
    ],
)
def test_a_threshold_that_is_none(compress, arguments, expected):
    """One line tells what would be one."""
    said = compress(*arguments, stdin=TEXT.encode())
    assert said.code == 1
    assert expected in " ".join(said.err.split())


def test_a_run_deploys_by_the_threshold_that_it_was_calibrated_to(
    compress, meetings, base, teacher_url, tmp_path
):
    """`auto` takes the one that the run stored beside its compressor, at the run's own rate."""
    config = tiny_config(
        meetings, base, hyperparams={"epochs": 1}, evaluation={"rate": "threshold"}
    )
    told = []
    result = train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path, report=told.append)
    (stored,) = json.loads((Path(result.model_path) / "thresholds.json").read_text())["thresholds"]
    assert (stored["rate"], stored["texts"]) == (0.4, 12)
    assert stored["achieved_rate"] == pytest.approx(0.4, abs=0.02)
    assert any(
        line.startswith(f"threshold {stored['threshold']:.4f} for rate 0.4") for line in told
    )
    (line,) = compress(
        "--json", "--threshold", "auto", stdin=TEXT.encode(), model=result.folder
    ).out.splitlines()
    assert json.loads(line)["chunks"][0]["threshold"] == stored["threshold"]
