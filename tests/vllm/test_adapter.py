"""A LoRA adapter in real vLLM: the teacher that transformers runs with it."""

import pytest

from tests.teacher_service.conftest import running
from tests.tiny_causal_lm import make_adapter
from tests.vllm.conftest import START_S, wait_until_ready

pytestmark = pytest.mark.timeout(2 * START_S)

TEXTS = [{"text": text} for text in ("Hi.", "The council met on Tuesday.", "Who leads it? " * 8)]


def test_an_adapter_is_the_same_teacher_in_both_engines(settings, model, tmp_path):
    """The same digest, the same keys, and here the same texts, which are not the bare model's."""
    adapter = str(make_adapter(tmp_path / "mine", model))
    own = {"model": str(model), "device": "cpu"}
    sections = {
        "vllm": {"vllm": {**settings["vllm"], "adapter": adapter}},
        "transformers": {"transformers": {**own, "adapter": adapter}},
        "bare": {"transformers": own},
    }
    replies = {}
    for name, section in sections.items():
        backend = {"backend": next(iter(section)), "store": tmp_path / f"{name}.sqlite"}
        with running({**backend, **section}) as service:
            wait_until_ready(service)
            replies[name] = service.batch(TEXTS, temperature=0, max_tokens=16).json()
    ours, other = replies["vllm"], replies["transformers"]
    assert ours["teacher"] == other["teacher"] != replies["bare"]["teacher"]
    assert [item["key"] for item in ours["data"]] == [item["key"] for item in other["data"]]
    # A random model may end within a character, whose bytes vLLM then leaves out.
    texts, others, bare = (
        [item["text"].rstrip("\ufffd") for item in replies[name]["data"]] for name in sections
    )
    assert texts == others != bare
