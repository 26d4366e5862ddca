"""Traces by OpenTelemetry: a span for each request, and one for each batch that a backend makes.

Where they are sent is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and the
like). Neither prompts nor answers nor keys are in them.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, cast

from starlette.types import ASGIApp

from cache import Answer, Completion
from teacher_service.backends.base import Backend, Finished, UpstreamRequest
from teacher_service.errors import ServiceError, StartError


class Tracing:
    """Sends spans to a collector.

    Raises:
        StartError: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            # Imported here: most services trace nothing.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise StartError(
                f"traces: true needs OpenTelemetry ({error}): pip install 'taco-rewards[otel]'"
            ) from error
        ours = {"service.name": "taco-teacher", "service.version": version("taco-rewards")}
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._middleware = OpenTelemetryMiddleware

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, with a span for each request; a client's `traceparent` is its parent."""
        traced: ASGIApp = self._middleware(
            app, tracer_provider=self._provider, exclude_spans=["receive", "send"]
        )
        return traced

    def of_backend(self, backend: Backend, name: str) -> Backend:
        """The backend, with a span for each batch that it makes."""
        tracer = self._provider.get_tracer("teacher_service")
        return cast("Backend", _TracedBackend(backend, name, tracer))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class _TracedBackend:
    """All of a backend, but `complete` has a span around it."""

    def __init__(self, backend: Backend, name: str, tracer: Any) -> None:
        self._backend = backend
        self._name = name
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        asked = {"taco.backend": self._name, "taco.asked": len(requests)}
        span = self._tracer.start_span("make", attributes=asked)
        ended: Counter[str] = Counter()
        try:
            async with aclosing(self._backend.complete(requests)) as groups:
                async for group in groups:
                    ended.update(_how(result) for _, result in group)
                    yield group
        finally:
            span.set_attributes({f"taco.{how}": count for how, count in ended.items()})
            span.end()


def _how(result: Answer | ServiceError) -> str:
    if isinstance(result, ServiceError):
        return f"failed.{result.type}"
    return "completed" if isinstance(result, Completion) else "refused"
