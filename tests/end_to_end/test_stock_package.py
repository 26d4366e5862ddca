"""A trained compressor in the stock package, from the path that the trainer prints."""

import json
from pathlib import Path

import pytest

from tests.tiny_models import MAKERS, load_stock
from tests.tiny_runs import write_meetings
from trainer.config import Config
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.families import FAMILIES
from trainer.policy.inference import compress
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples

FORCED = ("\n", "?", "project")


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, document, teacher_url, meetings, tmp_path_factory):
    """The path of a compressor that was trained with forced tokens, for each family."""
    folder = tmp_path_factory.mktemp("trained")
    texts = [example.original_prompt for example in load_examples(meetings)]
    base = MAKERS[request.param](folder / "base", texts)
    config = Config.model_validate(
        document(
            model={"model_load_path": str(base), "trained_model_output_dir_hf": "my model"},
            hyperparams={
                "epochs": 1,
                "force_tokens": list(FORCED),
                "drop_consecutive": True,
                "force_reserve_digit": True,
            },
        )
    )
    result = train_new(
        config, "trial", teacher_url=teacher_url, runs=folder / "runs", report=lambda _: None
    )
    outcomes = {
        json.loads(line)["outcome"]
        for line in Path(result.folder, "logs/rollouts.jsonl").read_text().splitlines()
    }
    assert "scored" in outcomes
    return Path(result.model_path)


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("chunks", [1, 3])
def test_the_stock_package_makes_our_texts(trained, tmp_path, rate, chunks):
    """Word for word, on unseen meetings, of one chunk and of several, with what is forced."""
    unseen = write_meetings(tmp_path / "unseen.json", 24, seed=77)
    texts = [example.original_prompt for example in load_examples(unseen)]
    size = 12 if chunks > 1 else 1
    prompts = ["\n".join(texts[start : start + size]) for start in range(0, len(texts), size)]
    ours = PromptCompressorReinforce(str(trained), "cpu", length_tokenizer="policy")
    stock = load_stock(trained, ours.length_tokenizer)
    options = CompressionOptions(FORCED, force_reserve_digit=True, drop_consecutive=True)
    assert (len(ours.segmenter(options).segment([prompts[0]]).chunks) > 1) == (chunks > 1)
    for prompt in prompts[:4]:
        theirs = stock.compress_prompt_llmlingua2(
            [prompt],
            rate=rate,
            force_tokens=list(FORCED),
            force_reserve_digit=True,
            drop_consecutive=True,
        )
        text = theirs["compressed_prompt"]
        assert text == compress(ours, [prompt], options, rate=rate).text
        assert 0 < len(text) < len(prompt)
