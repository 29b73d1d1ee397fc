from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import httpx2
import pytest
from hash_embedder import HashEmbedder
from http_serving import connected, message, search, serving
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import retrieval.search
from retrieval.workspace import Workspace
from server.http import HttpServer
from server.logs import LogFormat, configure_logs

SECRET = "shoptalk_wombatwombatwombat"


def page(server: HttpServer, path: str) -> httpx2.Response:
    return httpx2.get(server.url.removesuffix("/mcp") + path)


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Loggers that a test may configure; they are as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("shoptalk")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def test_ready_once_every_model_is_loaded_and_alive_before(hashed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def load(*_: object) -> HashEmbedder:
        go.wait(20)
        return HashEmbedder()

    monkeypatch.setattr(retrieval.search, "load_embedder", load)
    with serving(hashed) as server:
        assert page(server, "/healthz").text == "ok\n"
        early = page(server, "/readyz")
        assert (early.status_code, early.json()) == (503, {"ready": False, "why": ["a model is being loaded"]})
        go.set()
        while (late := page(server, "/readyz")).status_code != 200:
            assert late.json()["why"] == ["a model is being loaded"]
        assert late.json() == {"ready": True, "why": []}


def test_not_ready_without_an_index_or_with_a_broken_one_and_says_no_path(hashed: Workspace) -> None:
    index = hashed.index_dir("handbook")
    manifest = index / "g000001" / "manifest.json"
    manifest.write_text("{}")
    with serving(hashed) as server:
        broken = page(server, "/readyz")
        assert (broken.status_code, broken.json()["why"]) == (503, ["an index cannot be opened"])
        (index / "CURRENT").unlink()
        missing = page(server, "/readyz")
        assert (missing.status_code, missing.json()["why"]) == (503, ["an index is missing"])
        assert str(hashed.root) not in broken.text + missing.text
        assert "shoptalk_model_ready" in page(server, "/metrics").text


@pytest.mark.anyio
async def test_metrics_tell_requests_stages_degraded_and_age(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hashed) as server:
        async with connected(server) as client:
            await client.call_tool("search_corpus", {"query": "paid holiday"})
            await client.call_tool("search_corpus", {"query": "paid holiday", "top_k": 99})
            await client.call_tool("no_such_tool", {})
            monkeypatch.setattr(HashEmbedder, "encode_queries", fail)
            less = await client.call_tool("search_corpus", {"query": "another query, as that one is known"})
            assert less.structured_content["degraded"]
        text = page(server, "/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    calls = 'shoptalk_requests_total{method="tools/call",outcome="%s",tool="%s"}'
    assert values[calls % ("ok", "search_corpus")] == "2.0"
    assert values[calls % ("refused", "search_corpus")] == "1.0"
    assert values[calls % ("refused", "other")] == "1.0" and "no_such_tool" not in text
    for stage, count in {"encode": 2, "dense": 1, "lexical": 2, "fuse": 2, "hits": 2, "total": 3}.items():
        assert float(values[f'shoptalk_search_seconds_count{{stage="{stage}"}}']) == count, stage
    assert values["shoptalk_degraded_searches_total"] == "1.0"
    assert float(values['shoptalk_index_age_seconds{corpus="handbook"}']) >= 0
    assert float(values['shoptalk_index_passages{corpus="handbook"}']) == 3
    assert values['shoptalk_model_ready{corpus="handbook"}'] == "1.0"
    assert values["shoptalk_requests_queued"] == values["shoptalk_requests_in_flight"] == "0.0"


def fail(*_: object) -> None:
    from retrieval.errors import ModelError

    raise ModelError(f"the model is gone, as is {SECRET}")


def test_stages_are_spans_under_the_call_that_caused_them(hashed: Workspace) -> None:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serving(hashed) as server:
        assert httpx2.post(server.url, **search(f"holiday {SECRET}")).status_code == 200
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans["tools/call search_corpus"]
    for stage in ("encode", "dense", "lexical", "fuse", "hits"):
        span = spans[f"search {stage}"]
        assert span.parent is not None and call.context is not None
        assert span.parent.span_id == call.context.span_id, stage
    assert SECRET not in str([span.to_json() for span in spans.values()])


@pytest.mark.usefixtures("own_logs")
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_logs_tell_each_request_and_nothing_of_what_was_said(
    hashed: Workspace,
    capsys: pytest.CaptureFixture[str],
    log_format: LogFormat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure_logs(log_format, talkative=True)

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError(f"could not parse {SECRET}")

    with serving(hashed) as server:
        httpx2.post(server.url, **search(f"paid holiday {SECRET}", Authorization=f"Bearer {SECRET}"))
        httpx2.get(f"{server.url}/{SECRET}?token={SECRET}")
        httpx2.get(f"{server.url}?token={SECRET}")
        httpx2.post(server.url, **message("tools/call", {"name": SECRET, "arguments": {"a": SECRET}}))
        monkeypatch.setattr(retrieval.search.SearchEngine, "search", explode)
        httpx2.post(server.url, **search(SECRET))
        page(server, "/healthz")
    logged = capsys.readouterr().err
    assert SECRET not in logged and "holiday" not in logged and "thirty days" not in logged
    assert "RuntimeError" in logged and "in explode" in logged
    if log_format == "json":
        lines = [json.loads(line) for line in logged.splitlines()]
        (first,) = [line for line in lines if line.get("outcome") == "ok"]
        assert (first["message"], first["status"], first["call"]) == ("POST /mcp", 200, "tools/call search_corpus")
        assert first["ms"] > 0 and first["time"].endswith("+00:00") and first["client"] == "127.0.0.1"
        assert not [line for line in lines if "healthz" in line["message"]]
    else:
        assert "INFO shoptalk.access: POST /mcp status=200 ms=" in logged


@pytest.mark.usefixtures("own_logs")
def test_a_header_cannot_steer_the_terminal_of_who_reads_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("text", talkative=True)
    logging.getLogger("x").warning("Invalid Host header: %s", "a\x1b[2Jb\u202e")
    assert capsys.readouterr().err == "WARNING x: Invalid Host header: a\ufffd[2Jb\ufffd\n"
