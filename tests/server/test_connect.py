from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import shoptalk
from retrieval.errors import SettingsError, ShoptalkError
from retrieval.workspace import Workspace
from server.connect import CLIENTS, connect, default_name, entry, manifest

HOME = Path("/home/ada")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "Our Handbook"
    root.mkdir()
    (root / "shoptalk.toml").write_text('[corpus.handbook]\npaths = ["docs"]\n')
    return Workspace.open(root)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "client" / "mcp.json"


def run(workspace: Workspace, home: Path, *arguments: str) -> Result:
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": "", "CLAUDE_CONFIG_DIR": "", "HF_TOKEN": "hf_secret"}
    runner = CliRunner(env=environment)
    return runner.invoke(shoptalk.command_line, ["-w", str(workspace.root), "connect", *arguments])


@pytest.mark.parametrize(
    ("client", "platform", "environ", "expected"),
    [
        ("claude-desktop", "darwin", {}, "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", {"APPDATA": "/home/ada/Roam"}, "Roam/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", {}, "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {}, ".config/Claude/claude_desktop_config.json"),
        ("claude-code", "darwin", {}, ".claude.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/home/ada/cc"}, "cc/.claude.json"),
        ("cursor", "linux", {"XDG_CONFIG_HOME": "/home/ada/x"}, ".cursor/mcp.json"),
        ("vscode", "darwin", {}, "Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": "/home/ada/Roam"}, "Roam/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "/home/ada/x"}, "x/Code/User/mcp.json"),
    ],
)
def test_each_client_keeps_its_configuration_in_its_place(
    client: str, platform: str, environ: dict[str, str], expected: str
) -> None:
    assert CLIENTS[client].configuration(environ, HOME, platform) == HOME / expected


def test_an_entry_is_absolute_and_carries_what_changes_the_server_but_no_key(workspace: Workspace) -> None:
    given = {
        "HF_HOME": "/models",
        "SHOPTALK_SEARCH_MODE": "dense",
        "SHOPTALK_WORKSPACE": "/elsewhere",
        "SHOPTALK_ENDPOINT_KEY": "secret",
        "HF_TOKEN": "secret",
        "ANTHROPIC_API_KEY": "secret",
        "PATH": "/bin",
    }
    made = entry(workspace, given)
    assert made["env"] == {"HF_HOME": "/models", "SHOPTALK_SEARCH_MODE": "dense"}
    assert made["command"] == sys.executable and Path(made["command"]).is_absolute()
    assert made["args"][-3:] == ["-w", str(workspace.root), "serve"]


def test_a_configuration_keeps_comments_and_other_servers_and_is_copied_first(workspace: Workspace, file: Path) -> None:
    file.parent.mkdir()
    before = '{\n  // mine\n  "theme": "dark",\n  "servers": {"files": {"command": "npx"}}\n}\n'
    file.write_text(before)
    file.chmod(0o640)
    done = connect(workspace, CLIENTS["vscode"], "docs", file, {})
    text = file.read_text()
    assert "// mine" in text and '"theme": "dark"' in text and '"files": {"command": "npx"}' in text
    servers = json.loads(text.replace("// mine", ""))["servers"]
    assert servers["docs"] == {"type": "stdio", **entry(workspace, {})} and len(servers) == 2
    assert done.changed and done.backup is not None and done.backup.read_text() == before
    assert file.stat().st_mode & 0o777 == 0o640
    again = connect(workspace, CLIENTS["vscode"], "docs", file, {})
    assert not again.changed and file.read_text() == text
    assert len(list(file.parent.iterdir())) == 2


def test_a_first_configuration_is_made_for_its_owner_alone(workspace: Workspace, file: Path) -> None:
    done = connect(workspace, CLIENTS["cursor"], "docs", file, {})
    assert done.backup is None and file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"mcpServers": {"docs": entry(workspace, {})}}


def test_what_an_entry_of_this_workspace_was_is_renewed_and_another_servers_is_left(
    workspace: Workspace, file: Path
) -> None:
    connect(workspace, CLIENTS["cursor"], "docs", file, {})
    connect(workspace, CLIENTS["cursor"], "docs", file, {"HF_HOME": "/models"})
    assert json.loads(file.read_text())["mcpServers"]["docs"]["env"] == {"HF_HOME": "/models"}
    file.write_text('{"mcpServers": {"docs": {"command": "npx", "args": ["other"]}}}')
    with pytest.raises(SettingsError, match="another server named 'docs'.*--name"):
        connect(workspace, CLIENTS["cursor"], "docs", file, {})


