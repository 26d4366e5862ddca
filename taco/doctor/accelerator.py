"""torch, and the GPU that a config asks for: is it there, can this torch use it?"""

from dataclasses import dataclass
from typing import Any

from taco.doctor.findings import Finding, ok, warning, wrong
from taco.doctor.probes import ProbeFailed, probe
from trainer.config import Config

_GB = 1e9
_ANOTHER_BUILD = "install another build of torch (`make clean`, then `make install TORCH={build}`)"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One that torch sees."""

    name: str
    free: int
    """Bytes, as `total`."""
    total: int
    capability: tuple[int, int]
    """Of its instructions: (9, 0) for an H100."""


@dataclass(frozen=True, slots=True)
class Torch:
    """What torch says of itself and of the GPUs."""

    version: str
    cuda: str | None = None
    """The CUDA that it was built for; None for a CPU build."""
    gpus: tuple[Gpu, ...] = ()
    built_for: tuple[str, ...] = ()
    """The GPUs that it has code for: `sm_90` runs on 9.0 and later 9.x, `compute_90` on all from
    9.0 on."""
    complaint: str = ""
    """Why it sees no GPU, in its own words, where it said so."""
    driver: str = ""
    """Version of the NVIDIA driver of this machine; '': there is none."""

    @classmethod
    def parse(cls, found: dict[str, Any]) -> "Torch":
        """From what `probes.look_at_torch` gives."""
        gpus = tuple(
            Gpu(one["name"], one["free"], one["total"], tuple(one["capability"]))
            for one in found["gpus"]
        )
        return cls(**{**found, "gpus": gpus, "built_for": tuple(found["built_for"])})

    def has_code_for(self, gpu: Gpu) -> bool:
        """Whether this build runs on that GPU."""
        major, minor = gpu.capability
        for architecture in self.built_for:
            kind, _, number = architecture.partition("_")
            digits = number.rstrip("af")  # sm_90a: with what that one GPU alone has.
            theirs = (int(digits[:-1]), int(digits[-1]))
            if kind == "compute" and theirs <= gpu.capability:
                return True
            if theirs[0] == major and theirs[1] <= minor:
                return True
        return not self.built_for  # It did not say.


def probe_torch(seconds: float) -> Torch | Finding:
    """Import torch in another process; a finding where that fails."""
    try:
        return Torch.parse(probe(["torch"], seconds))
    except ProbeFailed as error:
        return wrong(
            "torch",
            f"cannot be imported: {error}",
            "`make install`, or pip install 'taco-rewards[train]' with the torch that fits here",
        )


def wants_gpu(config: Config | None) -> bool:
    """Whether a run of this config would take a GPU."""
    return bool(config and config.device.use_cuda and config.device.device_map != "cpu")


def chosen_gpu(torch: Torch, config: Config | None) -> Gpu | None:
    """On which the run would train, alone; None: on the CPU."""
    if config is None or not wants_gpu(config) or not torch.gpus:
        return None
    number = int(config.device.device_map.partition(":")[2] or 0)
    return torch.gpus[number] if number < len(torch.gpus) else None


def check_torch(torch: Torch, config: Config | None) -> list[Finding]:
    """Which torch there is, and whether it has the GPU that the config asks for."""
    built = f"for CUDA {torch.cuda}" if torch.cuda else "for the CPU"
    said = f"{torch.version} {built}"
    if torch.gpus:
        names = ", ".join(f"{gpu.name} ({gpu.total / _GB:.0f} GB)" for gpu in torch.gpus)
        return [ok("torch", f"{said}; {names}"), *_check_gpu(torch, config)]
    if not wants_gpu(config):
        return [ok("torch", said)]
    return [
        warning(
            "torch",
            f"{said} sees no GPU, and the config asks for one (device.use_cuda): it would train on "
            f"the CPU{f'. torch says: {torch.complaint}' if torch.complaint else ''}",
            _advice_without_gpu(torch),
        ),
        *_check_precision(config, None),
    ]


def _advice_without_gpu(torch: Torch) -> str:
    if torch.cuda is None and torch.driver:
        another = _ANOTHER_BUILD.format(build="cuda")
        return f"this is a CPU build, and there is an NVIDIA driver {torch.driver}: {another}"
    if torch.driver:
        return (
            f"NVIDIA driver {torch.driver} and CUDA {torch.cuda} may not fit: update the driver, "
            "or install torch for the CUDA that `nvidia-smi` names, or an older one; "
            "CUDA_VISIBLE_DEVICES hides GPUs too"
        )
    return (
        "there is no NVIDIA driver either: go where there is a GPU (a container needs `--gpus all`"
        "), or set device.use_cuda=false"
    )


def _check_gpu(torch: Torch, config: Config | None) -> list[Finding]:
    """Whether the run can compute on the GPU that it would take."""
    if config is None or not wants_gpu(config):
        return []
    gpu = chosen_gpu(torch, config)
    if gpu is None:
        asked, last = config.device.device_map, len(torch.gpus) - 1
        return [wrong("gpu", f"there is no {asked}", f"set device.device_map to cuda:0 … {last}")]
    if not torch.has_code_for(gpu):
        capability = ".".join(map(str, gpu.capability))
        known = ", ".join(torch.built_for)
        return [
            wrong(
                "gpu",
                f"{gpu.name} has compute capability {capability}, and this torch has code for "
                f"{known} alone",
                "install a torch whose CUDA is made for it, or set device.use_cuda=false",
            )
        ]
    return _check_precision(config, gpu)


def _check_precision(config: Config | None, gpu: Gpu | None) -> list[Finding]:
    precision = config.compute.precision if config else "fp32"
    if precision == "fp16" and gpu is None:
        advice = "set compute.precision: bf16, which the CPU has too"
        return [wrong("gpu", "compute.precision: fp16 needs one", advice)]
    if precision == "bf16" and gpu and gpu.capability < (8, 0):
        said = f"{gpu.name} has no bf16 of its own (it came with compute capability 8.0): slow"
        return [warning("gpu", said, "set compute.precision: fp16")]
    return []
