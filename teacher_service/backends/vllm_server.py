"""vLLM: a server that runs already, or one of our own, in an environment of its own.

A server of our own stamps this teacher's digest on every reply (`--fingerprint-value`), and no
answer without it is taken. A running server may be started with the same two flags: it is verified
then, and else declared, which means taken at its word.
"""

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
from openai import AsyncOpenAI

from cache import Answer, Completion, TeacherIdentity
from teacher_service.backend_settings import VLLMSettings, chat_template_text
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.generation import request_seed
from teacher_service.backends.guard import Guard
from teacher_service.backends.model_files import ModelFiles, adapter_config, find_model
from teacher_service.backends.openai_api import key_from_environment
from teacher_service.backends.openai_wire import OpenAIWire, call_each, client_options
from teacher_service.backends.pace import estimate_tokens
from teacher_service.backends.spending import Spending
from teacher_service.backends.supervisor import Supervisor, Watch
from teacher_service.backends.vllm_arguments import defining_arguments, parallel_arguments
from teacher_service.backends.vllm_version import EngineVersion
from teacher_service.errors import StartError, UpstreamError, UpstreamRejected
from teacher_service.identity import declared_identity
from teacher_service.settings import Settings

_log = logging.getLogger(__name__)

_TOO_LONG = {"input_tokens", "input_text"}
"""What vLLM calls the part of a request that has no room in the context."""

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)

_DIGEST = re.compile(r"[0-9a-f]{64}")


class VLLMBackend:
    """One model in one vLLM server.

    Args:
        identity: Whose digest the server stamps on its replies, if it is verified.
        settings: The `vllm` section.
        wire: To the server.
        version: The server's.
        guard: Makes the calls.
        server: Ours to keep running; None for one that is not.
    """

    def __init__(
        self,
        identity: TeacherIdentity,
        settings: VLLMSettings,
        wire: OpenAIWire,
        version: EngineVersion,
        guard: Guard,
        server: Supervisor | None,
    ) -> None:
        self.identity = identity
        self.deterministic = settings.batch_invariant
        self.guard = guard
        self._served_name = _served_name(settings, identity)
        self._must_verify = server is not None or settings.verify
        self._wire = wire
        self._version = version
        self._server = server
        self._warned = False

    @property
    def trouble(self) -> str | None:
        """A server of our own may be starting."""
        return self._server.trouble if self._server else None

    def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Send all, as many at one time as allowed: vLLM makes batches of what is there."""
        return call_each(requests, self._call)

    async def close(self) -> None:
        """Close the connections, and stop a server of our own."""
        await self._wire.close()
        await self._version.close()
        if self._server:
            self._server.stop()

    async def _call(self, request: UpstreamRequest) -> Answer:
        if self._server:
            await self._server.until_ready()
        sent = replace(request, body=self._body(request))
        return await self.guard.call(lambda: self._attempt(sent), estimate_tokens(request.body))

    def _body(self, request: UpstreamRequest) -> dict[str, object]:
        """The request under the server's own name, and with a seed of its own.

        The engine's random state depends on what it made before; a seed of the request does not.
        """
        seed = {"seed": int.from_bytes(request_seed(request)[:6], "big")}
        return seed | dict(request.body) | {"model": self._served_name}

    async def _attempt(self, request: UpstreamRequest) -> Answer:
        if self._server:
            await self._server.until_ready()
        version = await self._version.get()
        try:
            answer = await self._wire.attempt(request)
        except UpstreamRejected as error:
            if error.param in _TOO_LONG:
                error.type = "context_length_exceeded"
            raise
        if self._server:
            self._server.answered()
        return self._checked(answer, version)

    def _checked(self, answer: Answer, version: str | None) -> Answer:
        """The answer with a note on the engine's version, and on whether its origin is verified.

        Raises:
            UpstreamError: Another teacher answered.
        """
        stamp = answer.provenance.get("system_fingerprint")
        verified = stamp == self.identity.digest
        foreign = isinstance(stamp, str) and _DIGEST.fullmatch(stamp) is not None
        if not verified and (self._must_verify or foreign):
            raise UpstreamError(
                f"the vLLM server stamps its replies {stamp!r}, this teacher is "
                f"{self.identity.digest}: start it with {_stamp_flags(self.identity)}",
                code="wrong_model",
            )
        if not verified and not self._warned:
            self._warned = True
            _log.warning(
                "the vLLM server is taken at its word; to verify what it runs, start it with %s",
                _stamp_flags(self.identity),
            )
        if not isinstance(answer, Completion):
            return answer
        noted = {"engine_version": version, "verified": verified}
        return replace(answer, provenance={**answer.provenance, **noted})


def build(settings: Settings) -> VLLMBackend:
    """The backend as the settings want it; a server of our own begins to start.

    Raises:
        StartError: Model, interpreter or key cannot be found.
    """
    vllm = settings.vllm
    files = _model_files(vllm)
    identity = files.identity if files else _declared(vllm)
    guard = Guard(
        settings.upstream,
        Spending(settings.budget, settings.prices),
        vllm.max_concurrency,
        vllm.total_timeout_s,
    )
    server = None
    if vllm.base_url:
        url, api_key = str(vllm.base_url), key_from_environment("vllm", vllm.api_key_env)
    else:
        assert files
        api_key = secrets.token_hex(32)
        url, server = _start(vllm, files, api_key)
    wire = OpenAIWire(
        AsyncOpenAI(
            base_url=url,
            api_key=api_key or "none",
            **client_options(settings.upstream.max_reply_bytes),
        ),
        {_served_name(vllm, identity)},
        vllm.attempt_timeout_s,
        {
            "engine": "vllm",
            "batch_invariant": vllm.batch_invariant,
            "parallel": parallel_arguments(vllm.arguments) if server else None,
        },
    )
    return VLLMBackend(identity, vllm, wire, EngineVersion(url), guard, server)


def server_command(settings: VLLMSettings, files: ModelFiles, port: int) -> list[str]:
    """How our own server is started.

    Sampling fields that a request leaves out are vLLM's defaults, not what the model's
    `generation_config.json` says: a request says all that counts, or the same for every model.
    """
    command = [settings.python or sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    if files.revision:
        command += ["--model", settings.model]
        command += ["--revision", files.revision, "--tokenizer-revision", files.revision]
    else:
        command += ["--model", str(files.folder)]
    if files.adapter:
        rank = adapter_config(files.adapter).get("r") or 1
        command += ["--enable-lora", "--max-lora-rank", str(_lora_room(rank))]
        command += ["--lora-modules", f"{files.identity.name}={files.adapter}"]
        command += ["--served-model-name", f"{files.identity.name} without its adapter"]
    else:
        command += ["--served-model-name", files.identity.name]
    command += ["--dtype", files.dtype, "--generation-config", "vllm"]
    command += _stamp_flags(files.identity).split()
    if files.chat_template is not None:
        command += ["--chat-template", files.chat_template]
    if settings.trust_remote_code:
        command += ["--trust-remote-code"]
    return [*command, "--disable-uvicorn-access-log", *settings.arguments]


def server_environment(settings: VLLMSettings, api_key: str) -> dict[str, str]:
    """Our own variables, with the server's: its key is in no list of processes."""
    invariant = {"VLLM_BATCH_INVARIANT": "1"} if settings.batch_invariant else {}
    return {**os.environ, "VLLM_API_KEY": api_key, **invariant, **settings.environment}


