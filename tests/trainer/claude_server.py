"""A local server that speaks the Messages API and its batches, for short structured answers: loopback only.

Each request is answered by ``answer(passage)``; what is sent is checked as the real API checks it, and what goes
back is checked against the SDK's own types. ``faults`` are statuses that the next requests get instead;
``unfit(passage)`` says whether a message about it is refused, whenever it is sent. Of a
batch, ``outcome(passage)`` says what becomes of each request; its id is not told before ``told`` is set, and it
does not end before ``ended`` is set.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from loopback import Loopback

Value = dict[str, Any]
_DATE = "2026-11-01T00:00:00Z"
_PASSAGE = re.compile(r"\A-----BEGIN PASSAGE (\w+)-----\n(.*)\n-----END PASSAGE \1-----\Z", re.DOTALL)


def questions(*texts: str) -> str:
    return json.dumps({"questions": texts})


def about(passage: str) -> str:
    """A question in the passage's own words, and one that no document answers."""
    return questions(f"what is {' '.join(passage.split()[-9:])}", f"unheard {passage.split()[-1][::-1]} nonsense")


class ClaudeServer(Loopback):
    def __init__(self, answer: Callable[[str], str] = about) -> None:
        self.answer = answer
        self.outcome: Callable[[str], str] = lambda passage: "succeeded"
        self.faults: list[int] = []
        self.unfit: Callable[[str], bool] = lambda passage: False
        self.stop_reason = "end_turn"
        self.requests: list[str] = []
        self.keys: set[str] = set()
        self.asked: list[Value] = []
        self.batches: dict[str, list[Value]] = {}
        self.ended = threading.Event()
        self.ended.set()
        self.created = threading.Event()
        self.told = threading.Event()
        self.told.set()
        self.cut_results = 0
        self.hang_after: int | None = None
        self.hanging = threading.Event()
        self.closing = threading.Event()
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            api = owner

        super().__init__(Handler)

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        super().__exit__(*error)

    @property
    def passages(self) -> list[str]:
        """What was asked about, one by one and in batches."""
        return [passage_of(params) for params in self.asked]

    def message(self, params: Value) -> Value:
        from anthropic.types import Message

        value = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": self.answer(passage_of(params))}],
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 500, "output_tokens": 50},
        }
        Message.model_validate(value)
        return value

    def batch(self, name: str) -> Value:
        from anthropic.types.messages import MessageBatch

        size, ended = len(self.batches[name]), self.ended.is_set()
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        value = {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts | {"succeeded" if ended else "processing": size},
            "created_at": _DATE,
            "expires_at": _DATE,
            "ended_at": _DATE if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{name}/results" if ended else None,
        }
        MessageBatch.model_validate(value)
        return value

    def results(self, name: str) -> str:
        lines = []
        for request in reversed(self.batches[name]):
            kind = self.outcome(passage_of(request["params"]))
            result: Value = {"type": kind}
            if kind == "succeeded":
                result["message"] = self.message(request["params"])
            elif kind.startswith("errored"):
                error = {"type": kind.partition(":")[2], "message": "scripted"}
                result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": None}}
            lines.append(json.dumps({"custom_id": request["custom_id"], "result": result}))
        return "".join(line + "\n" for line in lines)


def passage_of(params: Value) -> str:
    """The passage of a request; it must stand between its two marked lines, and be all that stands there."""
    match = _PASSAGE.match(params["messages"][0]["content"][0]["text"])
    assert match, params
    return match[2]


def problem(params: Value) -> str:
    """Why the real API would refuse the parameters of a message, "" if it would not."""
    if unknown := params.keys() - {"model", "max_tokens", "system", "messages", "output_config"}:
        return f"{sorted(unknown)}: extra inputs are not permitted"
    form = params["output_config"]["format"]
    if form["type"] != "json_schema" or form["schema"].get("additionalProperties") is not False:
        return "output_config.format.schema: additionalProperties must be false"
    return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ClaudeServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        api, path = self.api, urlsplit(self.path).path
        with api.lock:
            api.requests.append(f"POST {path}")
            api.keys.add(self.headers.get("x-api-key") or self.headers.get("authorization") or "")
            if api.faults:
                self._refuse(api.faults.pop(0), "scripted_error", "scripted")
                return
            entries = body["requests"] if path.endswith("batches") else [{"params": body}]
            for entry in entries:
                if complaint := problem(entry["params"]):
                    self._refuse(400, "invalid_request_error", complaint)
                    return
            if path == "/v1/messages" and api.unfit(passage_of(body)):
                self._refuse(400, "invalid_request_error", "exceeds the context size")
                return
            if api.hang_after is not None and len(api.asked) >= api.hang_after:
                api.hanging.set()
            else:
                api.asked += [entry["params"] for entry in entries]
        if api.hanging.is_set():
            api.closing.wait()
        elif path == "/v1/messages":
            self._send(200, json.dumps(api.message(body)))
        elif path == "/v1/messages/batches":
            ids = [entry["custom_id"] for entry in entries]
            assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", name) for name in ids)
            name = f"msgbatch_{next(_numbers)}"
            api.batches[name] = entries
            api.created.set()
            api.told.wait()
            self._send(200, json.dumps(api.batch(name)))
        else:
            self._refuse(404, "not_found_error", f"no route {path}")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.api.requests.append(f"GET {path}")
        _, _, _, _, name, *rest = path.split("/")
        if name not in self.api.batches:
            self._refuse(404, "not_found_error", "no such batch")
        elif not rest:
            self._send(200, json.dumps(self.api.batch(name)))
        else:
            self._send(200, self.api.results(name), cut=self.api.cut_results > 0)
            self.api.cut_results -= 1

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._send(status, json.dumps({"type": "error", "error": {"type": kind, "message": message}}))

    def _send(self, status: int, text: str, cut: bool = False) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = True


_numbers = count(1)
