"""More arguments of vLLM's: which of them define the teacher.

All do but those that are known to decide no more than where, how fast and for how long a prompt it
computes. An argument that nobody thought of (a quantisation, an override of the model's config)
makes a new teacher, at the worst one too many; left out of the key, it would make wrong answers.
"""

from collections.abc import Sequence

_PARALLEL = {
    "--data-parallel-size",
    "--pipeline-parallel-size",
    "--tensor-parallel-size",
    "-dp",
    "-pp",
    "-tp",
}
_HARMLESS = _PARALLEL | {
    "--api-key",
    "--api-server-count",
    "--async-scheduling",
    "--block-size",
    "--disable-log-requests",
    "--disable-log-stats",
    "--distributed-executor-backend",
    "--download-dir",
    "--enable-chunked-prefill",
    "--enable-log-requests",
    "--enable-prefix-caching",
    "--enforce-eager",
    "--gpu-memory-utilization",
    "--hf-token",
    "--load-format",
    "--max-cpu-loras",
    "--max-model-len",
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--max-parallel-loading-workers",
    "--no-async-scheduling",
    "--no-enable-chunked-prefill",
    "--no-enable-prefix-caching",
    "--num-gpu-blocks-override",
    "--swap-space",
    "--uvicorn-log-level",
}


def defining_arguments(arguments: Sequence[str]) -> list[list[str]]:
    """Those that count, each with its values; in one order, however they were given."""
    return sorted(group for group in _groups(arguments) if group[0] not in _HARMLESS)


def parallel_arguments(arguments: Sequence[str]) -> list[list[str]]:
    """Those that say over how many devices a model is spread."""
    return sorted(group for group in _groups(arguments) if group[0] in _PARALLEL)


def _groups(arguments: Sequence[str]) -> list[list[str]]:
    """Each flag with its values."""
    groups: list[list[str]] = []
    for word in arguments:
        if word.startswith("-") and not word[1:2].isdigit():
            name, equals, value = word.partition("=")
            groups.append([name.replace("_", "-"), *[value] * bool(equals)])
        elif groups:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups
