"""No key and no prompt gets where somebody else may read it."""

import logging
import time

from teacher_service.backends import retries
from teacher_service.keys import add_key
from tests.faulty_upstream import FAULTS, faulty_upstream

UPSTREAM_KEY = "sk-planted-upstream-key"
PROMPT = "the planted secret of the prompt"


def test_neither_keys_nor_prompts_are_told(start, tmp_path, monkeypatch, caplog, capfd):
    """Not by the error of any fault, not by logs or counts, not on the console either."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setenv("PLANTED_KEY", UPSTREAM_KEY)
    caplog.set_level(logging.INFO)
    keys_path = tmp_path / "keys.json"
    own_key = add_key(keys_path, "tester", ["admin"])
    texts = []
    with faulty_upstream() as faulty:
        openai = {
            "api_key_env": "PLANTED_KEY",
            "attempt_timeout_s": 0.2,
            "total_timeout_s": 0.4,
            "max_concurrency": 1,
        }
        upstream = {"breaker_rest_s": 0.01}
        settings = faulty.settings(openai=openai, upstream=upstream, keys_file=str(keys_path))
        service = start(**settings)
        headers = {"Authorization": f"Bearer {own_key}"}
        faulty.share = 1.0
        for fault in FAULTS:
            faulty.faults = [fault]
            time.sleep(0.1)  # The breaker's rest.
            reply = service.chat(f"{PROMPT} {fault}", headers=headers)
            if "filtered" not in fault:
                assert reply.status_code >= 400
                texts.append(reply.text)
        texts.append(service.chat(PROMPT, headers={"Authorization": f"Bearer {own_key}x"}).text)
        texts.append(service.chat(PROMPT, headers={**headers, "X-Deadline-Ms": "soon"}).text)
        bad = {"model": "builtin", "messages": PROMPT}
        path = "/v1/chat/completions"
        texts.append(service.http.post(path, json=bad, headers=headers).text)
        shown = ("/metrics", "/v1/cache/stats", "/v1/models", "/readyz")
        texts += [service.http.get(path, headers=headers).text for path in shown]
    assert "teacher pinned-2024-07-18" in caplog.text  # It is the service's log.
    said = capfd.readouterr()
    for text in [*texts, caplog.text, said.out, said.err]:
        for secret in (UPSTREAM_KEY, own_key, PROMPT):
            assert secret not in text
