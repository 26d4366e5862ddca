"""Where the teacher is, and how a config wants it asked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.config import Config
from trainer.errors import TeacherUnreachable
from trainer.rollouts.teacher_client import TeacherClient, recognise

DEFAULT_URL = "http://127.0.0.1:8080"


def find_teacher(config: Config) -> str | None:
    """Where the teacher is: config, TACO_TEACHER_URL, or a service of ours at its usual port."""
    named = config.teacher.url or os.environ.get("TACO_TEACHER_URL")
    if named:
        return named
    return DEFAULT_URL if recognise(DEFAULT_URL) else None


def require_teacher(config: Config) -> str:
    """Like `find_teacher`, for those that start no service of their own.

    Raises:
        TeacherUnreachable: nobody is there, with what to do about it.
    """
    url = find_teacher(config)
    if url is None:
        raise TeacherUnreachable(
            f"expected a teacher service at {DEFAULT_URL}, and nobody answers there; start one "
            "with `taco serve`, or set TACO_TEACHER_URL or teacher.url"
        )
    return url


@contextmanager
def connect(config: Config, url: str, *, stored_only: bool = False) -> Iterator[TeacherClient]:
    """The teacher as the config wants it asked; the key comes from TACO_TEACHER_KEY.

    Args:
        config: of the run.
        url: where the teacher is.
        stored_only: for a replay: whoever answers must not ask a model.
    """
    task = config.task
    with TeacherClient.connect(
        url,
        model=task.gpt_model,
        prompt_template=task.prompt,
        system_message=task.system_message,
        sampling={"max_tokens": task.max_tokens, **task.sampling},
        api_key=os.environ.get("TACO_TEACHER_KEY"),
        timeout_s=config.teacher.timeout_s,
        stored_only=stored_only,
    ) as teacher:
        yield teacher
