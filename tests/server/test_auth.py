from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from http_serving import HEADERS, connected, message, search, serving, with_settings
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError

import shoptalk
from retrieval.errors import SettingsError
from retrieval.workspace import Workspace
from server.auth import allowed_callers, missing_scope, verifier_of
from server.tokens import TokenFile

ISSUER = "https://login.example.org"
ADDRESS = "https://search.example.org/mcp"
REINDEX = message("tools/call", {"name": "reindex", "arguments": {"wait_seconds": 0}})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def run(root: Path, *arguments: str) -> Any:
    return CliRunner().invoke(shoptalk.command_line, ["-w", str(root), "tokens", *arguments])


# -- the file of tokens


@pytest.fixture
def bare(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    Workspace.create(tmp_path, {"docs": "docs"}, "test/hash")
    return Workspace.open(tmp_path)


def test_a_token_is_told_once_and_only_its_hash_is_kept_for_the_owner_alone(bare: Workspace) -> None:
    result = run(bare.root, "add", "laptop", "--scope", "search", "--expires", "90d")
    assert result.exit_code == 0
    token = result.stdout.strip()
    file = bare.root / ".tokens.json"
    assert token.startswith("shoptalk_") and len(token) > 50
    assert token not in file.read_text() and stat.S_IMODE(os.stat(file).st_mode) == 0o600
    found = TokenFile(bare).find(token)
    assert found is not None and (found.name, found.scopes) == ("laptop", ("search",))
    assert found.expires is not None and found.expires - found.created == timedelta(days=90)
    listed = run(bare.root, "list").stdout
    assert "laptop" in listed and "search" in listed and found.sha256 not in listed and token not in listed


def test_a_revoked_or_expired_or_unknown_token_is_not_found(bare: Workspace) -> None:
    file = TokenFile(bare)
    gone = file.add("gone", ["search"])
    late = file.add("late", ["search"], -1)
    kept = TokenFile(bare).add("kept", ["reindex", "search"])
    run(bare.root, "revoke", "gone")
    assert file.find(gone) is None and file.find(late) is None
    assert file.find("") is None and file.find("shoptalk_" + "a" * 43) is None and file.find("\udcff") is None
    found = file.find(kept)
    assert found is not None and found.scopes == ("search", "reindex")
    assert "expired" in run(bare.root).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "a b", "--scope", "search"], "must be letters"),
        (["add", "one", "--scope", "search"], "there is a token 'one' already"),
        (["add", "two", "--scope", "search", "--expires", "9999999999w"], "100 years at most"),
        (["revoke", "two"], "there is no token 'two'"),
    ],
)
def test_what_cannot_be_done_is_said(bare: Workspace, arguments: list[str], said: str) -> None:
    TokenFile(bare).add("one", ["search"])
    result = run(bare.root, *arguments)
    assert isinstance(result.exception, SettingsError) and said in str(result.exception)
    assert [token.name for token in TokenFile(bare).tokens()] == ["one"]


@pytest.mark.parametrize("arguments", [["--scope", "all"], ["--expires", "soon", "--scope", "search"], []])
def test_a_wrong_scope_or_time_is_a_usage_error(bare: Workspace, arguments: list[str]) -> None:
    assert run(bare.root, "add", "one", *arguments).exit_code == 2


def test_a_broken_file_lets_nobody_in_and_is_told(bare: Workspace) -> None:
    (bare.root / ".tokens.json").write_text("[{}]")
    with pytest.raises(SettingsError, match="tokens.json cannot be read: it is not what Shoptalk wrote"):
        verifier_of(bare)


