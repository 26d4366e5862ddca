"""The least that a chat route can do: FastAPI parses the body and returns a finished one.

The limit that the service is measured against, and the upstream that it calls on a miss.
"""

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

MODEL = "bare-1"
ANSWER = ("An answer of two hundred bytes. " * 7)[:200]


class Chat(BaseModel):
    """What a chat request needs at least."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]]


def create_app() -> FastAPI:
    """One route."""
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
    body = {
        "id": "chatcmpl-" + 32 * "0",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "system_fingerprint": 64 * "0",
        "choices": [choice],
        "usage": usage,
    }
    app = FastAPI(openapi_url=None)

    @app.post("/v1/chat/completions")
    async def chat(request: Chat) -> Response:
        return Response(json.dumps({**body, "model": request.model}), media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
