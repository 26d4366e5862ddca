"""A model's files: where they lie, and the digests that say which model it is.

The same files make the same teacher, whichever engine runs them and wherever it stands.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import TeacherIdentity, canonical_json
from teacher_service.backend_settings import ModelSettings, chat_template_text
from teacher_service.errors import StartError

_log = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors",)
_OLD_WEIGHTS = ("*.bin", "*.pt", "*.pth")  # Only where there are no safetensors, as on loading.
_CONFIG = ("config.json", "generation_config.json")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
_CODE = ("*.py",)
_ADAPTER = ("adapter_model.safetensors",)
_OLD_ADAPTER = ("adapter_model.bin",)
_ADAPTER_ORIGIN = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
}

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DATED = "strftime_now"
_STORED_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine's disk."""

    folder: Path
    revision: str | None
    """The hub's commit; None for a folder of one's own."""
    dtype: str
    """What it is computed in: float32, float16 or bfloat16."""
    chat_template: str | None
    """The text that the settings name; None: the tokenizer's own."""
    adapter: Path | None
    """A LoRA adapter's folder; None: the model as it is."""
    identity: TeacherIdentity


def find_model(settings: ModelSettings, backend: str) -> ModelFiles:
    """Find a model, downloading it where it is the hub's, and read all of its files once.

    Raises:
        StartError: There is no such model, or a file that the settings name cannot be read.
    """
    folder, revision = _locate(settings)
    try:
        template = chat_template_text(settings.chat_template) if settings.chat_template else None
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"the model in {folder} cannot be used: {error}") from error
    dtype = _dtype(config) if settings.dtype == "auto" else settings.dtype
    definition = {
        **_definition(folder, template, with_code=settings.trust_remote_code),
        "dtype": dtype,
    }
    name = settings.model if revision else folder.name
    adapter = Path(settings.adapter).expanduser().resolve() if settings.adapter else None
    if adapter:
        definition["adapter"] = adapter_digest(adapter)
        name = f"{name}+{adapter.name}"
    identity = TeacherIdentity.from_definition(name, backend, definition)
    return ModelFiles(folder, revision, dtype, template, adapter, identity)


def adapter_digest(folder: Path) -> str:
    """Of what a LoRA adapter does to a model; where it was trained, and on which copy, is left out.

    Raises:
        StartError: The folder holds no adapter.
    """
    weights = _matching(folder, _ADAPTER) or _matching(folder, _OLD_ADAPTER)
    if not weights:
        raise StartError(
            f"{folder} holds no adapter: expected adapter_config.json and "
            "adapter_model.safetensors, as peft saves them"
        )
    config = adapter_config(folder)
    does = {name: value for name, value in config.items() if name not in _ADAPTER_ORIGIN}
    return hashlib.sha256(canonical_json([_digest(weights), does])).hexdigest()


def adapter_config(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` says.

    Raises:
        StartError: It cannot be read.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"the adapter in {folder} cannot be used: {error}") from error
    return config


def _locate(settings: ModelSettings) -> tuple[Path, str | None]:
    """The folder, and the commit of one that came from the hub."""
    folder = Path(settings.model).expanduser()
    if (folder / "config.json").is_file():
        return folder.resolve(), None
    if folder.exists() or folder.is_absolute() or settings.model.startswith((".", "~")):
        raise StartError(
            f"{settings.model} is no folder with a model: expected config.json, weights and "
            "tokenizer, as save_pretrained writes them"
        )
    try:
        # Imported here: a folder needs no hub.
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise StartError(
            f"model {settings.model!r} is no folder here, and to fetch it from the hub "
            "huggingface_hub is needed: pip install 'taco-rewards[transformers]'"
        ) from error
    patterns = [*_WEIGHTS, *_CONFIG, *_TOKENIZER, *_TEMPLATES, "*.index.json"]
    patterns += _CODE if settings.trust_remote_code else ()
    try:
        snapshot = snapshot_download(
            settings.model, revision=settings.revision, allow_patterns=patterns
        )
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise StartError(
            f"model {settings.model!r} is neither a folder here nor to be had from the hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    commit = Path(snapshot).name
    if not _COMMIT.fullmatch(settings.revision or ""):
        _log.warning("%s moves on: pin what was found now (revision: %s)", settings.model, commit)
    return Path(snapshot), commit


def _definition(folder: Path, template: str | None, *, with_code: bool) -> dict[str, str]:
    """Digests of what decides the answers.

    Raises:
        StartError: There are no weights, or no tokenizer.
    """
    weights = _matching(folder, _WEIGHTS) or _matching(folder, _OLD_WEIGHTS)
    tokenizer = _matching(folder, _TOKENIZER)
    if not (weights and tokenizer):
        raise StartError(f"{folder} has no {'tokenizer' if weights else 'weights'}")
    code = _matching(folder, _CODE) if with_code else []
    templates = _matching(folder, _TEMPLATES)
    if template is None and any(_DATED in path.read_text(encoding="utf-8") for path in templates):
        _log.warning(
            "the chat template puts today's date into every prompt, which no key can see: name a "
            "template without it (chat_template)"
        )
    return {
        "weights": _digest([*weights, *_matching(folder, _CONFIG), *code]),
        "tokenizer": _digest(tokenizer),
        "chat_template": _digest(templates)
        if template is None
        else hashlib.sha256(template.encode()).hexdigest(),
    }


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents; large files are read side by side."""
    with ThreadPoolExecutor() as pool:
        digests = dict(pool.map(_file_digest, paths))
    return hashlib.sha256(canonical_json(digests)).hexdigest()


def _file_digest(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        return path.name, hashlib.file_digest(file, "sha256").hexdigest()


def _dtype(config: dict[str, Any]) -> str:
    """The one that the weights were saved in; a model that does not say is float32."""
    stored = config.get("dtype") or config.get("torch_dtype")
    return stored if stored in _STORED_DTYPES else "float32"
