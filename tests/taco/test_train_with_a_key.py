"""Training against a service that lets nobody in without a key."""

import json

import httpx2

from tests.conftest import Said
from tests.service_process import service_process
from tests.tiny_runs import rows_of


def test_a_run_takes_its_key_from_the_environment(taco, config_file, tmp_path, monkeypatch):
    """None or a wrong one is noticed at once, one of another scope at the first request.

    Each is told what to do; that run goes on with a key that may use the teacher, which stands in
    no file of it.
    """
    file, folder = tmp_path / "keys.json", tmp_path / "runs" / "keyed"

    def add(scope: str) -> str:
        return taco("serve", "keys", "add", scope, "--scope", scope, "--file", file).out.strip()

    def with_key(key: str, *arguments: object) -> Said:
        monkeypatch.setenv("TACO_TEACHER_KEY", key)
        return taco("train", *arguments)

    use, read = add("use"), add("read")
    monkeypatch.chdir(tmp_path)
    with service_process(tmp_path, keys_file=str(file), canary="off") as service:
        monkeypatch.setenv("TACO_TEACHER_URL", service.url)
        for key in ("", "taco-wrong"):
            said = with_key(key, config_file, "run.name=keyed")
            assert (said.code, "TACO_TEACHER_KEY" in said.err) == (1, True)
            assert not folder.exists()
        said = with_key(read, config_file, "run.name=keyed")
        assert (said.code, "TACO_TEACHER_KEY" in said.err) == (1, True)
        done = with_key(use, "--resume", folder)
        assert done.code == 0, done.err
        runs = httpx2.get(f"{service.url}/v1/runs", headers={"Authorization": f"Bearer {read}"})
    [run] = runs.json()["data"]
    assert run["id"] == json.loads((folder / "run.json").read_text())["run_id"]
    assert run["answers"]["miss"] > 0
    assert len(rows_of(folder / "logs" / "reinforce_logs_updated.csv")) == 1 + 4
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(use.encode() in content for content in written)
    assert use not in done.out + done.err