def test_tokens_added_at_the_same_time_are_all_kept(bare: Workspace) -> None:
    threads = [threading.Thread(target=TokenFile(bare).add, args=(f"t{n}", ["search"])) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(TokenFile(bare).tokens()) == 12


# -- over HTTP


def test_no_token_a_wrong_one_and_an_expired_one_are_401(hashed: Workspace) -> None:
    file = TokenFile(hashed)
    good = file.add("good", ["search"])
    late = file.add("late", ["search"], -1)
    with serving(hashed) as server:
        for headers in ({}, bearer("wrong"), bearer(late), {"Authorization": f"Basic {good}"}):
            for ask in (search(**headers), message("tools/list", **headers)):
                answer = httpx2.post(server.url, **ask)
                assert answer.status_code == 401 and answer.json()["error"] == "invalid_token"
                assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
            legacy = {**HEADERS, **headers}
            assert httpx2.get(server.url, headers=legacy).status_code == 401
            assert httpx2.delete(server.url, headers=legacy).status_code == 401
        assert httpx2.post(server.url, **search(**bearer(good))).status_code == 200


def test_tokens_added_and_revoked_count_from_the_next_request_on(hashed: Workspace) -> None:
    file = TokenFile(hashed)
    file.add("first", ["search"])
    with serving(hashed) as server:
        second = file.add("second", ["search"])
        assert httpx2.post(server.url, **search(**bearer(second))).status_code == 200
        file.revoke("second")
        file.revoke("first")
        assert httpx2.post(server.url, **search(**bearer(second))).status_code == 401
        assert httpx2.post(server.url, **search()).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_token_for_searching_may_not_reindex_and_the_client_learns_why(hashed: Workspace, mode: str) -> None:
    token = TokenFile(hashed).add("reader", ["search"])
    with serving(hashed) as server:
        refused = httpx2.post(server.url, content=REINDEX["content"], headers=REINDEX["headers"] | bearer(token))
        assert refused.status_code == 403
        assert 'error="insufficient_scope", scope="reindex"' in refused.headers["WWW-Authenticate"]
        async with connected(server, mode, token) as client:
            assert (await client.call_tool("search_corpus", {"query": "holiday"})).structured_content["hits"]
            with pytest.raises(MCPError, match="lacks the scope 'reindex'"):
                await client.call_tool("reindex", {"wait_seconds": 0})
    assert not (hashed.index_dir("handbook") / "jobs").exists()


def test_a_body_that_readers_of_json_disagree_on_cannot_reindex_either(hashed: Workspace) -> None:
    token = TokenFile(hashed).add("reader", ["search"])
    plain = REINDEX["content"]
    bodies = {
        "in another encoding": plain.encode("utf-16"),
        "with a number too long for one reader": plain.replace('"wait_seconds": 0', '"wait_seconds": ' + "9" * 5000),
        "named twice": plain.replace('"name": "reindex"', '"name": "reindex", "name": "search_corpus"'),
        "named twice, the other way": plain.replace('"name": "reindex"', '"name": "search_corpus", "name": "reindex"'),
        "escaped": plain.replace("reindex", "re\\u0069ndex"),
    }
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with serving(hashed) as server:
        legacy = HEADERS | bearer(token)
        opened = httpx2.post(server.url, headers=legacy, content=message("initialize", hello)["content"])
        legacy["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]
        for name, body in bodies.items():
            for headers in (REINDEX["headers"] | bearer(token), legacy):
                answer = httpx2.post(server.url, content=body, headers=headers)
                assert "job_id" not in answer.text, name
    assert not (hashed.index_dir("handbook") / "jobs").exists()


def test_a_token_for_reindexing_alone_may_not_read(hashed: Workspace) -> None:
    token = TokenFile(hashed).add("pipeline", ["reindex"])
    with serving(hashed) as server:
        assert httpx2.post(server.url, **message("tools/list", **bearer(token))).status_code == 200
        assert httpx2.post(server.url, **search(**bearer(token))).status_code == 403


@pytest.mark.anyio
async def test_a_session_belongs_to_the_token_that_opened_it(hashed: Workspace) -> None:
    one, two = (TokenFile(hashed).add(name, ["search"]) for name in ("one", "two"))
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with serving(hashed) as server:
        opened = httpx2.post(server.url, headers=HEADERS | bearer(one), content=message("initialize", hello)["content"])
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        stolen = httpx2.post(
            server.url, headers=HEADERS | bearer(two) | session, content=message("tools/list")["content"]
        )
    assert stolen.status_code == 404


@pytest.mark.parametrize(
    ("method", "params", "scope"),
    [
        ("tools/call", {"name": "search_corpus"}, "search"),
        ("tools/call", {"name": "reindex"}, "reindex"),
        ("tools/call", None, "search"),
        ("resources/read", {"uri": "corpus://a/b"}, "search"),
        ("tasks/cancel", {"taskId": "x"}, "reindex"),
        ("something/new", {}, "search"),
        ("tools/list", None, ""),
        ("initialize", {}, ""),
        ("notifications/cancelled", {}, ""),
    ],
)
def test_every_message_needs_a_scope_but_those_that_say_hello(
    method: str, params: dict[str, Any] | None, scope: str
) -> None:
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

    nobody = AuthenticatedUser(AccessToken(token="", client_id="n", scopes=[]))
    anybody = AuthenticatedUser(AccessToken(token="", client_id="a", scopes=["search", "reindex"]))
    assert missing_scope(nobody, method, params) == scope
    assert missing_scope(anybody, method, params) == "" == missing_scope(None, method, params)


def test_a_bad_host_or_origin_is_refused_on_every_page_that_tells_something(hashed: Workspace) -> None:
    workspace = with_settings(hashed, 'hosts = ["search.example.org"]\norigins = ["https://app.example.org"]\n')
    with serving(workspace) as server:
        base = server.url.removesuffix("/mcp")
        for name, value, status in (
            ("Host", "evil.example", 421),
            ("Host", "search.example.org.evil.example", 421),
            ("Host", "127.0.0.1.evil.example:80", 421),
            ("Origin", "https://evil.example", 403),
            ("Origin", "null", 403),
            ("Origin", "https://app.example.org.evil.example", 403),
            ("Host", "search.example.org", 200),
            ("Host", "search.example.org:8443", 200),
            ("Origin", "https://app.example.org", 200),
        ):
            assert httpx2.post(server.url, **search(**{name: value})).status_code == status, (name, value)
            assert httpx2.get(f"{base}/metrics", headers={name: value}).status_code == status
            assert httpx2.get(f"{base}/healthz", headers={name: value}).status_code == 200


def test_hosts_and_origins_of_this_machine_count_only_where_nobody_else_can_call(hashed: Workspace) -> None:
    settings = with_settings(hashed, 'hosts = ["search.example.org"]\n').server
    here, everywhere = allowed_callers("127.0.0.1", settings), allowed_callers("0.0.0.0", settings)
    assert "localhost:*" in here.allowed_hosts and "http://localhost:*" in here.allowed_origins
    assert everywhere.enable_dns_rebinding_protection
    assert everywhere.allowed_hosts == ["search.example.org", "search.example.org:*"]
    assert everywhere.allowed_origins == []


def test_a_server_beyond_this_machine_asks_for_token_and_host(hashed: Workspace) -> None:
    workspace = with_settings(hashed, 'hosts = ["search.example.org"]\n')
    token = TokenFile(workspace).add("one", ["search"])
    with serving(workspace, "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        named = {"Host": "search.example.org"}
        assert httpx2.post(url, **search(**bearer(token))).status_code == 421
        assert httpx2.post(url, **search(**named)).status_code == 401
        assert httpx2.post(url, **search(**named, **bearer(token))).status_code == 200
        metrics = url.removesuffix("/mcp") + "/metrics"
        assert httpx2.get(metrics, headers=named).status_code == 401
        assert httpx2.get(metrics, headers=named | bearer(token)).status_code == 200


# -- tokens of others


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def jwks(key: rsa.RSAPrivateKey) -> Iterator[str]:
    """The address of an OAuth server's keys."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k1", "use": "sig"}

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": [public]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/keys"
        server.shutdown()
        thread.join()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": ADDRESS, "exp": now + 300, "sub": "ann", "client_id": "app", "scope": "search x"}
    return {name: value for name, value in (given | changes).items() if value is not None}


def test_an_oauth_servers_tokens_are_let_in_where_they_are_made_for_this_server(
    hashed: Workspace, key: rsa.RSAPrivateKey, jwks: str
) -> None:
    workspace = with_settings(
        hashed, f'issuer = "{ISSUER}"\njwks_url = "{jwks}"\npublic_url = "{ADDRESS}"\nmax_per_minute = 6000\n'
    )
    own = TokenFile(workspace).add("own", ["search"])
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(signer: Any = key, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
        return jwt.encode(claims(**changes), signer, algorithm, headers={"kid": kid})

    with serving(workspace) as server:

        def status(token: str) -> int:
            return httpx2.post(server.url, **search(**bearer(token))).status_code

        assert status(token()) == 200
        assert status(token(aud=["https://else.example", ADDRESS + "/"])) == 200
        assert status(own) == 200
        assert status(token(scope=None, scp=["search"])) == 200
        refused = {
            "wrong audience": token(aud="https://else.example/mcp"),
            "no audience": token(aud=None),
            "expired": token(exp=int(time.time()) - 120),
            "without end": token(exp=None),
            "wrong issuer": token(iss="https://else.example"),
            "wrong key": token(other),
            "unknown key": token(kid="k2"),
            "unsigned": jwt.encode(claims(), None, "none", headers={"kid": "k1"}),
            "signed with a secret": token("a secret of more than thirty-two bytes", "HS256"),
            "no JWT": "a.b.c",
        }
        assert {name: status(wrong) for name, wrong in refused.items()} == dict.fromkeys(refused, 401)
        assert status(token(scope="x")) == 403
        base = server.url.removesuffix("/mcp")
        metadata = httpx2.get(f"{base}/.well-known/oauth-protected-resource/mcp").json()
        assert (metadata["resource"], metadata["scopes_supported"]) == (ADDRESS, ["search", "reindex"])
        assert [url.rstrip("/") for url in metadata["authorization_servers"]] == [ISSUER]
        challenge = httpx2.post(server.url, **search()).headers["WWW-Authenticate"]
        assert 'resource_metadata="https://search.example.org/.well-known/oauth-protected-resource/mcp"' in challenge


def judge(token: str) -> AccessToken | None:
    if token == "boom":
        raise RuntimeError("the judge is ill")
    resource = {"good": ADDRESS, "elsewhere": "https://else.example/mcp"}.get(token)
    return AccessToken(token=token, client_id="plug", scopes=["search"], resource=resource) if resource else None


async def judge_later(token: str) -> AccessToken | None:
    return judge(token)


@pytest.mark.parametrize("name", ["judge", "judge_later"])
def test_a_function_of_the_operators_judges_tokens(hashed: Workspace, name: str) -> None:
    workspace = with_settings(hashed, f'verifier = "{__name__}:{name}"\npublic_url = "{ADDRESS}"\n')
    with serving(workspace) as server:
        answers = {
            token: httpx2.post(server.url, **search(**bearer(token))).status_code
            for token in ("good", "elsewhere", "boom", "else")
        }
    assert answers == {"good": 200, "elsewhere": 401, "boom": 401, "else": 401}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (f'issuer = "{ISSUER}"\n', "go together"),
        (f'issuer = "{ISSUER}"\njwks_url = "{ISSUER}/keys"\n', "need server.public_url"),
        (f'verifier = "nowhere:f"\npublic_url = "{ADDRESS}"\n', "does not load"),
        (f'verifier = "json"\npublic_url = "{ADDRESS}"\n', "does not load"),
        ('public_url = "http://search.example.org"\n', "begins with https://"),
        ('issuer = "file:///etc/passwd"\n', "begins with https://"),
    ],
)
def test_settings_that_cannot_work_are_told(bare: Workspace, settings: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        verifier_of(with_settings(bare, settings))


def test_hosts_may_come_from_the_environment(bare: Workspace) -> None:
    workspace = Workspace.open(bare.root, {"SHOPTALK_SERVER_HOSTS": "a.example.org, b.example.org"})
    assert workspace.server.hosts == ("a.example.org", "b.example.org")
