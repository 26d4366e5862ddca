"""What defines a teacher's answers: the part of every key that no request can change.

Never a URL or a credential: the same model behind another address is the same teacher.
"""

import hashlib
import logging
import re
from collections.abc import Sequence

from cache import TeacherIdentity
from teacher_service.errors import StartError

_log = logging.getLogger(__name__)

_PINNED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")
"""How OpenAI ends the name of a fixed version: a date, or month and day."""


def builtin_identity(rules_version: int) -> TeacherIdentity:
    """The built-in teacher is its rule set."""
    return TeacherIdentity.from_definition(
        "builtin", "builtin", {"backend": "builtin", "rules": rules_version}
    )


def hosted_identity(provider: str, model: str, backend: str) -> TeacherIdentity:
    """A hosted model is what its provider promises under a pinned name.

    A name that OpenAI moves from version to version is warned about: answers kept under it
    would mix several models.
    """
    if provider == "openai" and not _PINNED.search(model) and not model.startswith("ft:"):
        _log.warning(
            "%r is an alias that OpenAI moves to newer versions; pin one, such as "
            "gpt-4o-mini-2024-07-18, so that the answers kept all come from one model",
            model,
        )
    return TeacherIdentity.from_definition(model, backend, {"provider": provider, "model": model})


def declared_identity(
    model: str,
    revision: str | None,
    dtype: str,
    chat_template: str | None,
    adapter: str | None = None,
) -> TeacherIdentity:
    """An open model that runs where its files cannot be read: what is said of it.

    Args:
        model: Its name on the hub, or its folder over there.
        revision: The commit; None is warned about.
        dtype: What it is computed in; "auto": as saved.
        chat_template: The text that its server was given; None: the tokenizer's own.
        adapter: What its LoRA adapter is called; None: it has none.
    """
    if revision is None:
        _log.warning(
            "%r is declared without a revision: should its server load another one some day, "
            "nobody would notice; say which commit it runs (revision)",
            model,
        )
    template = chat_template and hashlib.sha256(chat_template.encode()).hexdigest()
    said = {"model": model, "revision": revision, "dtype": dtype, "chat_template": template}
    if adapter:
        said["adapter"] = adapter
    return TeacherIdentity.from_definition(model, "vllm", {"declared": said})


def stored_identity(teachers: Sequence[TeacherIdentity], wanted: str | None) -> TeacherIdentity:
    """The teacher that a replay server speaks for.

    Args:
        teachers: What the store holds.
        wanted: A teacher's name, or the start of its digest; None where there is but one.

    Raises:
        StartError: None matches, or several do.
    """
    found = [one for one in teachers if wanted is None or _is_called(one, wanted)]
    if len(found) == 1:
        return found[0]
    held = "\n".join(f"  {one.name}  {one.digest}  ({one.backend})" for one in teachers)
    if not teachers:
        raise StartError(
            "the store holds no teacher, so there is nothing to replay: record first "
            "(mode: record), or name the right file (store:)"
        )
    problem = f"no teacher is called {wanted!r}" if not found else f"{len(found)} teachers match"
    raise StartError(
        f"{problem}; name one of these by `teacher:` (name, or the start of its digest):\n{held}"
    )


def _is_called(teacher: TeacherIdentity, wanted: str) -> bool:
    return teacher.name == wanted or teacher.digest.startswith(wanted)
