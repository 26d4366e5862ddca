"""Folders of runs that never were: written by hand, for those that only read them."""

import json
import math
from pathlib import Path
from typing import Any

HOSTILE = "<script>alert(1)</script> \u202egnorts\u202c \x1b[31mred\x1b[0m \x00 ]]> $x_$ &amp;"
"""What a page or a terminal might obey."""


def write_run(folder: Path, steps: int = 40, **config: dict[str, Any]) -> Path:
    """A finished run of so many steps, with a validation at its end."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    sections = {
        "logging": {"log_dir": "logs"},
        "hyperparams": {"compression_rate": 0.3, "target_token": -1},
        "policy": {"rates": []},
        **config,
    }
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "config": sections}))
    (folder / "result.json").write_text(json.dumps({"model_path": "gone", "folder": "gone"}))
    lines = [json.dumps(metrics(step, steps)) for step in range(1, steps + 1)]
    (logs / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rewards = "Train/Val,Epoch,Step,Rewards,Comp Ratio\n"
    (logs / "rewards_logs_updated.csv").write_text(f"{rewards}ValR,1,{steps},0.75,3.3\n")
    return folder


def metrics(step: int, steps: int) -> dict[str, Any]:
    """A step of a run that learns."""
    progress = step / steps
    return {
        "phase": "train",
        "step": step,
        "reward/mean": 0.2 + 0.5 * progress + 0.05 * math.sin(step),
        "reward/scored": 0.25 + 0.5 * progress,
        "reward/zero_variance_groups": 0.1 * progress,
        "rate/achieved": 0.3 + 0.01 * math.cos(step),
        "outcome/scored": 0.9,
        "outcome/out_of_range": 0.1,
        "outcome/refused": 0.0,
        "outcome/failed": 0.0,
        "teacher/calls": 24,
        "teacher/hit": 6,
        "teacher/miss": 17,
        "teacher/collapsed": 1,
        "loss/policy": 0.1,
        "loss/lr": 1e-3,
        "loss/grad_norm": 1.5 + math.sin(7 * step),
        "advantage/scale": 0.05,
        "policy/entropy_per_word": 0.5 - 0.3 * progress,
        "policy/kl_to_start": 0.0,
        "seconds/forward": 0.02,
        "seconds/teacher": 0.05,
    }
