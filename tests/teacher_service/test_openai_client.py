"""The official client, unchanged, against the service."""

import asyncio

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "The lead of project Zeta is Anna.\n\nWho leads project Zeta?"},
]


@pytest.fixture
def client(service):
    """The official client, with its own retries off."""
    with OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_chat_completion_and_its_repeat(client):
    """The repeat has the same id, text and time of creation, and comes from the store."""
    raw = client.chat.completions.with_raw_response
    first = raw.create(model="gpt-35-turbo", messages=MESSAGES, temperature=0, seed=42)
    again = raw.create(model="gpt-35-turbo", messages=MESSAGES, temperature=0, seed=42)
    assert first.parse() == again.parse()
    assert first.parse().model == "gpt-35-turbo"
    assert first.parse().choices[0].finish_reason == "stop"
    assert first.parse().usage.total_tokens > first.parse().usage.completion_tokens > 0
    assert first.headers["Cache-Status"].startswith("taco; fwd=miss; stored; key=")
    assert again.headers["Cache-Status"].startswith("taco; hit; key=")


def test_n_choices_are_n_completions(client, service):
    """Each has a sample index of its own, so that asking for more later repeats the first ones."""
    two = client.chat.completions.create(model="builtin", messages=MESSAGES, n=2)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert service.since_start()["backend_calls"] == 2
    three = client.chat.completions.create(model="builtin", messages=MESSAGES, n=3)
    assert len(three.choices) == 3
    assert service.since_start()["backend_calls"] == 3


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_adds_up_to_the_completion(client, n):
    """Same text, same reason for the end; usage comes last, where it is asked for."""
    whole = client.chat.completions.create(model="builtin", messages=MESSAGES, n=n)
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="builtin", messages=MESSAGES, n=n, stream=True, stream_options=options
        )
    )
    texts, reasons = [""] * n, [None] * n
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == ["stop"] * n
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {whole.id}


def test_a_stream_without_options_ends_without_usage(client):
    """As OpenAI has it."""
    stream = client.chat.completions.create(model="builtin", messages=MESSAGES, stream=True)
    assert [chunk.usage for chunk in stream] == [None, None]


def test_plain_completions_of_several_prompts(client):
    """Choices come prompt by prompt, n for each."""
    reply = client.completions.create(model="builtin", prompt=["a", "b"], n=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.object == "text_completion"
    streamed = client.completions.create(model="builtin", prompt="a", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == reply.choices[0].text


def test_token_prompts_are_beyond_the_builtin_teacher(client):
    """It says so, instead of answering something else."""
    with pytest.raises(openai.BadRequestError, match="plain text"):
        client.completions.create(model="builtin", prompt=[1, 2, 3])


@pytest.mark.parametrize("prompt", [[], [[]], [1, "a"], None])
def test_a_prompt_of_nothing_is_a_bad_request(client, prompt):
    """The field is named."""
    with pytest.raises(openai.BadRequestError, match="prompt"):
        client.completions.create(model="builtin", prompt=prompt)


def test_models_are_listed_and_found(client):
    """The names of the settings."""
    assert [model.id for model in client.models.list()] == ["gpt-35-turbo", "builtin"]
    assert client.models.retrieve("builtin").id == "builtin"
    with pytest.raises(openai.NotFoundError, match="served are: gpt-35-turbo, builtin"):
        client.models.retrieve("gpt-5")


def test_an_unknown_model_is_named_with_what_is_served(client):
    """OpenAI's own code for it."""
    with pytest.raises(openai.NotFoundError, match="served are: gpt-35-turbo, builtin") as caught:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert caught.value.type == "invalid_request_error"


def test_a_bad_request_names_the_field(client):
    """The client raises its own exception, with the parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="builtin", messages=MESSAGES, n=0)
    assert caught.value.param == "n"


def test_the_async_client_works_as_well(service):
    """Whole and streamed."""

    async def ask():
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any") as client:
            create = client.chat.completions.create
            whole = await create(model="builtin", messages=MESSAGES)
            stream = await create(model="builtin", messages=MESSAGES, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return whole.choices[0].message.content, text

    whole, streamed = asyncio.run(ask())
    assert whole == streamed != ""


def test_a_replay_miss_is_not_asked_again_by_the_client(start, run_service):
    """`x-should-retry: false` stops the client's own retries of a 504."""
    with run_service() as recorder:
        recorder.chat("one")
    replay = start(mode="replay")
    with (
        OpenAI(base_url=f"{replay.url}/v1", api_key="any", max_retries=5) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="builtin", messages=MESSAGES)
    assert caught.value.status_code == 504
    assert caught.value.type == "cache_miss"
    assert replay.since_start()["requests"] == 1
