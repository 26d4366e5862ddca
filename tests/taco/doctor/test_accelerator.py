"""torch, GPU and memory against a config, by what torch would say on machines that are not here."""

from dataclasses import replace
from pathlib import Path

import pytest

from taco.doctor.accelerator import Gpu, Torch, check_torch, chosen_gpu, probe_torch
from taco.doctor.findings import Finding
from taco.doctor.memory import Shape, activation_bytes, available_memory, check_memory, need_of
from taco.doctor.probes import nvidia_driver
from trainer.config_file import load_config

CONFIG = Path(__file__).parents[3] / "configs/train_reinforce.yaml"
H100 = Gpu("H100", free=79 * 10**9, total=85 * 10**9, capability=(9, 0))
T4 = Gpu("T4", free=15 * 10**9, total=16 * 10**9, capability=(7, 5))
BUILT_FOR = ("sm_75", "sm_80", "sm_86", "sm_90")
CUDA = Torch("2.13.0+cu130", "13.0", (H100,), BUILT_FOR, driver="580.65.06")
LARGE = Shape(parameters=560_000_000, layers=24, hidden=1024, heads=16, vocabulary=250_002)
"""XLM-R-large: the gigabytes below are by hand, from it."""


@pytest.fixture
def config():
    """The reference's file, which asks for a GPU, with other settings."""

    def load(*overrides: str):
        return load_config(CONFIG, overrides)

    return load


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    """Of what, and how bad it is."""
    return [(each.what, each.state) for each in findings]


def test_a_gpu_that_fits_is_named(config):
    """With its memory."""
    [found] = check_torch(CUDA, config())
    assert (found.state, found.said) == ("ok", "2.13.0+cu130 for CUDA 13.0; H100 (85 GB)")


@pytest.mark.parametrize(
    ("torch", "advice"),
    [
        (Torch("2.13.0+cpu", driver="580.65.06"), "this is a CPU build, and there is an NVIDIA"),
        (Torch("2.13.0+cu130", "13.0", driver="470.82"), "driver 470.82 and CUDA 13.0 may not fit"),
        (Torch("2.13.0+cu130", "13.0"), "there is no NVIDIA driver either"),
        (Torch("2.13.0+cpu"), "there is no NVIDIA driver either"),
    ],
)
def test_a_gpu_that_is_asked_for_and_not_there(config, torch, advice):
    """A warning, for training would go on; what to do depends on what is missing."""
    [found] = check_torch(torch, config())
    assert (found.state, found.what) == ("warning", "torch")
    assert "it would train on the CPU" in found.said
    assert advice in found.advice
    for content in ("device.use_cuda=false", "device.device_map=cpu"):
        assert said(check_torch(torch, config(content))) == [("torch", "ok")]
    assert said(check_torch(torch, None)) == [("torch", "ok")]


def test_what_torch_says_of_its_trouble_is_passed_on(config):
    """It knows best why it sees none."""
    old = "The NVIDIA driver on your system is too old (found version 11040)."
    [found] = check_torch(Torch("2.13.0+cu130", "13.0", complaint=old, driver="470.82"), config())
    assert f"torch says: {old}" in found.said


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), BUILT_FOR, True),
        ((8, 9), BUILT_FOR, True),  # By sm_86.
        ((7, 0), BUILT_FOR, False),
        ((12, 0), BUILT_FOR, False),
        ((12, 0), (*BUILT_FOR, "compute_90"), True),  # Compiled when it is first used.
        ((7, 5), ("sm_80", "compute_80"), False),
        ((10, 3), ("sm_100", "sm_120"), True),
        ((9, 0), ("sm_90a",), True),
        ((9, 0), (), True),  # It did not say.
    ],
)
def test_a_build_without_code_for_the_gpu_is_wrong(config, capability, built_for, runs):
    """It would be found by the first step: `no kernel image is available`."""
    torch = replace(CUDA, gpus=(replace(H100, capability=capability),), built_for=built_for)
    expected = [("torch", "ok")] + ([] if runs else [("gpu", "wrong")])
    assert said(check_torch(torch, config())) == expected


def test_a_gpu_of_a_number_that_is_not_there(config):
    """cuda:1 is the second."""
    torch = replace(CUDA, gpus=(H100, T4))
    assert chosen_gpu(torch, config()) == H100
    assert chosen_gpu(torch, config("device.device_map=cuda:1")) == T4
    assert chosen_gpu(torch, config("device.device_map=cpu")) is None
    wrong = check_torch(torch, config("device.device_map=cuda:2"))[1]
    assert (wrong.state, wrong.said) == ("wrong", "there is no cuda:2")
    assert wrong.advice == "set device.device_map to cuda:0 … 1"


