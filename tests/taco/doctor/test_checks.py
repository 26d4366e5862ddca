"""Each check on the thing itself, sound and broken."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from importlib import metadata

import pytest
import yaml

from cache import CompletionStore
from cache.sqlite_file import connect
from taco.doctor.command import side_by_side
from taco.doctor.disk import check_disk
from taco.doctor.findings import ok
from taco.doctor.inputs import (
    check_data,
    check_length_tokenizer,
    check_metric,
    check_model,
    local_folder,
)
from taco.doctor.memory import Shape, read_shape
from taco.doctor.packages import check_packages, check_python, installed_requirements
from taco.doctor.plan import Check
from taco.doctor.probes import load_in_stock, probe_model
from taco.doctor.services import check_settings, check_store, check_teacher, check_weights
from teacher_service.keys import add_key
from tests.tiny_models import make_encoder
from tests.tiny_runs import tiny_config
from trainer.errors import ConfigError

SMALL = Shape(parameters=1000, layers=1, hidden=8, heads=2, vocabulary=10)
HUGE = Shape(parameters=10**14, layers=24, hidden=1024, heads=16, vocabulary=250_000)


def test_an_old_python_is_wrong():
    """As `requires-python` says."""
    assert check_python("3.10.4", ">=3.11").state == "wrong"
    assert check_python("3.14.0rc1", ">=3.11").state == "ok"


def test_packages_are_held_against_what_the_project_asks_for():
    """Here they fit; one too old and one that is gone are both named, with the command."""
    extras = {"train"}
    assert check_packages(installed_requirements(), extras).state == "ok"

    def version_of(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "fastapi" else metadata.version(name)

    found = check_packages(installed_requirements(), extras, version_of)
    assert found.state == "wrong"
    assert "torch is not installed" in found.said
    assert "fastapi: expected >=" in found.said
    assert found.advice == "pip install --upgrade 'taco-rewards[train]'"
    assert "torch" not in check_packages(installed_requirements(), (), version_of).said


def test_a_compressors_size_is_read_from_its_files(base):
    """As torch counts it, without torch."""
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(base)
    shape = read_shape(base)
    parameters = sum(each.numel() for each in model.parameters())
    assert shape == Shape(parameters, 1, 32, 2, model.config.vocab_size)
    assert read_shape(base.parent) is None


def test_damaged_weights_have_no_size(base, tmp_path):
    """Whatever length their header claims."""
    shutil.copy(base / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert read_shape(tmp_path) is None


def test_a_disk_without_room_or_without_the_right(tmp_path, read_only_folder):
    """A folder that is not there yet is judged by where it would be."""
    assert check_disk("disk", tmp_path / "runs/new", SMALL).state == "ok"
    full = check_disk("disk", tmp_path, HUGE, checkpoints=2)
    assert (full.state, full.advice) == ("wrong", "make room on that disk")
    assert "2 checkpoints and the compressor take 2800000.0 GB" in full.said
    assert "cannot be written to" in check_disk("disk", read_only_folder / "runs", None).said


def test_a_small_disk_is_warned_of(tmp_path):
    """Here one of a megabyte."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk takes the right to mount one")
    try:
        assert check_disk("disk", tmp_path, SMALL).state == "warning"
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_data_with_questions_that_nobody_asks(meetings):
    """The template has to ask them."""
    assert check_data("data", meetings, asks=True).state == "ok"
    assert "does not ask their questions" in check_data("data", meetings, asks=False).said


def test_a_reward_that_a_model_or_the_judge_measures(meetings, base, tmp_path):
    """The model is loaded where it is here, and never downloaded; nobody is asked."""

    def check(metric, **bertscore):
        return check_metric(
            tiny_config(meetings, base, reward={"metric": metric}, bertscore=bertscore)
        )

    found = check("0.5*judge + 0.5*f1")
    assert (found.state, "judge|scale:1-5|" in found.said) == ("ok", True)
    encoder = str(make_encoder(tmp_path))
    found = check("bertscore", model=encoder, layer=2)
    assert found.state == "ok"
    assert "bertscore|model:tiny-encoder|" in found.said
    found = check("bertscore", model="nobody/has-this-encoder")
    assert (found.state, "would download it" in found.said) == ("warning", True)
    with pytest.raises(ConfigError, match=r"bertscore\.model"):
        check("bertscore")
    with pytest.raises(ConfigError, match=r"bertscore\.layer"):
        check("bertscore", model=encoder)