@pytest.mark.parametrize("content", [b'{"mcpServers": ', b"\xff\xfe", b'{"mcpServers": []}', b"[]", b"servers = 1"])
def test_a_configuration_that_cannot_be_understood_is_left_as_it_is(
    workspace: Workspace, file: Path, content: bytes
) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ShoptalkError, match="left as it is: .*--print") as refused:
        connect(workspace, CLIENTS["cursor"], "docs", file, {})
    assert "\n" not in str(refused.value) and file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["mcp.json"]


def test_a_link_stays_a_link(workspace: Workspace, file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    kept = tmp_path / "dotfiles.json"
    kept.write_text("{}")
    file.symlink_to(kept)
    connect(workspace, CLIENTS["cursor"], "docs", file, {})
    assert file.is_symlink() and "docs" in json.loads(kept.read_text())["mcpServers"]


def test_names_are_those_that_clients_take(workspace: Workspace, file: Path) -> None:
    assert default_name(workspace) == "shoptalk-our-handbook"
    for wrong in ("a b", "", "x" * 65, "../x"):
        with pytest.raises(SettingsError, match="no name for a server"):
            connect(workspace, CLIENTS["cursor"], wrong, file, {})


def test_the_command_enters_prints_and_refuses(workspace: Workspace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    printed = run(workspace, home, "claude-code", "--print")
    assert json.loads(printed.stdout)["mcpServers"]["shoptalk-our-handbook"]["type"] == "stdio"
    assert "hf_secret" not in printed.stdout and not home.exists()
    entered = run(workspace, home, "claude-code", "--json", "--name", "docs")
    told = json.loads(entered.stdout)
    assert (told["changed"], told["file"]) == (True, str(home / ".claude.json"))
    assert list(json.loads((home / ".claude.json").read_text())["mcpServers"]) == ["docs"]
    assert "is there already" in run(workspace, home, "claude-code", "--name", "docs").stdout
    assert run(workspace, home, "emacs").exit_code == run(workspace, home, "cursor", "--out", "x").exit_code == 2


def test_a_started_entry_answers(workspace: Workspace, file: Path, tmp_path: Path) -> None:
    (workspace.root / "docs").mkdir()
    connect(workspace, CLIENTS["cursor"], "docs", file, {"HF_HUB_OFFLINE": "1"})
    launch = json.loads(file.read_text())["mcpServers"]["docs"]
    assert tools_of([launch["command"], *launch["args"]], launch["env"], tmp_path) == 3


def test_a_bundle_starts_and_asks_for_a_key_only_where_there_is_one(workspace: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "docs.mcpb"
    made = run(workspace, tmp_path, "mcpb", "--name", "docs", "--out", str(target))
    assert made.exit_code == 0 and "docs.mcpb" in made.stdout
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(target).extractall(folder)
    described = json.loads((folder / "manifest.json").read_text())
    assert (folder / described["server"]["entry_point"]).is_file() and "user_config" not in described
    launch = described["server"]["mcp_config"]
    command = [part.replace("${__dirname}", str(folder)) for part in [launch["command"], *launch["args"]]]
    assert tools_of(command, launch["env"], tmp_path) == 3
    toml = workspace.root / "shoptalk.toml"
    toml.write_text(toml.read_text() + '[model]\nendpoint = "http://127.0.0.1:1"\nendpoint_kind = "tei"\n')
    described = manifest(Workspace.open(workspace.root), "docs", {})
    assert described["user_config"]["endpoint_key"]["sensitive"]
    assert described["server"]["mcp_config"]["env"] == {"SHOPTALK_ENDPOINT_KEY": "${user_config.endpoint_key}"}


def test_the_key_of_a_store_is_asked_for_too(workspace: Workspace, tmp_path: Path) -> None:
    toml = workspace.root / "shoptalk.toml"
    toml.write_text(toml.read_text() + '[store]\nkind = "qdrant"\nurl = "http://127.0.0.1:6333"\n')
    described = manifest(Workspace.open(workspace.root), "docs", {})
    assert described["server"]["mcp_config"]["env"] == {"SHOPTALK_STORE_KEY": "${user_config.store_key}"}
    assert described["user_config"]["store_key"]["sensitive"]
    assert "environment has SHOPTALK_STORE_KEY." in run(workspace, tmp_path, "cursor", "--print").stderr


def tools_of(command: list[str], environment: dict[str, str], folder: Path) -> int:
    """How many tools the server lists that ``command`` starts, with nothing else in its environment."""
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ]
    messages[0]["params"]["clientInfo"] = {"name": "test", "version": "1"}
    asked = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)
    environment = {**environment, **{name: os.environ[name] for name in ("HOME",) if name in os.environ}}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(asked)
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    return len(answers[1]["result"]["tools"])
