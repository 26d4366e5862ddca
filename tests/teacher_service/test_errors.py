"""Every error has OpenAI's body, and says nothing about what was asked."""

import logging

import pytest

from teacher_service.errors import as_service_error

SECRET = "the secret of the prompt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JSON"),
        (b'{"model": "builtin"', "JSON"),
        (b'{"model": "builtin", "model": "x", "messages": []}', "twice"),
        (b'{"model": "builtin", "messages": [{}], "temperature": NaN}', "NaN"),
        (b"[1]", "the body"),
        (b'"\xff"', "JSON"),
    ],
)
def test_what_is_no_json_object_is_a_bad_request(service, content, message):
    """Strictly: a key twice or a NaN means different things to different readers."""
    reply = service.http.post("/v1/chat/completions", content=content)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


@pytest.mark.parametrize("message", [{}, {"content": "a"}, {"role": "user", "content": [{}]}])
def test_a_message_that_the_builtin_teacher_cannot_read_is_told(service, message):
    """It reads a role and plain text; parts and pictures are for real models."""
    body = {"model": "builtin", "messages": [message]}
    reply = service.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert "plain text" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/livez", 405)],
)
def test_unknown_routes_and_methods_have_the_same_body(service, method, path, status):
    """Whoever parses one error parses all."""
    reply = service.http.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("header", ["", "soon", "-1", "1.5"])
def test_a_deadline_is_a_number_of_milliseconds(service, header):
    """What cannot be read is not ignored."""
    reply = service.chat("one", headers={"X-Deadline-Ms": header})
    assert reply.status_code == 400
    assert "X-Deadline-Ms" in reply.json()["error"]["message"]
    assert service.since_start()["requests"] == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(start, chunked):
    """Whether its length was declared or not."""
    service = start(max_body_bytes=1000)
    content = b"x" * 1001
    reply = service.http.post(
        "/v1/chat/completions", content=iter([content]) if chunked else content
    )
    assert reply.status_code == 413
    assert "1000" in reply.json()["error"]["message"]


def test_neither_answer_nor_log_quotes_an_unforeseen_exception(caplog):
    """It may hold a prompt; its name and its place are what the log needs."""
    try:
        raise RuntimeError(SECRET)
    except RuntimeError as error:
        told = as_service_error(error)
    assert told.status == 500
    assert "RuntimeError" in told.message
    assert "test_errors.py" in caplog.text
    assert SECRET not in told.message + caplog.text


def test_prompts_and_keys_stay_out_of_the_log(start_hosted, upstream, caplog):
    """Also when the upstream quotes them in its refusal."""
    caplog.set_level(logging.DEBUG, logger="teacher_service")
    service = start_hosted()
    upstream.script = [(400, {}, f'{{"error": {{"message": "cannot say {SECRET}"}}}}')]
    reply = service.chat(SECRET)
    assert SECRET in reply.json()["error"]["message"]
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("teacher")
    )
    assert SECRET not in logged
    assert "sk-secret" not in logged
