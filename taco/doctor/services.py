"""The teacher and the store of its completions, looked at from outside."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cache import CompletionStore
from cache.health import examine
from cache.schema import SCHEMA_VERSION
from taco.doctor.findings import Finding, ok, warning, wrong
from taco.doctor.inputs import looks_like_a_path
from taco.doctor.packages import DISTRIBUTION
from trainer.errors import TeacherUnreachable
from trainer.rollouts.connection import DEFAULT_URL
from trainer.rollouts.hop import Hop, error_of

_ANSWER_S = 5.0
_COUNT_S = 12.0
"""For what counts every row of a store."""
_CHECK_S = 5.0
_NO_KEY = (401, 403)


def check_teacher(url: str | None, model: str | None, key: str | None) -> Finding:
    """Whether a teacher answers, who it is, and whether it would serve us; nothing is asked of it.

    Args:
        url: as config or environment name it; None: only its usual place is looked at.
        model: the name by which the config asks for it.
        key: what is sent as TACO_TEACHER_KEY.
    """
    root = (url or DEFAULT_URL).rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with closing(Hop(root, headers)) as hop:
            alive = hop.probe("/livez", _ANSWER_S)
            known = _json(alive).get("service") == "taco-teacher"
            return _check_ours(hop, _json(alive), model) if known else _check_other(hop, model)
    except (TeacherUnreachable, ValueError) as error:
        if url:
            return wrong("teacher", str(error))
        return warning(
            "teacher",
            f"none runs at {DEFAULT_URL}: `taco train` would start one of its own",
            "its --teacher FILE says which; by default it is the built-in one",
        )


def check_store(place: Path | str, *, named: bool) -> Finding:
    """Whether the store can be read, is whole, and who writes it.

    Args:
        place: a file, or a PostgreSQL database's URL.
        named: whether somebody said so, instead of leaving the default.

    Raises:
        CacheError: what is wrong with it.
    """
    if not isinstance(place, Path):
        with CompletionStore.open(place, read_only=True) as store:
            return ok("store", f"{store.place}: schema {SCHEMA_VERSION}")
    if not place.expanduser().exists():
        said = f"none yet at {place}; the first answer makes it"
        advice = "correct --store if there should be one"
        return warning("store", said, advice) if named else ok("store", said)
    health = examine(place, _CHECK_S)
    said = f"{place}: {health.file_bytes / 1e6:,.1f} MB"
    if health.writer:
        said += f", written by {health.writer}"
    if health.schema != SCHEMA_VERSION:
        return warning(
            "store",
            f"{said}; schema {health.schema}, this program has {SCHEMA_VERSION}",
            "`taco cache migrate` brings it up to date, after a backup; so does the next start",
        )
    if not health.checked_whole:
        return ok("store", f"{said}; sound as far as {_CHECK_S:.0f} s of looking reached")
    return ok("store", f"{said}, every page sound")


def check_settings(path: Path | None, asked: str | None) -> Finding:
    """The settings of the service that would be started, and the keys that its backend needs.

    Args:
        path: of the settings; None: nobody named any.
        asked: the name by which the config asks for the teacher; None: there is no config.

    Raises:
        SettingsError: with every problem in them.
    """
    from teacher_service import load_settings

    settings = load_settings(path)
    section = getattr(settings, settings.backend)
    missing = [name for name in _key_variables(section) if not os.environ.get(name)]
    said = f"{path or 'no settings'}: backend {settings.backend}, mode {settings.mode}"
    if missing and settings.mode != "replay":
        names = ", ".join(missing)
        return wrong("settings", f"{said}, and {names} is not set", f"export {missing[0]}=…")
    if path and asked is not None and asked not in settings.served_models:
        served = ", ".join(settings.served_models)
        said += f", and it serves {served}, while task.gpt_model asks for {asked}"
        return wrong("settings", said, f"add {asked} to served_models, or set task.gpt_model")
    return ok("settings", said)


def check_weights(path: Path | None, find: Callable[[str], Path | None]) -> list[Finding]:
    """Whether the open model that the service would load is here; [] where it loads none.

    Args:
        path: of the service's settings.
        find: gives a model's local folder; None: it is nowhere on this machine.

    Raises:
        SettingsError: with every problem in them.
    """
    from teacher_service import load_settings

    settings = load_settings(path)
    section = getattr(settings, settings.backend)
    loads = settings.backend in ("transformers", "vllm") and not getattr(section, "base_url", None)
    if not loads or settings.mode == "replay":
        return []
    if folder := find(section.model):
        return [ok("weights", f"{section.model}: {folder}")]
    if looks_like_a_path(section.model):
        return [wrong("weights", f"there is no folder {section.model}", "correct the model's path")]
    return [
        warning(
            "weights",
            f"{section.model} is not in the hub's cache: the service would download it",
            f"`hf download {section.model}`, while there is a network",
        )
    ]


def _key_variables(section: Any) -> Iterator[str]:
    """The names of environment variables that a backend takes its keys from."""
    for name, value in section:
        if name == "api_key_env" and value:
            yield value
        elif name in ("primary", "secondary") and getattr(value, "endpoint", None):
            yield from _key_variables(value)


def _check_ours(hop: Hop, alive: dict[str, Any], model: str | None) -> Finding:
    stats = hop.probe("/v1/cache/stats", _COUNT_S)
    if stats.status_code in _NO_KEY:
        return wrong(
            "teacher",
            f"{hop.root}: {error_of(stats)['message']}",
            "`taco serve keys add NAME` there, then export TACO_TEACHER_KEY=…",
        )
    if stats.status_code != 200:
        return wrong("teacher", f"{hop.root}: {error_of(stats)['message']}")
    found = _json(stats)
    who = f"{found['teacher']['name']} ({found['teacher']['digest'][:12]}), mode {found['mode']}"
    said = f"{hop.root}: {who}"
    ready = hop.probe("/readyz", _ANSWER_S)
    if ready.status_code != 200:
        return wrong("teacher", f"{said}, is not ready: {_json(ready).get('reason')}")
    if problem := _not_served(hop, model):
        return wrong("teacher", f"{said}{problem}", "add the name to served_models there")
    if alive["version"] != version(DISTRIBUTION):
        said += f"; its version is {alive['version']}, ours {version(DISTRIBUTION)}"
        return warning("teacher", said, "upgrade the older one")
    return ok("teacher", said)


def _check_other(hop: Hop, model: str | None) -> Finding:
    models = hop.probe("/v1/models", _ANSWER_S)
    if models.status_code != 200:
        message = error_of(models)["message"]
        return wrong("teacher", f"{hop.root}: HTTP {models.status_code} to /v1/models: {message}")
    if problem := _not_served(hop, model):
        return wrong("teacher", f"{hop.root}{problem}", "correct task.gpt_model")
    return warning(
        "teacher",
        f"{hop.root} is not our service: nothing is cached, and a run has no lock file",
        "put `taco serve` in front of it (backend: openai, base_url)",
    )


def _not_served(hop: Hop, model: str | None) -> str:
    """Why the model cannot be asked for; empty where it can."""
    listed = _json(hop.probe("/v1/models", _ANSWER_S)).get("data", [])
    names = [str(one.get("id")) for one in listed if isinstance(one, dict)]
    if model is None or model in names:
        return ""
    return f" does not serve {model} (task.gpt_model), only {', '.join(names) or 'nothing'}"


def _json(response: Any) -> dict[str, Any]:
    """The object in an answer; an empty one where there is none."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
