"""Where the teacher is, and how a config wants it asked."""

import pytest

from trainer.config import Config
from trainer.errors import TeacherUnreachable
from trainer.rollouts import connection
from trainer.rollouts.connection import connect, find_teacher, require_teacher
from trainer.types import Outcome, TeacherItem

NOBODY = "http://127.0.0.1:9"


def config(**sections):
    """The smallest config, with changed sections."""
    return Config.model_validate(
        {
            "data": {"train_file_path": "data.json"},
            "model": {"model_load_path": "base"},
            "task": {"prompt": "{transcript} {question}", "max_tokens": 7},
            **sections,
        }
    )


def test_the_config_comes_before_the_environment(monkeypatch):
    """Neither is tried out: who is named is meant."""
    assert find_teacher(config(teacher={"url": "http://a"})) == "http://a"
    monkeypatch.setenv("TACO_TEACHER_URL", "http://b")
    assert find_teacher(config()) == "http://b"
    assert find_teacher(config(teacher={"url": "http://a"})) == "http://a"


def test_a_service_of_ours_at_its_usual_port_is_found(ours, monkeypatch):
    """Where nothing is named."""
    monkeypatch.setattr(connection, "DEFAULT_URL", ours.url)
    assert find_teacher(config()) == require_teacher(config()) == ours.url


def test_another_server_at_that_port_is_not_meant(other, monkeypatch):
    """Somebody's web server would get the prompts."""
    monkeypatch.setattr(connection, "DEFAULT_URL", other.url)
    assert find_teacher(config()) is None
    assert not other.seen


def test_nobody_there_says_what_to_do(monkeypatch):
    """For those who start no service."""
    monkeypatch.setattr(connection, "DEFAULT_URL", NOBODY)
    with pytest.raises(TeacherUnreachable, match=r"taco serve.*TACO_TEACHER_URL or teacher\.url"):
        require_teacher(config())


def test_the_request_is_the_configs(ours, monkeypatch):
    """Model, template, system message, sampling fields, key."""
    monkeypatch.setenv("TACO_TEACHER_KEY", "secret")
    task = {
        "prompt": "{transcript}|{question}",
        "gpt_model": "some-model",
        "max_tokens": 7,
        "system_message": None,
        "sampling": {"temperature": 0.5, "stop": ["\n"]},
    }
    with connect(config(task=task), ours.url) as teacher:
        [reply] = teacher.complete([TeacherItem("text", "question?")])
    assert reply.outcome is Outcome.SCORED
    [seen] = ours.seen
    assert seen.headers["authorization"] == "Bearer secret"
    assert seen.body == {
        "model": "some-model",
        "prompt_template": "{transcript}|{question}",
        "system_message": None,
        "max_tokens": 7,
        "temperature": 0.5,
        "stop": ["\n"],
        "items": [{"text": "text", "question": "question?"}],
    }


def test_the_default_request_is_the_references(ours):
    """Its system message and its sampling fields."""
    with connect(config(), ours.url) as teacher:
        teacher.complete([TeacherItem("text")])
    body = ours.seen[0].body
    assert body["system_message"] == "You are a helpful assistant."
    assert {name: body[name] for name in ("temperature", "top_p", "seed", "max_tokens")} == {
        "temperature": 0,
        "top_p": 1,
        "seed": 42,
        "max_tokens": 7,
    }


def test_a_replay_asks_for_what_is_stored(ours):
    """Whatever the service's own mode."""
    with connect(config(), ours.url, stored_only=True) as teacher:
        teacher.complete([TeacherItem("text")])
    assert ours.seen[0].headers["cache-control"] == "only-if-cached"
