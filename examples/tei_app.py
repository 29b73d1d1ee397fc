"""Serve the model in use in a workspace to other machines, as Text Embeddings Inference would.

    python examples/tei_app.py WORKSPACE [--host 127.0.0.1] [--port 8080]

It speaks the part of that server's wire format that Shoptalk's own client uses (``GET /info``, ``GET /health``,
``POST /embed``), so that ``[model] endpoint = "http://127.0.0.1:8080"`` reaches it. It serves what Text Embeddings
Inference cannot (static models, those of packages), tells the prompts its model wants, and names its weights by their
fingerprint. SHOPTALK_ENDPOINT_KEY, where set, must come with each request as a bearer token.

`modal_app.py` puts the same application on a serverless GPU.
"""

from __future__ import annotations

import argparse
import hmac
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from retrieval.errors import ModelError, ShoptalkError
from retrieval.local_embedder import LocalEmbedder, load_model
from retrieval.models import history
from retrieval.workspace import Workspace

KEY_VARIABLE = "SHOPTALK_ENDPOINT_KEY"
MOST_TEXTS = 64
MOST_BYTES = 2_000_000
MOST_WAITING = 64
"""Requests that may wait for the model; who comes later is told to come back, which the client does."""
STATUS = {"validation": 422, "size": 413, "overloaded": 429, "unauthorized": 401}


class Question(BaseModel):
    """What ``/embed`` takes. Vectors are always of length 1, and texts are taken as they come: no prompt is added."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: str | list[str] = Field(min_length=1)
    truncate: bool = False
    normalize: Literal[True] = True


class Refused(Exception):
    """A request is not served; ``kind`` is one of STATUS."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def application(workspace: Workspace, key: str = "") -> Starlette:
    """Load the model and return the ASGI application.

    Args:
        workspace: whose model it is; its ``model.endpoint`` is not asked, as this is what stands behind it.
        key: what each request but ``/health`` must bring; "" for nothing.

    Raises:
        ModelError: the model cannot be loaded, or not be served without its prompts.
    """
    return _Server(workspace, key).application


class _Server:
    def __init__(self, workspace: Workspace, key: str) -> None:
        model, reference, compute = load_model(workspace, history(workspace)[0])
        if any(getattr(module, "include_prompt", True) is False for module in model):
            raise ModelError(f"model {reference} leaves its prompt out of its pooling, which needs it beside its texts")
        identity = LocalEmbedder(model, reference, compute).fingerprint
        prompts = {name: model.prompts[name] for name in ("query", "document")}
        model.prompts = {}  # the client puts them before the texts
        self._embedder = LocalEmbedder(model, reference, compute, workspace.model.batch_size)
        self._key = f"Bearer {key}".encode() if key else b""
        self._info = {
            "model_id": reference,
            "model_sha": identity,
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": "sentence-transformers"}},
            "max_input_length": self._embedder.max_tokens,
            "max_client_batch_size": MOST_TEXTS,
            "prompts": prompts,
        }
        routes = [
            Route("/health", self._health),
            Route("/info", self._tell),
            Route("/embed", self._embed, methods=["POST"]),
        ]
        self.application = Starlette(
            routes=routes, exception_handlers={Refused: _refuse}, lifespan=lambda _: self._running()
        )

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        # One batch after another: it takes all cores, or the whole of a GPU.
        self._turn = anyio.CapacityLimiter(1)
        yield

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("")

    async def _tell(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(self._info)

    async def _embed(self, request: Request) -> Response:
        self._check_key(request)
        try:
            question = Question.model_validate_json(await _body(request))
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            raise Refused("validation", f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
        texts = [question.inputs] if isinstance(question.inputs, str) else question.inputs
        if len(texts) > MOST_TEXTS:
            raise Refused("size", f"batch size {len(texts)} > maximum allowed batch size {MOST_TEXTS}")
        if self._turn.statistics().tasks_waiting >= MOST_WAITING:
            raise Refused("overloaded", "Model is overloaded")
        vectors = await anyio.to_thread.run_sync(self._encode, texts, question.truncate, limiter=self._turn)
        return JSONResponse(vectors)

    def _encode(self, texts: list[str], truncate: bool) -> list[list[float]]:
        if not truncate:
            longest = max(self._embedder.count_tokens(texts))
            if longest > self._embedder.max_tokens:
                raise Refused("size", f"an input has {longest} tokens, more than {self._embedder.max_tokens}")
        vectors: list[list[float]] = self._embedder.encode_documents(texts).tolist()
        return vectors

    def _check_key(self, request: Request) -> None:
        if self._key and not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._key):
            raise Refused("unauthorized", "the key is missing or wrong")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise Refused("size", f"the request is larger than {MOST_BYTES} bytes")
    return bytes(body)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    kind = "validation" if error.kind == "size" else error.kind
    return JSONResponse({"error": str(error), "error_type": kind}, STATUS[error.kind])


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", metavar="WORKSPACE", help="the folder with shoptalk.toml and models/")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    key = os.environ.get(KEY_VARIABLE, "")
    if not key and arguments.host not in ("127.0.0.1", "::1", "localhost"):
        parser.error(f"beyond this machine a key is needed; set {KEY_VARIABLE}")
    try:
        served: Any = application(Workspace.open(arguments.workspace), key)
    except ShoptalkError as error:
        sys.exit(f"Error: {error}")
    uvicorn.run(served, host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
