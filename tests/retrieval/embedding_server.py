"""A real HTTP server on loopback that embeds: TEI's, OpenAI's and Hugging Face's protocols, with faults on order."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import Loopback

from retrieval.embedders import Embedder

Answer = tuple[int, dict[str, str], Any]
Fault = Callable[[BaseHTTPRequestHandler, Any], Answer | None]


@dataclass
class EmbeddingServer:
    """Serves ``embedder`` without prompts of its own. ``faults`` are used up one a request, then all is well."""

    embedder: Embedder
    info: dict[str, Any] = field(default_factory=lambda: {"model_id": "acme/plain", "model_sha": "abc"})
    limit: int = 1000
    wrapped: bool = False
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def __enter__(self) -> EmbeddingServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self, None)

            def do_POST(self) -> None:
                outer._serve(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def log_message(self, *_: Any) -> None:
                pass

        self._loopback = Loopback(Handler).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go away: connections are refused from now on."""
        self._loopback.__exit__()

    @property
    def url(self) -> str:
        return self._loopback.url

    def _serve(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        self.asked.append((handler.path, body))
        self.keys.append(handler.headers.get("authorization", ""))
        answer = self.faults.popleft()(handler, body) if self.faults else self.answer(handler.path, body)
        if answer is None:  # the fault cut the connection
            handler.close_connection = True
            return
        status, headers, value = answer
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        for name, text in {**headers, "content-length": str(len(content)), "connection": "close"}.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(content)

    def answer(self, path: str, body: Any) -> Answer:
        """What a healthy server says."""
        if path == "/info":
            return 200, {}, self.info
        if path in ("/embed", "/"):
            texts = body["inputs"]
        elif path == "/v1/embeddings":
            texts = body["input"]
        else:
            return 404, {}, {"error": "not found"}
        if len(texts) > self.limit:
            return 413, {}, {"error": "too large"}
        # Not of length 1: a client has to see to that.
        vectors = (3 * self.embedder.encode_queries(texts)).tolist()
        if path == "/v1/embeddings":
            rows = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
            return 200, {}, {"object": "list", "data": rows[::-1]}
        return 200, {}, {"embeddings": vectors} if self.wrapped else vectors


def status(code: int, **headers: str) -> Fault:
    """Answer with ``code``."""
    return lambda _, __: (code, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": "fault"})


def says(value: Any) -> Fault:
    """Answer 200 with ``value``."""
    return lambda _, __: (200, {}, value)


def cut(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Promise an answer and close the connection in its midst."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[[0.1,")
    handler.wfile.flush()
