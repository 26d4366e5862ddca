"""What deploy/ ships: metrics that the service shows, units that systemd takes."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from teacher_service import Settings, create_app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> set[str]:
    """Every metric of a service with an upstream, labelled counters without a value yet too."""
    folder = tmp_path_factory.mktemp("metrics")
    settings = Settings.model_validate(
        {
            "backend": "openai",
            "openai": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
            "store": str(folder / "completions.sqlite"),
            "keys_file": str(folder / "none.json"),
        }
    )
    teacher = create_app(settings).state.teacher
    text = teacher.metrics.text().decode()
    teacher.store.close()
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for family in families for sample in family.samples}
    return samples | {f"{family.name}_total" for family in families if family.type == "counter"}


def metrics_in(expression: str) -> set[str]:
    """The names that a PromQL expression reads."""
    return set(re.findall(r"\btaco_\w+", expression))


def test_alert_rules_read_metrics_that_there_are(shown):
    """Each rule has a summary and reads something of ours, or `up`."""
    [group] = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        named = metrics_in(rule["expr"])
        assert named or 'up{job="taco"}' in rule["expr"]
        assert named <= shown, rule["alert"]


def test_the_dashboard_reads_metrics_that_there_are(shown):
    """Every panel; no two of them lie over each other."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    places = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            named = metrics_in(target["expr"])
            assert named, panel["title"]
            assert named <= shown, panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells


def test_prometheus_takes_the_rules():
    """By its own checker, where it is installed."""
    if not shutil.which("promtool"):
        assert os.environ.get("TACO_REQUIRE_PROMTOOL") != "1"
        pytest.skip("NO PROMTOOL: Debian's package `prometheus` has it")
    command = ["promtool", "check", "rules", str(DEPLOY / "alerts.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_units():
    """But for the programs, which are not installed here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("NO SYSTEMD: its checker is not installed")
    units = [str(unit) for unit in sorted(DEPLOY.glob("taco-*"))]
    assert len(units) == 3
    command = ["systemd-analyze", "verify", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert said == []


def test_the_unit_outlasts_the_services_own_stop():
    """Otherwise systemd kills what is still being stored."""
    unit = (DEPLOY / "taco-teacher.service").read_text()
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, flags=re.MULTILINE)
    assert int(stop) > Settings().stop_grace_s
