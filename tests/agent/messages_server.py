"""A local server that speaks the Messages API from a script: loopback only, JSON and SSE.

    with MessagesServer([tool_use("search_corpus", query="leave"), text("Ten weeks.")]) as server:
        client = server.client()

Each request takes the next item of the script: a Reply, a Fault, or a function of the request's body
that returns one. Requests are recorded, and refused with a 400 where the real API would refuse them.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

Block = dict[str, Any]
KEY = "sk-ant-test-0123456789"
_ids = count(1)


@dataclass(frozen=True)
class Reply:
    """A whole message. ``cut_json`` drops the end of the tool arguments on their way."""

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
    end, so that no read ever times out.
    """

    kind: Literal["status", "reset", "eof", "error", "empty", "json", "hang", "drip"]
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


def search_results(body: Block) -> list[Block]:
    """All search_result blocks of a request, in the order that citations count them."""
    return [part for result in tool_results(body) for part in result["content"] if part["type"] == "search_result"]


def tool_results(body: Block) -> list[Block]:
    """All tool_result blocks of a request."""
    blocks = [block for message in body["messages"] if message["role"] == "user" for block in message["content"]]
    return [block for block in blocks if block["type"] == "tool_result"]


class MessagesServer:
    """The server, in threads of its own; a context manager."""

    def __init__(self, script: Sequence[Step] = ()) -> None:
        self.script: list[Step] = list(script)
        self.requests: list[Block] = []
        self.headers: list[dict[str, str]] = []
        self.complaints: list[str] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_state = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """For ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def client(self, **options: Any) -> AsyncAnthropic:
        """A client of this server that checks each response against the SDK's schema."""
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(api_key=KEY, base_url=self.url, _strict_response_validation=True, **options)

    def __enter__(self) -> MessagesServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        assert not self.complaints, self.complaints

    def take(self, body: Block, headers: dict[str, str]) -> Reply | Fault:
        """Record a request and say what to answer."""
        with self.lock:
            self.requests.append(body)
            self.headers.append(headers)
            problem = _problem(body)
            if problem:
                self.complaints.append(problem)
                return Fault("status", 400, "invalid_request_error", message=problem)
            if not self.script:
                self.complaints.append("a request came after the end of the script")
                return Fault("status", 400, "invalid_request_error", message="the script is at its end")
            step = self.script.pop(0)
        return step if isinstance(step, Reply | Fault) else step(body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: MessagesServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
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
        for event in _events(reply, body):
            self._send_event(event)

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
                if number < fault.after:
                    self._send_event(event)
            self._end_stream(fault)

    def _end_stream(self, fault: Fault) -> None:
        if fault.kind == "error":
            error = {"type": "error", "error": {"type": fault.type, "message": fault.message}, "request_id": "req_test"}
            self._send_event(error)
        elif fault.kind == "hang":
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
        self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
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


def _events(reply: Reply, body: Block) -> Iterator[Block]:
    """The SSE events of a message, in the API's order."""
    start = _message(reply, body) | {"content": [], "stop_reason": None, "stop_details": None}
    start["usage"] = start["usage"] | {"output_tokens": 1}
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
    return block | {"input": {}} if block["type"] == "tool_use" else block


def _deltas(block: Block, cut_json: bool) -> Iterator[Block]:
    if block["type"] == "text":
        yield from ({"type": "citations_delta", "citation": citation} for citation in block.get("citations", ()))
        words = block["text"]
        yield from ({"type": "text_delta", "text": words[at : at + 12]} for at in range(0, len(words), 12))
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "tool_use":
        arguments = json.dumps(block["input"])
        arguments = arguments[: len(arguments) // 2] if cut_json else arguments
        yield {"type": "input_json_delta", "partial_json": ""}
        yield from (
            {"type": "input_json_delta", "partial_json": arguments[at : at + 9]} for at in range(0, len(arguments), 9)
        )


def _problem(body: Block) -> str:
    """Why the real API would refuse this request, "" if it would not."""
    for key in ("model", "max_tokens", "messages"):
        if key not in body:
            return f"{key}: field required"
    if body.get("tool_choice", {"type": "auto"})["type"] not in ("auto", "none"):
        return "tool_choice: this model takes auto and none only"
    if {"temperature", "top_p", "top_k"} & body.keys():
        return "sampling parameters are not supported"
    messages = body["messages"]
    if not messages or messages[0]["role"] != "user":
        return "messages: the first message must use the user role"
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str) or not content:
            return f"messages.{number}: content must be blocks, and not empty"
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if results != open_calls:
            return f"messages.{number}: tool_use ids {open_calls} are answered by {results}"
        open_calls = [block["id"] for block in content if block["type"] == "tool_use"]
        for block in _flat(content):
            if block["type"] == "text" and not block["text"].strip():
                return f"messages.{number}: text content blocks must contain non-whitespace text"
            if block["type"] == "thinking" and block["signature"] != f"signed-{len(block['thinking'])}":
                return f"messages.{number}: thinking blocks must not be changed"
            if unknown := block.keys() - _FIELDS[block["type"]]:
                return f"messages.{number}: {sorted(unknown)}: extra inputs are not permitted"
    return f"tool_use ids {open_calls} have no results" if open_calls else ""


_FIELDS = {
    "text": {"type", "text", "citations", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input", "caller", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "search_result": {"type", "source", "title", "content", "citations", "cache_control"},
    "server_tool_use": {"type", "id", "name", "input", "caller", "cache_control"},
}


def _flat(content: list[Block]) -> Iterator[Block]:
    for block in content:
        yield block
        if block["type"] in ("tool_result", "search_result"):
            yield from _flat(block["content"])
