"""A local server that speaks the Messages API from a script: loopback only, JSON and SSE.

    with MessagesServer([tool_use("search_corpus", query="leave"), text("Ten weeks.")]) as server:
        client = server.client()

Each request takes the next item of the script: a Reply, a Fault, or a function of the request's body
that returns one. Requests are recorded, and refused with a 400 where the real API would refuse them.
``/v1/models`` lists ``models``, as :func:`model` makes them. With ``caching`` the input tokens are counted
by the rules of the API's prompt cache. ``seconds`` tells how long each answer took to make, and with ``at_once``
it is sent in one piece, so that nothing is made while it is read.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from loopback import Loopback
from messages_rules import Block, Cache, prefix_of, problem_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

KEY = "sk-ant-test-0123456789"
_ids = count(1)


@dataclass(frozen=True)
class Reply:
    """A whole message. ``cut_json`` drops the end of the tool arguments on their way.

    A call's ``arguments``, if it has any, are sent as they stand in place of its ``input``.
    """

    content: list[Block]
    stop_reason: str = "end_turn"
    output_tokens: int = 20
    stop_details: Block | None = None
    cut_json: bool = False


@dataclass(frozen=True)
class Fault:
    """A failure: an HTTP status, or a stream of ``reply`` that ends after ``after`` events in the manner of ``kind``.

    status: ``status`` with the API's error body. reset: the connection is reset. eof: it is closed in
    good order. error: an SSE error event of ``type``. empty: a 200 without a body. json: a 200 with
    JSON in answer to a stream request. hang: silence until the server closes. drip: pings without
    end, so that no read ever times out. open: the stream is whole, and the connection stays open after it.
    """

    kind: Literal["status", "reset", "eof", "error", "empty", "json", "hang", "drip", "open"]
    status: int = 200
    type: str = "overloaded_error"
    headers: dict[str, str] = field(default_factory=dict)
    reply: Reply = field(default_factory=lambda: text("Ten weeks."))
    after: int = 3
    message: str = "scripted failure"


Step = Reply | Fault | Callable[[Block], "Reply | Fault"]


def text(*parts: str | Block, stop_reason: str = "end_turn", output_tokens: int = 20) -> Reply:
    """An answer in words; a part may be a block, as :func:`cited` makes them."""
    blocks = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return Reply(blocks, stop_reason, output_tokens)


def cited(words: str, *citations: Block) -> Block:
    """A text block with citations."""
    return {"type": "text", "text": words, "citations": list(citations)}


def location(index: int, source: str, cited_text: str, start: int = 0, end: int = 1) -> Block:
    """A citation of a search result."""
    return {
        "type": "search_result_location",
        "search_result_index": index,
        "source": source,
        "title": None,
        "cited_text": cited_text,
        "start_block_index": start,
        "end_block_index": end,
    }


def call(tool: str, **arguments: Any) -> Block:
    """A tool call."""
    return {"type": "tool_use", "id": f"toolu_{next(_ids):04}", "name": tool, "input": arguments}


def tool_use(tool: str, thinking: str = "Let me look.", **arguments: Any) -> Reply:
    """A turn that thinks, then calls one tool."""
    return Reply([thought(thinking), call(tool, **arguments)], "tool_use")


def thought(words: str) -> Block:
    """A signed thinking block."""
    return {"type": "thinking", "thinking": words, "signature": f"signed-{len(words)}"}


def model(name: str, line: str, created: str, lifecycle: str = "active", retires: str | None = None) -> Block:
    """A model as the models API tells of it."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "line": line,
        "created_at": f"{created}T00:00:00Z",
        "lifecycle": lifecycle,
        "retires_at": retires and f"{retires}T00:00:00Z",
        "deprecated_at": None,
        "capabilities": None,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }


def search_results(body: Block) -> list[Block]:
    """All search_result blocks of a request, in the order that citations count them."""
    return [part for result in tool_results(body) for part in result["content"] if part["type"] == "search_result"]


def tool_results(body: Block) -> list[Block]:
    """All tool_result blocks of a request."""
    blocks = [block for message in body["messages"] if message["role"] == "user" for block in message["content"]]
    return [block for block in blocks if block["type"] == "tool_result"]