@pytest.mark.parametrize(
    ("setting", "state"),
    [("policy", "ok"), ("auto", "warning"), ("cl100k_base", "warning"), ("none.json", "wrong")],
)
def test_the_length_tokenizer_where_tiktoken_has_nothing(monkeypatch, tmp_path, setting, state):
    """It is never downloaded to find out."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert check_length_tokenizer(setting).state == state
    assert not list(tmp_path.iterdir())


def test_a_compressor_whose_path_tells_the_stock_package_nothing(base, tmp_path):
    """It goes by the path; training does not, and saves under a name that it knows."""
    unnamed = shutil.copytree(base, tmp_path / "mine")
    found = check_model(str(unnamed), unnamed, load_in_stock)
    assert (found.state, "bert-base-multilingual-cased" in found.said) == ("warning", True)


def test_a_compressor_that_takes_long_to_load_may_be_sound(base):
    """A busy machine is no reason to look for another one."""
    found = check_model(str(base), base, partial(probe_model, seconds=0.01))
    assert (found.state, found.said) == (
        "warning",
        f"whether stock llmlingua loads {base} is not known: not done after 0 s",
    )


@pytest.mark.parametrize(
    ("model", "state"), [("./nowhere", "wrong"), ("nobody/no-such-model", "warning")]
)
def test_a_compressor_that_is_not_here(model, state):
    """A folder must be; a name of the hub would be downloaded, but not now."""
    assert local_folder(model) is None
    assert check_model(model, None, load_in_stock).state == state


def test_a_store_is_looked_at(teacher_store, teacher_url, tmp_path):
    """While a service writes it; one that is not there yet; one of an older schema."""
    held = check_store(teacher_store, named=False)
    assert held.state == "ok"
    assert "written by process " in held.said
    none = tmp_path / "none.sqlite"
    assert [check_store(none, named=named).state for named in (False, True)] == ["ok", "warning"]
    old = tmp_path / "old.sqlite"
    CompletionStore.open(old).close()
    with connect(old, "rw") as older:
        older.execute("UPDATE alembic_version SET version_num = '0002'")
    older.close()
    found = check_store(old, named=True)
    assert (found.state, "taco cache migrate" in found.advice) == ("warning", True)
    assert not none.exists()


def test_a_database_is_looked_at(postgres_url):
    """By its URL."""
    assert check_store(postgres_url, named=True).state == "ok"


def test_our_service_says_who_its_teacher_is(teacher_url):
    """And what it serves."""
    found = check_teacher(f"{teacher_url}/v1", "gpt-35-turbo", None)
    assert (found.state, "builtin (" in found.said) == ("ok", True)
    unknown = check_teacher(teacher_url, "gpt-9", None)
    assert (unknown.state, "does not serve gpt-9" in unknown.said) == ("wrong", True)


def test_nobody_there(monkeypatch):
    """Wrong where somebody was named; otherwise a run starts one of its own."""
    assert check_teacher("http://127.0.0.1:9", None, None).state == "wrong"
    assert check_teacher("no URL at all", None, None).state == "wrong"
    monkeypatch.setattr("taco.doctor.services.DEFAULT_URL", "http://127.0.0.1:9")
    assert check_teacher(None, None, None).state == "warning"


@pytest.fixture
def keyed_service(tmp_path):
    """A service that asks for a key: (its URL, a good one)."""
    key = add_key(tmp_path / "keys.json", "trainer", ["use"])
    settings = {
        "port": 0,
        "store": str(tmp_path / "completions.sqlite"),
        "keys_file": str(tmp_path / "keys.json"),
    }
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(settings))
    announcement = tmp_path / "announcement.json"
    command = [sys.executable, "-P", "-m", "teacher_service", "--announce-file", str(announcement)]
    with subprocess.Popen([*command, "--config", str(tmp_path / "teacher.yaml")]) as process:
        give_up = time.monotonic() + 60
        while not announcement.exists():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield json.loads(announcement.read_text())["url"], key
        process.terminate()


def test_a_service_that_wants_a_key(keyed_service):
    """Without one and with a wrong one it is said what to do."""
    url, key = keyed_service
    for given in (None, "taco-wrong"):
        found = check_teacher(url, None, given)
        assert (found.state, "TACO_TEACHER_KEY" in found.advice) == ("wrong", True)
    assert check_teacher(url, None, key).state == "ok"


@contextmanager
def server_of(body: bytes):
    """Some other HTTP server, which answers everything with this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_server_keeps_nothing():
    """An OpenAI-compatible one will do, with a warning; one that serves no model will not."""
    with server_of(b'{"data": [{"id": "llama"}]}') as url:
        assert check_teacher(url, "llama", None).state == "warning"
        assert check_teacher(url, "gpt-35-turbo", None).state == "wrong"
    with server_of(b"<html>a router's page</html>") as url:
        assert check_teacher(url, "llama", None).state == "wrong"