def test_a_precision_that_is_not_to_be_had(config):
    """fp16 without a GPU stops a run; bf16 on an old GPU is slow."""
    [_, wrong] = check_torch(Torch("2.13.0+cpu"), config("compute.precision=fp16"))
    assert (wrong.what, wrong.state) == ("gpu", "wrong")
    on_old = check_torch(replace(CUDA, gpus=(T4,)), config("compute.precision=bf16"))
    assert said(on_old) == [("torch", "ok"), ("gpu", "warning")]
    for setting in ("compute.precision=bf16", "compute.precision=fp16"):
        assert said(check_torch(CUDA, config(setting))) == [("torch", "ok")]


@pytest.mark.parametrize(
    ("overrides", "weights", "states"),
    [
        ((), 2.24, 6.72),
        (("policy.kl_coeff=0.1",), 4.48, 6.72),  # And the policy that it started as.
        (("compute.precision=bf16",), 3.36, 6.72),
        (("compute.freeze_embeddings=true",), 2.24, 3.648),  # Less 256 million.
        (("compute.frozen_layers=12",), 2.24, 4.896),  # Less half of 304 million.
        (("compute.lora_rank=8",), 2.24, 0.028),
    ],
)
def test_what_training_needs_depends_on_what_is_trained(config, overrides, weights, states):
    """In gigabytes."""
    need = need_of(LARGE, config(*overrides))
    assert need.weights / 1e9 == pytest.approx(weights, rel=1e-3)
    assert need.states / 1e9 == pytest.approx(states, rel=0.02)


def test_activations_are_those_of_a_micro_batch(config):
    """By Korthikanti's formula; half in 16 bits, and a layer's with what goes into the others."""
    assert activation_bytes(Shape(0, 2, 4, 2, 9), chunks=3, pieces=8) == (
        2 * 2 * 8 * 3 * 4 * (34 + 5 * 2 * 8 // 4)
    )
    whole = need_of(LARGE, config("compute.micro_batch_size=4")).activations
    assert whole == 2 * 24 * 512 * 4 * 1024 * (34 + 5 * 16 * 512 // 1024)
    halved = need_of(LARGE, config("compute.micro_batch_size=4", "compute.precision=bf16"))
    assert halved.activations == whole // 2
    again = config("compute.micro_batch_size=4", "compute.gradient_checkpointing=true")
    assert need_of(LARGE, again).activations == whole // 24 + 4 * 24 * 4 * 512 * 1024


@pytest.mark.parametrize(
    ("free_gb", "state", "part"),
    [
        (60, "ok", "60.0 GB free (H100), training takes about"),
        (12, "warning", "micro-batches would be made smaller until they fit"),
        (8, "wrong", "9.0 GB of it before the first example"),
    ],
)
def test_memory_is_held_against_the_need(config, free_gb, state, part):
    """Activations can be fewer at a time; weights and moments cannot."""
    gpu = replace(H100, free=free_gb * 10**9)
    found = check_memory(LARGE, gpu, config("compute.micro_batch_size=8"))
    assert (found.state, part in found.said) == (state, True), found.said


def test_without_a_gpu_it_is_the_machines_memory(config):
    """As a process may still take; a compressor that is not here yet has no size."""
    assert check_memory(None, None, config()).state == "ok"
    huge = replace(LARGE, parameters=available_memory())
    assert check_memory(huge, None, config()).state == "wrong"
    assert "(CPU)" in check_memory(LARGE, None, config()).said


def test_the_torch_that_is_here_is_looked_at():
    """In another process; what it finds is what the checks are made for."""
    found = probe_torch(60)
    assert isinstance(found, Torch)
    assert found.version
    assert (found.complaint, bool(found.gpus)) in {("", True), ("", False)}


def test_a_drivers_version_is_read_where_its_module_tells_it(tmp_path):
    """The second number on the first line is not its version."""
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
        "GCC version:  gcc version 12.2.0\n"
    )
    assert nvidia_driver(file) == "580.65.06"
    assert nvidia_driver(tmp_path / "none") == ""


def test_a_torch_that_cannot_be_imported_is_said_in_its_own_words(tmp_path, monkeypatch):
    """Here by one that stands before the real one on the path."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe_torch(60)
    assert found.state == "wrong"
    assert "libcudart.so.12: cannot open" in found.said


def test_a_torch_that_hangs_is_given_up(tmp_path, monkeypatch):
    """As a driver in trouble makes it."""
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "not done after 1 s" in probe_torch(1).said
