"""The keys of those who may use the service: random, shown once, kept as digests.

A file of JSON beside the store, mode 0600. While it does not exist the service asks for no key; an
empty list of keys lets nobody in. What is changed in it counts within a second, without a restart.
"""

import hmac
import json
import os
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError

from cache import default_store_path
from teacher_service.errors import StartError

Scope: TypeAlias = Literal["use", "read", "admin"]
"""Ask for completions; look into the store and the ledger; change the store. Admin may do all."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "taco-"
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept."""

    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    """Of the whole key; a random one of 256 bits needs no salt and no slow hash."""
    created_at: float
    """In seconds since the epoch."""


_KEYS = TypeAdapter(list[Key])


def default_keys_path() -> Path:
    """Where the keys are unless told otherwise: beside the default store."""
    return default_store_path().with_name("keys.json")


def read_keys(path: Path) -> list[Key] | None:
    """The keys of a file; None where there is none.

    Raises:
        StartError: It cannot be read, or is no list of keys.
    """
    try:
        return _KEYS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no list of keys"
        raise StartError(
            f"{path}: expected the keys as `taco serve keys add` writes them, but {said}. "
            "Mend it or its rights; removing it lets everybody in"
        ) from error


def add_key(path: Path, name: str, scopes: Collection[str]) -> str:
    """Make a key and return it: it cannot be read from the file again.

    Raises:
        StartError: There is one of that name, no such scope, or the file cannot be read.
    """
    if unknown := set(scopes) - set(SCOPES):
        raise StartError(f"expected the scopes {', '.join(SCOPES)}, got {', '.join(unknown)}")
    keys = read_keys(path) or []
    if any(key.name == name for key in keys):
        raise StartError(
            f"{path}: there is a key {name!r} already; revoke it, or take another name"
        )
    secret = _PREFIX + secrets.token_urlsafe(32)
    ordered = tuple(scope for scope in SCOPES if scope in scopes)
    _write(path, [*keys, Key(name, ordered, digest_of(secret), time.time())])
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Remove a key.

    Raises:
        StartError: There is none of that name, or the file cannot be read.
    """
    keys = read_keys(path) or []
    left = [key for key in keys if key.name != name]
    if len(left) == len(keys):
        names = ", ".join(key.name for key in keys) or "none"
        raise StartError(f"{path}: no key {name!r}; there are: {names}")
    _write(path, left)


class KeyRing:
    """The file's keys as the service checks them.

    Args:
        path: The file, which need not exist.

    Raises:
        StartError: It exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = _version(path)
        self._keys = read_keys(path)
        self._looked = time.monotonic()

    @property
    def is_open(self) -> bool:
        """No key is asked for."""
        self._look()
        return self._keys is None

    @property
    def keys(self) -> Sequence[Key]:
        """Those that count now."""
        self._look()
        return self._keys or ()

    def scopes_of(self, secret: str) -> tuple[Scope, ...] | None:
        """What the bearer of a key may do; None for no key of ours.

        Each one is compared, in constant time, so that the time tells nothing.
        """
        digest = digest_of(secret)
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key.scopes
        return found

    def _look(self) -> None:
        """Read the file again if it has changed; one that was removed or broken changes nothing."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        version = _version(self._path)
        if version is None or version == self._version:
            return
        try:
            self._keys = read_keys(self._path)
        except StartError:
            return
        self._version = version


def digest_of(secret: str) -> str:
    """What is kept of a key: SHA-256 as hexadecimal digits."""
    return sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _write(path: Path, keys: Collection[Key]) -> None:
    """In one step, and readable for the owner alone from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    listed: list[dict[str, Any]] = [asdict(key) for key in keys]
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(listed, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
