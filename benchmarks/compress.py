"""Speed of compression: texts a second against stock `llmlingua`, on the CPU.

Both get the same compressor (random weights), the same length tokenizer (cl100k_base where tiktoken
has it), torch's own number of threads and the same texts of 50, 500 and 5,000 tokens, in turns
within one run; speeds are medians over the turns. Stock `llmlingua`
is called in the faster of its two ways, with all texts as contexts of one call, or with one call
a text; ours is `compress_many`.

identical  every text equals stock's; where two words lie within 1e-6 of the cut, padding alone may
           decide, and such texts are counted apart (`in_band`)

    python -m benchmarks.compress --layers 12 --hidden 768 --heads 12 --name compress-base

measures at another size than the demo's compressor.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from llmlingua import PromptCompressor

from benchmarks.results import publish, show
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.fresh import make_fresh_compressor
from trainer.policy.inference import Compression, compress_many
from trainer.policy.isolation import global_state_kept, quiet_transformers, tiktoken_left_alone
from trainer.policy.words import CompressionOptions
from trainer.tasks.meetings import generate_meetings

SIZES = {50: 64, 500: 16, 5000: 2}
"""Tokens of a text: how many texts a turn compresses."""
RATE = 0.5
BAND = 1e-6
OPTIONS = CompressionOptions()


@dataclass(frozen=True, slots=True)
class Speeds:
    """Texts a second, and whether the texts are stock's."""

    ours: float
    stock: float
    stock_one_by_one: float
    differing: int
    in_band: int
    """Of the differing texts, those that rounding alone decided."""

    @property
    def speedup(self) -> float:
        """Against the faster of stock's two ways."""
        return self.ours / max(self.stock, self.stock_one_by_one)


def main() -> None:
    """Measure each size in turns, and publish the ratios."""
    arguments = _arguments()
    vocabulary_texts = [
        str(meeting["original_prompt"]) for meeting in generate_meetings(300, 0, "train")
    ]
    with tempfile.TemporaryDirectory() as scratch:
        path = make_fresh_compressor(
            Path(scratch),
            vocabulary_texts,
            layers=arguments.layers,
            hidden=arguments.hidden,
            heads=arguments.heads,
        )
        ours = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="auto")
        stock = load_stock(path, ours)
    speeds = {
        tokens: measure(ours, stock, make_texts(ours, tokens, count), arguments.turns)
        for tokens, count in SIZES.items()
    }
    show(
        f"Compression, {sum(p.numel() for p in ours.model.parameters()) / 1e6:.1f}M parameters",
        ("tokens", "ours, texts/s", "stock, one call", "stock, a call a text", "speedup", "differ"),
        [
            (
                str(tokens),
                f"{speed.ours:.1f}",
                f"{speed.stock:.1f}",
                f"{speed.stock_one_by_one:.1f}",
                f"{speed.speedup:.2f}x",
                f"{speed.differing} ({speed.in_band} in the band)",
            )
            for tokens, speed in speeds.items()
        ],
    )
    figures: dict[str, object] = {
        f"speedup_{tokens}": round(speed.speedup, 2) for tokens, speed in speeds.items()
    }
    figures |= {
        "identical": all(speed.differing == speed.in_band for speed in speeds.values()),
        "in_band": sum(speed.in_band for speed in speeds.values()),
        "length_tokenizer": ours.length_tokenizer.name,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in ours.model.parameters()),
        "texts_per_second": {
            tokens: {"ours": round(speed.ours, 2), "stock": round(speed.stock, 2)}
            for tokens, speed in speeds.items()
        },
    }
    publish(arguments.name, figures)


def measure(
    ours: PromptCompressorReinforce, stock: PromptCompressor, texts: list[str], turns: int
) -> Speeds:
    """Let both compress the texts, in turns, and compare what they made of them."""

    def our_texts() -> list[str]:
        return [result.text for result in compress_all(ours, texts)]

    def stock_texts() -> list[str]:
        done = stock.compress_prompt_llmlingua2(list(texts), rate=RATE)
        return list(done["compressed_prompt_list"])

    def stock_one_by_one() -> list[str]:
        return [
            stock.compress_prompt_llmlingua2([text], rate=RATE)["compressed_prompt"]
            for text in texts
        ]

    ways = (our_texts, stock_texts, stock_one_by_one)
    first = [way() for way in ways]  # Warms up, too.
    seconds = [[_seconds(way) for way in ways] for _ in range(turns)]
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    results = compress_all(ours, texts)
    differing = [
        result for result, text in zip(results, first[1], strict=True) if result.text != text
    ]
    of_ours, of_stock, of_stock_one_by_one = (len(texts) / median for median in medians)
    return Speeds(
        of_ours,
        of_stock,
        of_stock_one_by_one,
        differing=len(differing),
        in_band=sum(map(near_the_cut, differing)),
    )


def compress_all(ours: PromptCompressorReinforce, texts: list[str]) -> list[Compression]:
    """Each text as a prompt of its own."""
    return compress_many(ours, [[text] for text in texts], OPTIONS, Target(RATE))


def near_the_cut(result: Compression) -> bool:
    """Whether some word lies so near its chunk's cut that rounding may decide."""
    return any(
        cut.threshold is not None
        and cut.probabilities is not None
        and bool((abs(cut.probabilities - cut.threshold) < BAND).sum() > 1)
        for cut in result.cuts
    )


def make_texts(ours: PromptCompressorReinforce, tokens: int, count: int) -> list[str]:
    """Running text of meetings, cut after so many tokens."""
    words = _running_words()
    texts = []
    for _ in range(count):
        text: list[str] = []
        length = 0
        while length < tokens:
            text.append(next(words))
            length += ours.length_tokenizer.count(text[-1])
        texts.append(" ".join(text))
    return texts


def load_stock(
    path: Path, ours: PromptCompressorReinforce, device: str = "cpu"
) -> PromptCompressor:
    """The same compressor in the stock package, which counts lengths as ours does."""
    with tiktoken_left_alone(), quiet_transformers(), global_state_kept():
        stock = PromptCompressor(
            str(path), device_map=device, model_config={}, use_llmlingua2=True, llmlingua2_config={}
        )
    stock.oai_tokenizer = ours.length_tokenizer
    return stock


def _running_words() -> Iterator[str]:
    for seed in itertools.count():
        for meeting in generate_meetings(100, seed, "test"):
            yield from str(meeting["original_prompt"]).split()


def _seconds(way: Callable[[], list[str]]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of compression against stock llmlingua")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--name", default="compress", help="of the results file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