def _lora_room(rank: int) -> int:
    """The smallest rank that vLLM makes room for and that holds this one.

    Raises:
        StartError: There is none.
    """
    room = next((one for one in _LORA_RANKS if one >= rank), None)
    if room is None:
        raise StartError(f"vLLM takes adapters up to rank {_LORA_RANKS[-1]}, this one has {rank}")
    return room


def _start(settings: VLLMSettings, files: ModelFiles, api_key: str) -> tuple[str, Supervisor]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/v1"
    name = files.identity.name

    def probe(timeout_s: float) -> bool:
        """One token, made and stamped: `/health` says yes also for an engine that is stuck."""
        body = {"model": name, "prompt": "a", "max_tokens": 1, "temperature": 0}
        headers = {"Authorization": f"Bearer {api_key}"}
        try:
            reply = httpx2.post(f"{url}/completions", json=body, headers=headers, timeout=timeout_s)
        except httpx2.HTTPError:
            return False
        return reply.is_success and reply.json()["system_fingerprint"] == files.identity.digest

    server = Supervisor(
        "vLLM",
        server_command(settings, files, port),
        server_environment(settings, api_key),
        Watch(probe, settings.start_timeout_s, settings.hang_timeout_s),
    )
    server.start()
    return url, server


def _model_files(settings: VLLMSettings) -> ModelFiles | None:
    """The model's files, where they are needed or at hand: a running server has its own."""
    at_hand = (Path(settings.model).expanduser() / "config.json").is_file()
    if settings.base_url and not at_hand:
        return None
    files = find_model(settings, "vllm")
    if arguments := defining_arguments(settings.arguments):
        definition = {**files.identity.definition, "arguments": arguments}
        identity = TeacherIdentity.from_definition(files.identity.name, "vllm", definition)
        return replace(files, identity=identity)
    return files


def _declared(settings: VLLMSettings) -> TeacherIdentity:
    """What the settings say of a model whose files are elsewhere."""
    try:
        template = chat_template_text(settings.chat_template) if settings.chat_template else None
    except OSError as error:
        raise StartError(f"vllm.chat_template cannot be read: {error}") from error
    return declared_identity(
        settings.model, settings.revision, settings.dtype, template, settings.adapter
    )


def _served_name(settings: VLLMSettings, identity: TeacherIdentity) -> str:
    if settings.base_url:
        return settings.served_name or settings.model
    return identity.name


def _stamp_flags(identity: TeacherIdentity) -> str:
    return f"--fingerprint-mode custom --fingerprint-value {identity.digest}"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