class MessagesServer(Loopback):
    """The server, in threads of its own; a context manager."""

    def __init__(self, script: Sequence[Step] = (), models: Sequence[Block] = (), caching: bool = False) -> None:
        self.script: list[Step] = list(script)
        self.models = list(models)
        self.cache = Cache() if caching else None
        self.reached = threading.Event()
        self.at_once = False
        self.seconds: list[float] = []
        self._signed: set[str] = set()
        self.requests: list[Block] = []
        self.headers: list[dict[str, str]] = []
        self.complaints: list[str] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_state = owner

        super().__init__(Handler)

    def client(self, **options: Any) -> AsyncAnthropic:
        """A client of this server that checks each response against the SDK's schema."""
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(api_key=KEY, base_url=self.url, _strict_response_validation=True, **options)

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        super().__exit__(*error)
        assert not self.complaints, self.complaints

    def take(self, body: Block, headers: dict[str, str]) -> Reply | Fault:
        """Record a request and say what to answer."""
        with self.lock:
            self.requests.append(body)
            self.headers.append(headers)
            problem = problem_of(body) or self._broken_signature(body)
            if problem:
                self.complaints.append(problem)
                return Fault("status", 400, "invalid_request_error", message=problem)
            if not self.script:
                self.complaints.append("a request came after the end of the script")
                return Fault("status", 400, "invalid_request_error", message="the script is at its end")
            step = self.script.pop(0)
            self._signed.add(prefix_of(body, len(body["messages"])))
        return step if isinstance(step, Reply | Fault) else step(body)

    def _broken_signature(self, body: Block) -> str:
        """Thinking is signed together with all that stood before it."""
        for place, message in enumerate(body["messages"]):
            thinks = any(block["type"] == "thinking" for block in message["content"])
            if thinks and prefix_of(body, place) not in self._signed:
                return f"messages.{place}: thinking blocks must not be changed, nor what comes before them"
        return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: MessagesServer
    began = 0.0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        models = self.server_state.models
        self.close_connection = True
        if path == "/v1/models" and models:
            listed = [model for model in models if "lifecycle" not in query or model["lifecycle"] in query]
            self._send_json(200, {"data": listed, "has_more": False, "first_id": None, "last_id": None})
            return
        for model in models:
            if path == f"/v1/models/{model['id']}":
                self._send_json(200, model)
                return
        self._send_error(404, "not_found_error", f"no {path}", {})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        self.began = time.perf_counter()
        body = json.loads(data)
        if self.path.partition("?")[0] != "/v1/messages":
            self._send_error(404, "not_found_error", f"no route {self.path}", {})
            return
        step = self.server_state.take(body, {name.lower(): value for name, value in self.headers.items()})
        self.close_connection = True
        try:
            if isinstance(step, Reply):
                self._send_reply(step, body)
            else:
                self._fail(step, body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _send_reply(self, reply: Reply, body: Block) -> None:
        if not body.get("stream"):
            self._send_json(200, _message(reply, body))
            return
        self._start_stream()
        usage = None if self.server_state.cache is None else self.server_state.cache.count(body)
        pieces = (_sse(event) for event in _events(reply, body, usage))
        if self.server_state.at_once:
            pieces = iter([b"".join(pieces)])
            self.server_state.seconds.append(time.perf_counter() - self.began)
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()

    def _fail(self, fault: Fault, body: Block) -> None:
        if fault.kind == "status":
            self._send_error(fault.status, fault.type, fault.message, fault.headers)
        elif fault.kind == "empty":
            self._send(200, b"", "text/event-stream", {})
        elif fault.kind == "json":
            self._send_json(200, _message(fault.reply, body))
        else:
            self._start_stream()
            for number, event in enumerate(_events(fault.reply, body)):
                if number < fault.after or fault.kind == "open":
                    self._send_event(event)
            self._end_stream(fault)

    def _end_stream(self, fault: Fault) -> None:
        if fault.kind == "error":
            error = {"type": "error", "error": {"type": fault.type, "message": fault.message}, "request_id": "req_test"}
            self._send_event(error)
        elif fault.kind in ("hang", "open"):
            self.server_state.reached.set()
            self.server_state.closing.wait()
        elif fault.kind == "drip":
            while not self.server_state.closing.wait(0.01):
                self._send_event({"type": "ping"})
        elif fault.kind == "reset":
            # Linger 0 makes close() send RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.rfile.close()
            self.connection.close()

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("request-id", "req_test")
        self.send_header("connection", "close")
        self.end_headers()

    def _send_event(self, event: Block) -> None:
        self.wfile.write(_sse(event))
        self.wfile.flush()

    def _send_error(self, status: int, kind: str, message: str, headers: dict[str, str]) -> None:
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_test"}
        self._send(status, json.dumps(error).encode(), "application/json", headers)

    def _send_json(self, status: int, value: Block) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", {})

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "request-id": "req_test", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)


def event_count(reply: Reply) -> int:
    """How many SSE events a reply is, message_stop included."""
    return sum(1 for _ in _events(reply, {"model": ""}))


def _sse(event: Block) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _message(reply: Reply, body: Block) -> Block:
    return {
        "id": f"msg_{next(_ids):04}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": reply.content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
        "usage": {
            "input_tokens": 100,
            "output_tokens": reply.output_tokens,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 70,
        },
    }


def _events(reply: Reply, body: Block, usage: Block | None = None) -> Iterator[Block]:
    """The SSE events of a message, in the API's order."""
    start = _message(reply, body) | {"content": [], "stop_reason": None, "stop_details": None}
    start["usage"] = start["usage"] | (usage or {}) | {"output_tokens": 1}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(reply.content):
        yield {"type": "content_block_start", "index": index, "content_block": _opening(block)}
        for delta in _deltas(block, reply.cut_json):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": reply.stop_reason, "stop_sequence": None, "stop_details": reply.stop_details}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": reply.output_tokens}}
    yield {"type": "message_stop"}


def _opening(block: Block) -> Block:
    if block["type"] == "text":
        return {"type": "text", "text": ""} | ({"citations": []} if block.get("citations") else {})
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    if block["type"] == "tool_use":
        return {key: value for key, value in block.items() if key != "arguments"} | {"input": {}}
    return block


def _deltas(block: Block, cut_json: bool) -> Iterator[Block]:
    if block["type"] == "text":
        yield from ({"type": "citations_delta", "citation": citation} for citation in block.get("citations", ()))
        words = block["text"]
        yield from ({"type": "text_delta", "text": words[at : at + 12]} for at in range(0, len(words), 12))
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "tool_use":
        arguments = block.get("arguments") or json.dumps(block["input"])
        arguments = arguments[: len(arguments) // 2] if cut_json else arguments
        yield {"type": "input_json_delta", "partial_json": ""}
        yield from (
            {"type": "input_json_delta", "partial_json": arguments[at : at + 9]} for at in range(0, len(arguments), 9)
        )
