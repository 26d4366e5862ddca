"""The transformers backend on tiny random models, on the CPU."""

import asyncio
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from teacher_service import StartError, create_app, load_settings
from teacher_service.backend_settings import TransformersSettings
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.causal_lm import CausalLM
from teacher_service.backends.generation import read_request
from teacher_service.backends.model_files import find_model
from teacher_service.backends.transformers_local import TransformersBackend
from tests.tiny_causal_lm import make_causal_lm

TEXTS = [
    "Hi.",
    "The council met on Tuesday to discuss the budget.",
    "Who leads it? " * 12,
    "a",
    "Die Straße ist zu. 今天的会议。",
    "A resident asked why the bridge is still closed to traffic. " * 3,
]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def folder(request, tmp_path_factory) -> Path:
    """A model of each family."""
    torch.set_num_threads(1)
    return make_causal_lm(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """One model, where its family does not matter."""
    torch.set_num_threads(1)
    return make_causal_lm(tmp_path_factory.mktemp("models") / "teacher", "qwen2")


def _section(folder: Path, **changes) -> TransformersSettings:
    return TransformersSettings(model=str(folder), device="cpu", **changes)


def _load(folder: Path, **changes) -> CausalLM:
    settings = _section(folder, **changes)
    return CausalLM(find_model(settings, "transformers"), settings)


def _chat(content: str, sample_index: int = 0, **fields) -> UpstreamRequest:
    messages = [{"role": "user", "content": content}]
    body = {"model": "teacher", "messages": messages, "max_tokens": 12, **fields}
    return UpstreamRequest("chat/completions", body, sample_index)


def _answers(model: CausalLM, requests: list[UpstreamRequest]):
    prompts = [model.encode(read_request(request)) for request in requests]
    return model.complete(prompts, lambda: False)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_an_answer_does_not_depend_on_its_batch_mates(folder, temperature):
    """Alone, among all, among others: the same text, reason and usage, greedy or drawn."""
    model = _load(folder)
    requests = [
        _chat(text, temperature=temperature, max_tokens=tokens)
        for text in TEXTS
        for tokens in (3, 24)
    ]
    alone = [_answers(model, [request])[0] for request in requests]
    assert len({one.text for one in alone}) > len(alone) / 2
    order = list(range(len(requests)))
    for _ in range(3):
        random.Random(1).shuffle(order)
        for size in (len(order), 5):
            chosen = order[:size]
            together = _answers(model, [requests[place] for place in chosen])
            for place, one in zip(chosen, together, strict=True):
                assert (one.text, one.finish_reason, one.usage) == (
                    alone[place].text,
                    alone[place].finish_reason,
                    alone[place].usage,
                )


def test_greedy_decoding_is_what_transformers_itself_makes(folder):
    """Token for token, through the chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = _load(folder)
    for text in TEXTS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        made = stock.generate(
            prompt, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(prompt)
        )[0, prompt.shape[1] :]
        [ours] = _answers(model, [_chat(text, temperature=0)])
        assert ours.text == tokenizer.decode(made, skip_special_tokens=True)
        assert ours.usage == {
            "prompt_tokens": prompt.shape[1],
            "completion_tokens": len(made),
            "total_tokens": prompt.shape[1] + len(made),
        }


def test_a_drawn_answer_is_the_requests_own(qwen):
    """The same request draws the same text; another seed, or the next choice, another."""
    model = _load(qwen)
    texts = [
        one.text
        for one in _answers(
            model,
            [
                _chat("one", seed=1),
                _chat("one", seed=1, user="somebody else"),
                _chat("one", seed=2),
                _chat("one"),
                _chat("one", sample_index=1),
            ],
        )
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_an_answer_ends_at_the_stop_text_the_end_token_or_the_limit(qwen):
    """`stop` for the first two, with the stop text cut off; `length` for the third."""
    model = _load(qwen)
    [whole] = _answers(model, [_chat("one", temperature=0, max_tokens=30)])
    assert (whole.finish_reason, whole.usage["completion_tokens"]) == ("length", 30)
    mark = whole.text[9:12]
    [cut] = _answers(model, [_chat("one", temperature=0, max_tokens=30, stop=["@@@@", mark])])
    assert cut.text == whole.text[: whole.text.index(mark)]
    assert cut.finish_reason == "stop"
    assert cut.usage["completion_tokens"] < 30
    long = _answers(model, [_chat(str(number), max_tokens=400) for number in range(12)])
    ended = [one for one in long if one.finish_reason == "stop"]
    assert ended
    assert all("<|" not in one.text for one in ended)
    assert all(one.usage["completion_tokens"] < 400 for one in ended)


def test_the_service_answers_with_it_on_every_route(qwen, start):
    """Chat, plain completion and batch; what was made once is a hit, and choices differ."""
    service = start(backend="transformers", transformers={"model": str(qwen), "device": "cpu"})
    first = service.chat("one", temperature=0, max_tokens=5)
    assert first.status_code == 200
    assert first.json()["usage"]["completion_tokens"] == 5
    assert service.chat("one", temperature=0, max_tokens=5).json() == first.json()
    body = {"model": "builtin", "prompt": ["The council", "A resident"], "max_tokens": 4}
    choices = service.http.post("/v1/completions", json=body).json()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["length", "length"]
    items = [{"text": text} for text in TEXTS]
    data = service.batch(items, max_tokens=6, temperature=0).json()["data"]
    assert [item["outcome"] for item in data] == ["completed"] * len(items)
    drawn = service.chat("two", n=4, max_tokens=8).json()["choices"]
    assert len({choice["message"]["content"] for choice in drawn}) == 4
    entry = service.http.get(f"/v1/cache/entries/{data[0]['key']}")
    assert entry.status_code == 200
    provenance = json.dumps(entry.json())
    assert '"transformers"' in provenance
    assert '"float32"' in provenance


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_what_cannot_be_honoured_is_refused(qwen, fields, said):
    """Ignored, it would be stored under a key that promises it."""
    with pytest.raises(Exception, match=said) as caught:
        _load(qwen).encode(read_request(_chat("one", **fields)))
    assert caught.value.status == 400


def test_fields_that_say_as_usual_are_accepted(qwen):
    """Clients send them all the time."""
    usual = {"presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False}
    _load(qwen).encode(read_request(_chat("one", response_format={"type": "text"}, **usual)))


def test_a_prompt_without_room_is_refused_by_its_length(qwen):
    """As an OpenAI server does; one with little room gets a short answer."""
    model = _load(qwen)
    with pytest.raises(Exception, match="512") as caught:
        model.encode(read_request(_chat("x" * 600)))
    assert caught.value.type == "context_length_exceeded"
    [short] = _answers(model, [_chat("x" * 500, temperature=0, max_tokens=100)])
    assert short.usage["total_tokens"] <= 512


def test_the_event_loop_is_free_while_the_model_works(qwen):
    """Torch has a thread of its own."""

    async def ticks_during_a_batch() -> int:
        backend = TransformersBackend(*_files_of(qwen))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        requests = [_chat(text, temperature=0, max_tokens=60) for text in TEXTS]
        groups = [group async for group in backend.complete(requests)]
        ticking.cancel()
        assert sorted(place for group in groups for place, _ in group) == list(range(len(TEXTS)))
        await backend.close()
        return ticks

    assert asyncio.run(ticks_during_a_batch()) > 100


def test_callers_share_batches_and_each_gets_its_own(qwen):
    """A small budget cuts rounds into several batches; a bad request fails alone."""

    async def ask() -> None:
        backend = TransformersBackend(*_files_of(qwen, batch_tokens=300))

        async def one(name: str) -> list[str]:
            requests = [
                *(_chat(f"{name} {text}", temperature=0) for text in TEXTS),
                _chat(name, logit_bias={}),
            ]
            results = {}
            async for group in backend.complete(requests):
                results.update(group)
            assert results.keys() == set(range(len(requests)))
            assert results[len(TEXTS)].status == 400
            return [results[place].text for place in range(len(TEXTS))]

        made = await asyncio.gather(*(one(name) for name in "abc"))
        await backend.close()
        model = _load(qwen)
        for name, texts in zip("abc", made, strict=True):
            alone = [_answers(model, [_chat(f"{name} {text}", temperature=0)])[0] for text in TEXTS]
            assert texts == [one.text for one in alone]

    asyncio.run(ask())


def test_closing_breaks_off_long_answers(qwen):
    """Whoever still waits is told; nothing waits for thousands of tokens."""

    async def ask() -> list[Finished]:
        backend = TransformersBackend(*_files_of(qwen, max_context_tokens=100_000))
        requests = [_chat(f"question {number}", max_tokens=90_000) for number in range(20)]
        asked = asyncio.ensure_future(_all_of(backend.complete(requests)))
        await asyncio.sleep(0.2)
        await backend.close()
        return await asked

    results = [result for _, result in asyncio.run(ask())]
    assert len(results) == 20
    assert any("stopped" in getattr(result, "message", "") for result in results)


async def _all_of(groups) -> list[Finished]:
    return [finished async for group in groups for finished in group]


def test_the_files_define_the_teacher(qwen, tmp_path):
    """Its folder does not; weights, tokenizer, template and dtype do."""
    here = _identity(qwen)
    moved = shutil.copytree(qwen, tmp_path / "teacher")
    assert _identity(moved) == here
    assert _identity(qwen, dtype="bfloat16") != here
    assert _identity(qwen, chat_template="plain") != here
    assert _identity(make_causal_lm(tmp_path / "other", seed=2)) != here
    tokenizer = moved / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert _identity(moved) != here


def test_a_model_without_a_chat_template_asks_for_one(tmp_path):
    """The message says how; `plain` joins the messages, a file is a template."""
    folder = make_causal_lm(tmp_path / "base", template=None)
    with pytest.raises(StartError, match="chat_template: plain"):
        _load(folder)
    plain = _load(folder, chat_template="plain")
    assert plain.encode(read_request(_chat("ab"))).tokens == tuple(
        plain.encode(
            read_request(UpstreamRequest("completions", {"model": "t", "prompt": "ab"}))
        ).tokens
    )
    file = tmp_path / "template.jinja"
    file.write_text("{% for message in messages %}[{{ message['content'] }}]{% endfor %}")
    own = _load(folder, chat_template=str(file))
    assert len(own.encode(read_request(_chat("ab"))).tokens) == 4


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model"])
def test_a_folder_that_is_none_is_a_start_error(name, store_path):
    """It says what was expected."""
    settings = {"backend": "transformers", "transformers": {"model": name}, "store": store_path}
    with pytest.raises(StartError, match=r"config\.json"):
        create_app(load_settings(None, settings))


def test_files_that_cannot_be_loaded_are_a_start_error(qwen, tmp_path, store_path):
    """Weights that are cut short, or none."""
    broken = shutil.copytree(qwen, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    settings = {"backend": "transformers", "transformers": {"model": str(broken)}}
    with pytest.raises(StartError, match="cannot be loaded"):
        create_app(load_settings(None, {**settings, "store": store_path}))
    weights.unlink()
    with pytest.raises(StartError, match="no weights"):
        create_app(load_settings(None, {**settings, "store": store_path}))


def test_code_that_comes_with_a_model_is_not_run(qwen, tmp_path):
    """Unless `trust_remote_code` asks for it."""
    folder = shutil.copytree(qwen, tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    witness = tmp_path / "witness"
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(witness)!r}).touch()")
    with pytest.raises(StartError):
        _load(folder)
    assert not witness.exists()
    with pytest.raises(StartError):
        _load(folder, trust_remote_code=True)
    assert witness.exists()


def test_the_service_itself_never_loads_torch(tmp_path):
    """Not even to serve, as long as no backend needs it."""
    code = (
        "import sys; from teacher_service import create_app, load_settings;"
        f"create_app(load_settings(None, {{'store': {str(tmp_path / 's.sqlite')!r}}}));"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _files_of(folder: Path, **changes):
    settings = _section(folder, **changes)
    return find_model(settings, "transformers"), settings


def _identity(folder: Path, **changes) -> str:
    return find_model(_section(folder, **changes), "transformers").identity.digest
