"""Sections of the settings for models that run here or in Azure: which one, and how to reach it."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

DType: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]


class Section(BaseModel):
    """Part of the settings: unknown keys are errors, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSettings(Section):
    """An open model by its files: what they hold defines the teacher."""

    model: Annotated[str, Field(min_length=1)] = "Qwen/Qwen2.5-0.5B-Instruct"
    """A folder that `save_pretrained` wrote, or a name on the Hugging Face hub."""
    revision: str | None = None
    """The hub's commit; null takes the newest, and the log says which one to pin."""
    adapter: str | None = None
    """A LoRA adapter's folder, as peft saves it; it is part of what defines the teacher."""
    chat_template: str | None = None
    """Null: the tokenizer's own. `plain`: messages as they are, parted by a blank line. Else a
    file.
    """
    dtype: DType = "auto"
    """`auto`: the one that the model was saved in."""
    trust_remote_code: bool = False
    """Run Python files that come with the model."""


class TransformersSettings(ModelSettings):
    """A causal language model in this process."""

    device: Annotated[str, Field(min_length=1)] = "auto"
    """`auto`: a GPU if there is one. Else as torch calls it: cpu, cuda, cuda:1, mps."""
    batch_tokens: Annotated[int, Field(ge=1)] = 16_384
    """Room of one batch: its rows times the longest prompt with its completion."""
    max_context_tokens: Annotated[int, Field(ge=2)] | None = None
    """For prompt and completion together; null: what the model was made for."""


class VLLMSettings(ModelSettings):
    """A vLLM server: one that runs already, or one that the service starts."""

    base_url: HttpUrl | None = None
    """Of a running server, such as http://127.0.0.1:8000/v1; null: the service starts its own."""
    served_name: str | None = None
    """What a running server calls the model; null: by `model`."""
    verify: bool = False
    """Refuse every answer of a running server that does not carry this teacher's digest."""
    api_key_env: str | None = None
    """The variable that holds a running server's key; null for one that wants none."""
    python: str | None = None
    """The interpreter of the environment that vLLM is installed in; null: the service's own."""
    arguments: tuple[str, ...] = ()
    """More of vLLM's own, such as --max-model-len, 8192. What may change answers (--quantization)
    is part of what defines the teacher.
    """
    environment: dict[str, str] = {}
    """More variables for it, such as CUDA_VISIBLE_DEVICES."""
    batch_invariant: bool = False
    """Answers that do not depend on what else is asked (VLLM_BATCH_INVARIANT=1, a GPU of compute
    capability 8.0); of a running server, whether it does that. Kept beside each answer.
    """
    start_timeout_s: Annotated[float, Field(gt=0)] = 1800
    """From its start to its first token, download included."""
    hang_timeout_s: Annotated[float, Field(gt=0)] = 300
    """Without an answer for so long, it is asked for one token; if that takes as long, it is
    started again.
    """
    max_concurrency: Annotated[int, Field(ge=1)] = 256
    """Requests at one time: vLLM makes its own batches of them."""
    attempt_timeout_s: Annotated[float, Field(gt=0)] = 600
    """For one request upstream."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 1800
    """For one completion, with retries, pauses, and waiting for a server that starts again."""


class AzureEndpoint(Section):
    """One deployment of one Azure OpenAI resource."""

    endpoint: HttpUrl | None = None
    """Such as https://NAME.openai.azure.com; null: there is none."""
    api_version: Annotated[str, Field(min_length=1)] = "2024-10-21"
    """Of Azure's API, not of the model."""
    deployment: str | None = None
    """Its name; null: the model's."""
    model: str | None = None
    """What is deployed there, where it is not the section's `model`."""
    version: str | None = None
    """Its version, where it is not the section's."""
    api_key_env: str | None = None
    """The variable with this resource's own key; null: as the section says."""


class AzureSettings(Section):
    """A model in Azure OpenAI, by key or by Entra ID, with a second endpoint to fall back on."""

    provider: Annotated[str, Field(min_length=1)] = "openai"
    """Whose model it is: the same model from OpenAI itself is the same teacher."""
    model: Annotated[str, Field(min_length=1)] = "gpt-4o-mini"
    """What is deployed: with `provider` and `version`, what defines the teacher."""
    version: Annotated[str, Field(min_length=1)] = "2024-07-18"
    """Declared, and checked against each reply, which names MODEL-VERSION."""
    accepted_models: tuple[str, ...] = ()
    """Other names by which a reply may call this very model, such as an older one's bare name."""
    primary: AzureEndpoint = AzureEndpoint()
    secondary: AzureEndpoint = AzureEndpoint()
    """Asked when the primary is out of order or at its limit; no endpoint: no failover."""
    allow_mixed_teachers: bool = False
    """Fail over to another model or version; the two together are a teacher of their own then."""
    rest_s: Annotated[float, Field(gt=0)] = 30
    """How long an endpoint that failed is left alone, unless it says how long itself."""
    api_key_env: str | None = "AZURE_OPENAI_API_KEY"
    """The variable that holds the key; null: Entra ID."""
    client_id: str | None = None
    """Entra ID: the managed identity's client; null: whatever identity the machine offers."""
    scope: Annotated[str, Field(min_length=1)] = "https://cognitiveservices.azure.com/.default"
    """Entra ID: what the token is asked for."""
    max_concurrency: Annotated[int, Field(ge=1)] = 32
    """Requests upstream at one time."""
    attempt_timeout_s: Annotated[float, Field(gt=0)] = 120
    """For one request upstream."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 600
    """For one completion with all its retries, pauses included."""


PLAIN = "plain"
"""The chat template that adds nothing."""

PLAIN_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ message['content'] }}{% if not loop.last %}\n\n{% endif %}"
    "{% endfor %}"
)


def chat_template_text(setting: str) -> str:
    """The template that a setting other than null names.

    Raises:
        OSError: Its file cannot be read.
    """
    return PLAIN_TEMPLATE if setting == PLAIN else Path(setting).read_text(encoding="utf-8")
