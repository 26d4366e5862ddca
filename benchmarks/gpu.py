"""What training and compressing take on a GPU, at the size of XLM-R-large; random weights.

forward_backward  one optimiser step of the bare compressor on chunks of full length: seconds,
                  pieces/s, memory at its highest, and the share of the GPU's peak (MFU, by
                  6 N + 12 layers * width * pieces operations a piece, forward and backward, N being
                  the weights but for embeddings; Chowdhery et al. 2022, appendix B), in float32, in
                  bf16, and in bf16 with gradient checkpointing. The peak is that of bf16 matrix
                  products as measured here; `share_of_data_sheet` takes the vendor's, if known.
training_step     a whole step of `taco train` on texts of 1,000 words and more, 8 masks each, all
                  completions stored: seconds by phase, and the share outside the model
compress          texts/s against stock `llmlingua` on the same GPU, as in benchmarks.compress

    make bench-gpu

One script, nothing to download. Without a GPU it says so and stops; `--cpu`, for a trial of a tiny
size, goes on.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.compress import load_stock, make_texts, measure
from benchmarks.results import publish, show
from benchmarks.workbench import (
    configure,
    make_long_examples,
    overhead_share,
    recording_service,
    seconds_by_phase,
)
from trainer.config_sections.learning import Compute
from trainer.learning.launch import train_new
from trainer.learning.trainable import adapt
from trainer.policy.compressor import PromptCompressorReinforce, word_keep_probs
from trainer.policy.fresh import make_fresh_compressor
from trainer.policy.words import CompressionOptions
from trainer.tasks.meetings import generate_meetings

XLM_R_LARGE = {"layers": 24, "hidden": 1024, "heads": 16}
VOCABULARY = 250_002
DATA_SHEETS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bf16 operations a second, of the SXM form where there are several."""
WAYS = {
    "fp32": Compute(),
    "bf16": Compute(precision="bf16"),
    "bf16, checkpointing": Compute(precision="bf16", gradient_checkpointing=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all three, and publish."""
    options = _arguments(arguments)
    if not (torch.cuda.is_available() or options.cpu):
        sys.exit("no GPU here: this benchmark measures one. For a trial on the CPU: --cpu --tiny")
    device = "cpu" if options.cpu else "cuda"
    if options.cpu:
        torch.set_num_threads(1)
    texts = [str(meeting["original_prompt"]) for meeting in generate_meetings(300, 0, "train")]
    size = {"layers": options.layers, "hidden": options.hidden, "heads": options.heads}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = make_fresh_compressor(folder / "base", texts, **size)
        peak = _matrix_peak(device, options.matrix)
        steps = {way: _step(path, device, options, peak, WAYS[way]) for way in WAYS}
        training = _training(folder, path, options)
        compression = _compression(path, device, options)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    _show(name, steps, training, compression)
    sheet = next((flops for part, flops in DATA_SHEETS.items() if part in name), None)
    if sheet:
        for step in steps.values():
            step["share_of_data_sheet"] = round(step["flops"] / sheet, 3)
    publish(
        "gpu" if device == "cuda" else "gpu-trial",
        {
            "device": name,
            "bf16_peak_tflops": round(peak / 1e12, 1),
            "forward_backward": steps,
            "training_step": training,
            "compress": compression,
        },
    )


def _matrix_peak(device: str, width: int) -> float:
    """Operations a second of the best of some large bf16 matrix products."""
    left, right = (torch.randn(width, width, device=device).bfloat16() for _ in range(2))
    best = 0.0
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        left @ right
        _wait(device)
        best = max(best, 2 * width**3 / (time.perf_counter() - start))
    return best


def _step(
    path: Path, device: str, options: argparse.Namespace, peak: float, compute: Compute
) -> dict[str, Any]:
    """Optimiser steps on chunks of `options.pieces` pieces each."""
    compressor = PromptCompressorReinforce(str(path), device, length_tokenizer="policy")
    model = compressor.model
    # The optimiser passes over all embeddings, so there must be as many as in the real one.
    model.resize_token_embeddings(options.vocabulary, mean_resizing=False)
    adapt(model, compute, seed=0)
    chunks = _full_chunks(compressor, options.batch, options.pieces)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def once() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bf16"):
            prob, _ = word_keep_probs(model, chunks, 0, device)
        optimizer.zero_grad()
        prob.log1p().sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(options.warm_up):
        once()
    _wait(device)
    start = time.perf_counter()
    for _ in range(options.steps):
        once()
    _wait(device)
    seconds = (time.perf_counter() - start) / options.steps
    pieces = sum(len(chunk.piece_ids) for chunk in chunks)
    flops = pieces * _operations_a_piece(model, options.pieces) / seconds
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {
        "seconds": round(seconds, 4),
        "pieces_per_second": round(pieces / seconds),
        "flops": flops,
        "mfu": round(flops / peak, 3),
        "memory_gib": round(memory / 2**30, 2),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _operations_a_piece(model: Any, pieces: int) -> int:
    """Of forward and backward pass; what checkpointing computes again does not count."""
    embeddings = model.base_model.embeddings
    weights = sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in embeddings.parameters()
    )
    config = model.config
    return int(6 * weights + 12 * config.num_hidden_layers * config.hidden_size * pieces)


def _full_chunks(compressor: PromptCompressorReinforce, count: int, pieces: int) -> list[Any]:
    """Chunks of meetings, each of nearly so many pieces."""
    text = " ".join(str(each["original_prompt"]) for each in generate_meetings(60, 1, "train"))
    segmenter = compressor.segmenter(CompressionOptions(), pieces)
    chunks = segmenter.segment([text]).chunks[:-1]  # The last one is what was left over.
    return [chunks[index % len(chunks)] for index in range(count)]


def _training(folder: Path, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Steps of a whole run on long texts, the second time from the store."""
    data, warm_up = folder / "long.json", options.warm_up
    count = options.examples * (warm_up + options.steps)
    with recording_service(folder) as url:
        make_long_examples(data, count, 0, "train", url)
        config = configure(
            data={"train_file_path": str(data), "val_file_path": None},
            model={"model_load_path": str(path)},
            evaluation={"val_share": 0.0},
            hyperparams={"train_batch_size": options.examples, "policy_lr": 1e-6},
            device={"use_cuda": not options.cpu, "device_map": "auto"},
            compute={"precision": "bf16"},
        )
        for name in ("fill", "cached"):
            result = train_new(
                config, name, teacher_url=url, runs=folder / "runs", report=lambda _: None
            )
    seconds = seconds_by_phase(Path(result.folder) / config.logging.log_dir, warm_up=warm_up)
    return {
        "seconds": round(sum(seconds.values()), 4),
        "overhead_share": round(overhead_share(seconds), 4),
        "by_phase": {phase: round(value, 4) for phase, value in seconds.items()},
    }


def _compression(path: Path, device: str, options: argparse.Namespace) -> dict[str, Any]:
    ours = PromptCompressorReinforce(str(path), device, length_tokenizer="policy")
    stock = load_stock(path, ours, device)
    speeds = {}
    for tokens, count in options.texts.items():
        speed = measure(ours, stock, make_texts(ours, tokens, count), options.turns)
        speeds[str(tokens)] = {
            "texts_per_second": round(speed.ours, 2),
            "stock": round(max(speed.stock, speed.stock_one_by_one), 2),
            "speedup": round(speed.speedup, 2),
            "differing": speed.differing,
        }
    return speeds


def _show(
    name: str, steps: dict[str, Any], training: dict[str, Any], compression: dict[str, Any]
) -> None:
    show(
        f"{name}: an optimiser step on full chunks",
        ("computed in", "s", "pieces/s", "TFLOP/s", "of the peak", "GiB"),
        [
            (
                way,
                f"{step['seconds']:.3f}",
                f"{step['pieces_per_second']:,}",
                f"{step['flops'] / 1e12:.1f}",
                f"{step['mfu']:.0%}",
                f"{step['memory_gib']:.1f}",
            )
            for way, step in steps.items()
        ],
    )
    show(
        f"A training step from the store: {training['seconds']:.3f} s",
        ("phase", "s"),
        [(phase, f"{seconds:.4f}") for phase, seconds in training["by_phase"].items()],
    )
    show(
        "Compression, texts/s",
        ("tokens", "ours", "stock", "speedup"),
        [
            (tokens, f"{each['texts_per_second']}", f"{each['stock']}", f"{each['speedup']}x")
            for tokens, each in compression.items()
        ],
    )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training and compression on a GPU")
    parser.add_argument("--cpu", action="store_true", help="go on without a GPU")
    parser.add_argument("--tiny", action="store_true", help="a trial: one layer, few and short")
    parser.add_argument("--batch", type=int, default=32, help="chunks in an optimiser step")
    parser.add_argument("--steps", type=int, default=10, help="that are measured")
    options = parser.parse_args(arguments)
    sizes: dict[str, Any] = {
        **XLM_R_LARGE,
        "vocabulary": VOCABULARY,
        "pieces": 512,
        "warm_up": 3,
        "examples": 8,
        "matrix": 8192,
        "turns": 5,
        "texts": {50: 64, 500: 32, 5000: 8},
    }
    if options.tiny:
        sizes |= {"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 3000, "pieces": 64}
        sizes |= {"examples": 1, "warm_up": 1, "matrix": 256, "turns": 1, "texts": {50: 2}}
    return argparse.Namespace(**vars(options), **sizes)


if __name__ == "__main__":
    main()
