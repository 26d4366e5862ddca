"""Where completions come from: one module a backend, imported on demand."""

from importlib import import_module

from teacher_service.backends.base import Backend, Endpoint, Finished, UpstreamRequest
from teacher_service.errors import StartError
from teacher_service.settings import Settings

__all__ = ["Backend", "Endpoint", "Finished", "UpstreamRequest", "build_backend"]

BACKENDS = {
    "builtin": ("teacher_service.backends.builtin", "taco-rewards"),
    "transformers": ("teacher_service.backends.transformers_local", "taco-rewards[transformers]"),
    "vllm": ("teacher_service.backends.vllm_server", "openai"),
    "openai": ("teacher_service.backends.openai_api", "openai"),
    "azure": ("teacher_service.backends.azure", "taco-rewards[azure]"),
}
"""Name in the settings -> module with `build(settings)`, and what to install for it."""


def build_backend(settings: Settings) -> Backend:
    """The backend that the settings name.

    Raises:
        StartError: A package it needs is not installed, or its settings lack something.
    """
    module, package = BACKENDS[settings.backend]
    try:
        build = import_module(module).build
    except ImportError as error:
        raise StartError(
            f"backend {settings.backend!r} cannot be imported ({error}): pip install '{package}'"
        ) from error
    backend: Backend = build(settings)
    return backend
