from pathlib import Path

import pytest
import yaml

from teacher_service import Settings, SettingsError, load_settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "teacher").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Write a settings file."""

    def write_it(text: str) -> Path:
        path = tmp_path / "teacher.yaml"
        path.write_text(text)
        return path

    return write_it


def test_every_shipped_config_loads():
    """And every backend has one."""
    backends = [load_settings(path).backend for path in CONFIGS]
    assert backends == ["azure", "builtin", "openai", "transformers", "vllm", "vllm"]


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.stem != "vllm_7b"], ids=lambda path: path.stem
)
def test_shipped_configs_state_the_defaults(path):
    """What a file shows is what happens without it, but for what makes it that file."""
    shown = load_settings(path).model_dump(exclude={"backend", "served_models"})
    assert shown == Settings().model_dump(exclude={"backend", "served_models"})


def test_one_line_swaps_the_teacher(write):
    """Both sections may stand in one file; `backend` chooses."""
    text = "builtin: {latency_ms: 5}\nopenai: {model: m}\nbackend: "
    assert load_settings(write(text + "builtin")).backend == "builtin"
    assert load_settings(write(text + "openai")).backend == "openai"


def test_overrides_win_over_the_environment_and_that_over_the_file(write, monkeypatch):
    """Sections are merged, not replaced."""
    path = write("port: 1\nopenai: {model: from-file, provider: from-file, max_concurrency: 1}")
    monkeypatch.setenv("TACO_SERVICE__OPENAI__PROVIDER", "from-environment")
    monkeypatch.setenv("TACO_SERVICE__OPENAI__MAX_CONCURRENCY", "2")
    settings = load_settings(path, {"openai": {"max_concurrency": 3}})
    assert settings.port == 1
    assert settings.openai.model == "from-file"
    assert settings.openai.provider == "from-environment"
    assert settings.openai.max_concurrency == 3


def test_an_empty_file_gives_the_defaults(write):
    """A file of comments alone is a valid one."""
    assert load_settings(write("# nothing\n")) == Settings()


def test_all_problems_are_reported_together(write):
    """Unknown keys with the nearest right one, wrong types and ranges with what was found."""
    path = write("prot: 1\nmode: rekord\nport: 99999\nopenai: {modle: m}\nbuiltin: {latency_ms: x}")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "prot: unknown key; did you mean 'port'?" in text
    assert "openai.modle: unknown key; did you mean 'model'?" in text
    assert "mode: Input should be 'record', 'replay', 'refresh' or 'off', found 'rekord'" in text
    assert "99999" in text
    assert "builtin.latency_ms" in text


def test_an_unknown_variable_is_an_error_too(monkeypatch):
    """A typing mistake in the environment is as costly as one in the file."""
    monkeypatch.setenv("TACO_SERVICE__PROT", "1")
    with pytest.raises(SettingsError, match="prot: unknown key; did you mean 'port'"):
        load_settings()


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "'just text'", "\x00"])
def test_a_file_that_is_no_mapping_is_one_clear_error(write, text):
    """No traceback of the YAML reader."""
    with pytest.raises(SettingsError, match=r"teacher\.yaml"):
        load_settings(write(text))


def test_a_missing_file_is_named(tmp_path):
    """The message has the path."""
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_settings(tmp_path / "nowhere.yaml")


def test_the_compose_file_publishes_on_loopback_only():
    """Nothing outside this machine reaches a service that has no keys."""
    compose = yaml.safe_load((CONFIGS[0].parents[2] / "docker-compose.yml").read_text())
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_bare_off_is_off(tmp_path):
    """YAML reads it as false, and nobody who writes it means that."""
    path = tmp_path / "service.yaml"
    path.write_text("mode: off\ncanary: off\n")
    settings = load_settings(path)
    assert (settings.mode, settings.canary) == ("off", "off")
