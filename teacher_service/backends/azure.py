"""Azure OpenAI: a primary endpoint, and a secondary one for outages and rate limits.

Both are one teacher if they declare the same model and version; each reply is held against that.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from openai import AsyncAzureOpenAI

from cache import Answer, TeacherIdentity
from teacher_service.backend_settings import AzureEndpoint, AzureSettings
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.failover import Failover
from teacher_service.backends.guard import Guard
from teacher_service.backends.openai_api import key_from_environment
from teacher_service.backends.openai_wire import OpenAIWire, call_each, client_options
from teacher_service.backends.pace import estimate_tokens
from teacher_service.backends.retries import Retryable
from teacher_service.backends.spending import Spending
from teacher_service.errors import StartError, UpstreamDenied, UpstreamError
from teacher_service.identity import hosted_identity
from teacher_service.settings import Settings

_log = logging.getLogger(__name__)

TokenProvider = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One endpoint, ready to be asked."""

    role: str
    """`primary` or `secondary`."""
    name: str
    """The deployment's."""
    wire: OpenAIWire


class AzureBackend:
    """One model behind one or two endpoints.

    Args:
        identity: What both of them are.
        deployments: In order of preference.
        rest_s: How long one that failed is left alone.
        guard: Makes the calls.
    """

    deterministic = False
    trouble: str | None = None

    def __init__(
        self,
        identity: TeacherIdentity,
        deployments: Sequence[Deployment],
        rest_s: float,
        guard: Guard,
    ) -> None:
        self.identity = identity
        self.guard = guard
        self._deployments = deployments
        self._failover = Failover(len(deployments), rest_s)

    def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Send all, as many at one time as allowed."""
        return call_each(requests, self._call)

    async def close(self) -> None:
        """Close all connections."""
        for deployment in self._deployments:
            await deployment.wire.close()

    async def _call(self, request: UpstreamRequest) -> Answer:
        tokens = estimate_tokens(request.body)
        return await self.guard.call(lambda: self._attempt(request), tokens)

    async def _attempt(self, request: UpstreamRequest) -> Answer:
        """Ask the endpoints in their order, until one answers.

        Raises:
            Retryable: None did; with the shortest wait that one of them asked for.
        """
        failures: list[Retryable] = []
        for place in self._failover.order():
            deployment = self._deployments[place]
            sent = replace(request, body={**request.body, "model": deployment.name})
            try:
                answer = await deployment.wire.attempt(sent)
            except Retryable as failure:
                failures.append(failure)
                self._failover.failed(place, failure.retry_after_s)
                if len(self._deployments) > 1:
                    _log.warning("%s endpoint: %s", deployment.role, failure)
            else:
                self._failover.worked(place)
                return answer
        raise min(failures, key=lambda failure: failure.retry_after_s)


def build(settings: Settings) -> AzureBackend:
    """The backend as the settings want it.

    Raises:
        StartError: No endpoint is named, or there is neither key nor azure-identity.
    """
    azure = settings.azure
    if azure.primary.endpoint is None:
        raise StartError(
            "backend azure: say where the model is deployed (azure.primary.endpoint, such as "
            "https://NAME.openai.azure.com)"
        )
    endpoints = {"primary": azure.primary}
    if azure.secondary.endpoint is not None and _may_fail_over(azure):
        endpoints["secondary"] = azure.secondary
    needs_token = any(_key_variable(azure, one) is None for one in endpoints.values())
    token = _token_provider(azure.client_id, azure.scope) if needs_token else None
    guard = Guard(
        settings.upstream,
        Spending(settings.budget, settings.prices),
        azure.max_concurrency,
        azure.total_timeout_s,
    )
    most = settings.upstream.max_reply_bytes
    deployments = [_deployment(azure, role, one, token, most) for role, one in endpoints.items()]
    models = list(dict.fromkeys(_model_version(azure, one) for one in endpoints.values()))
    return AzureBackend(_identity(azure.provider, models), deployments, azure.rest_s, guard)


def _may_fail_over(settings: AzureSettings) -> bool:
    """Only to the same teacher, unless the settings ask for a mixture."""
    first, second = (
        _model_version(settings, one) for one in (settings.primary, settings.secondary)
    )
    if first == second or settings.allow_mixed_teachers:
        return True
    _log.warning(
        "azure.secondary is %s, the primary is %s: two teachers, so that there is no failover; "
        "deploy the same model and version, or set azure.allow_mixed_teachers",
        second,
        first,
    )
    return False


def _identity(provider: str, models: Sequence[str]) -> TeacherIdentity:
    """One model is the same teacher as from elsewhere; a mixture is one of its own."""
    if len(models) == 1:
        return hosted_identity(provider, models[0], backend="azure")
    definition = {"provider": provider, "mixed": sorted(models)}
    return TeacherIdentity.from_definition(" + ".join(models), "azure", definition)


def _model_version(settings: AzureSettings, endpoint: AzureEndpoint) -> str:
    return f"{endpoint.model or settings.model}-{endpoint.version or settings.version}"


def _key_variable(settings: AzureSettings, endpoint: AzureEndpoint) -> str | None:
    return endpoint.api_key_env or settings.api_key_env


def _deployment(
    settings: AzureSettings,
    role: str,
    endpoint: AzureEndpoint,
    token: TokenProvider | None,
    max_reply_bytes: int,
) -> Deployment:
    name = endpoint.deployment or endpoint.model or settings.model
    api_key = key_from_environment("azure", _key_variable(settings, endpoint))
    client = AsyncAzureOpenAI(
        azure_endpoint=str(endpoint.endpoint).rstrip("/"),
        api_version=endpoint.api_version,
        api_key=api_key,
        azure_ad_token_provider=None if api_key else token,
        **client_options(max_reply_bytes),
    )
    wire = OpenAIWire(
        client,
        {_model_version(settings, endpoint), *settings.accepted_models},
        settings.attempt_timeout_s,
        {"engine": "azure", "endpoint": role},
    )
    return Deployment(role, name, wire)


def _token_provider(client_id: str | None, scope: str) -> TokenProvider:
    """Tokens by Entra ID: fetched when needed, kept until they run out.

    Raises:
        StartError: azure-identity is not installed.
    """
    try:
        # Imported here: a key needs none of it.
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import (
            DefaultAzureCredential,
            ManagedIdentityCredential,
            get_bearer_token_provider,
        )
    except ImportError as error:
        raise StartError(
            "backend azure without a key (azure.api_key_env: null) needs azure-identity: "
            "pip install 'taco-rewards[azure]'"
        ) from error
    credential = (
        ManagedIdentityCredential(client_id=client_id) if client_id else DefaultAzureCredential()
    )
    provider = get_bearer_token_provider(credential, scope)

    async def token() -> str:
        try:
            return await asyncio.to_thread(provider)
        except ClientAuthenticationError as error:
            raise UpstreamDenied(
                "Entra ID gives no token: check azure.client_id and azure.scope, and that this "
                "machine has an identity",
                code="no_token",
            ) from error
        except AzureError as error:
            told = UpstreamError(f"Entra ID cannot be reached ({type(error).__name__})")
            raise Retryable(told) from error

    return token