def test_a_backends_key_has_to_be_set(tmp_path, monkeypatch):
    """As the settings name its variable."""
    settings = tmp_path / "teacher.yaml"
    settings.write_text("backend: openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = check_settings(settings, None)
    assert (found.state, found.advice) == ("wrong", "export OPENAI_API_KEY=…")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-…")
    assert check_settings(settings, None).state == "ok"


def test_the_teacher_is_served_by_the_name_that_the_config_asks_for(tmp_path):
    """Else every request would be answered 404; nobody's settings are no question."""
    settings = tmp_path / "teacher.yaml"
    settings.write_text("served_models: [teacher]")
    assert check_settings(settings, "teacher").state == "ok"
    found = check_settings(settings, "gpt-35-turbo")
    assert (
        found.state,
        "serves teacher, while task.gpt_model asks for gpt-35-turbo" in found.said,
    ) == ("wrong", True)
    assert check_settings(None, "teacher").state == "ok"


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_an_open_teachers_weights_are_looked_for(tmp_path, backend):
    """Here, to be downloaded, or nowhere; a server that runs already has its own."""
    settings = tmp_path / "teacher.yaml"

    def look(section, find=lambda _model: None):
        settings.write_text(f"backend: {backend}\n{backend}: {section}")
        return [(each.what, each.state) for each in check_weights(settings, find)]

    assert look("{model: Qwen/Qwen2.5-7B-Instruct}") == [("weights", "warning")]
    assert look("{model: /nowhere/model}") == [("weights", "wrong")]
    assert look("{model: a/model}", lambda _model: tmp_path) == [("weights", "ok")]
    if backend == "vllm":
        assert look("{model: a/model, base_url: 'http://127.0.0.1:8000/v1'}") == []
    settings.write_text("backend: builtin")
    assert check_weights(settings, lambda _model: None) == []


def test_what_hangs_is_given_up(tmp_path):
    """A data file that is a pipe nobody writes to; the other checks are told all the same."""
    pipe = tmp_path / "data.json"
    os.mkfifo(pipe)
    hanging = Check("data", lambda: [check_data("data", pipe, asks=False)], seconds=0.5)
    found = list(side_by_side([hanging, Check("other", lambda: [ok("other", "fine")])]))
    assert [(each.what, each.state) for each in found] == [("data", "wrong"), ("other", "ok")]
    assert "no answer within" in found[0].said


def test_a_check_that_fails_is_a_finding():
    """Whatever it raises: the others are told."""
    broken = Check("odd", lambda: [ok("odd", str(1 / 0))])
    [found] = side_by_side([broken])
    assert (found.state, "ZeroDivisionError" in found.said) == ("wrong", True)
