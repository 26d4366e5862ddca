"""`taco card RUN --push-to-hub REPO`: a run's compressor and its card, as one commit on the hub."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx2
from rich.console import Console

from taco.errors import UserError

TOKEN = "HF_TOKEN"  # noqa: S105 (its name)

_console = Console(highlight=False, soft_wrap=True)

_MEANING = {
    HTTPStatus.UNAUTHORIZED: f"it does not take the token in {TOKEN}",
    HTTPStatus.FORBIDDEN: f"the token in {TOKEN} may not write there",
}


def push_to_hub(model: Path, repo: str, *, private: bool, revision: str | None) -> None:
    """Upload a compressor's folder, card and all; the repository is made where there is none.

    The token comes from the environment alone, not from what `hf auth login` kept.

    Args:
        model: the folder.
        repo: such as `you/meeting-compressor`.
        private: of a repository that is made now: for its owner's eyes only.
        revision: a branch, which is made where there is none; None: the main one.

    Raises:
        UserError: there is no token, or the hub cannot be reached or does not take the upload. It
            takes all of it or nothing, and the folder stays as it is.
    """
    token = os.environ.get(TOKEN)
    if not token:
        raise UserError(
            f"--push-to-hub: expected a token that may write to {repo} in {TOKEN}, found none; "
            f"nothing was uploaded. The model and its card are in {model}"
        )
    with _told(model, repo):
        from huggingface_hub import HfApi

        hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        hub.create_repo(repo, private=private, exist_ok=True)
        if revision:
            hub.create_branch(repo, branch=revision, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo,
            folder_path=model,
            revision=revision,
            ignore_patterns=[".*"],
            commit_message="Upload a prompt compressor made by taco-rewards",
        )
    _console.print(f"pushed to {done.commit_url}", markup=False)


@contextmanager
def _told(model: Path, repo: str) -> Iterator[None]:
    """Whatever went wrong, in one message."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    kept = f"The model and its card are in {model}, untouched: run the same command again"
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"--push-to-hub: expected a name such as you/model: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = _MEANING.get(HTTPStatus(status), error.server_message or str(error))
        raise UserError(
            f"--push-to-hub: the hub refused {repo} (HTTP {status}): {said}. {kept}"
        ) from error
    except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
        raise UserError(f"--push-to-hub: {repo} could not be uploaded: {error}. {kept}") from error
