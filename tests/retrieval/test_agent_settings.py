"""``[agent]`` and the servers, prices and models it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import SettingsError
from retrieval.workspace import AgentSettings, Workspace


def agent_of(root: Path, toml: str, environ: dict[str, str] | None = None) -> AgentSettings:
    (root / "shoptalk.toml").write_text(toml, encoding="utf-8")
    return Workspace.open(root, environ or {}).agent


def test_servers_and_prices_are_tables(tmp_path: Path) -> None:
    settings = agent_of(
        tmp_path,
        '[agent.servers.near]\n[agent.servers.far]\nurl = "https://far/mcp"\ntools = ["find"]\n'
        '[agent.prices]\n"claude-x" = [1, 2.5]\n',
    )
    assert list(settings.servers) == ["near", "far"]
    assert settings.servers["far"].tools == ("find",) and settings.servers["near"].command == ""
    assert settings.prices == {"claude-x": (1, 2.5)}


def test_where_a_servers_settings_came_from_is_told_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "shoptalk.toml").write_text('[agent.servers.near]\ncommand = "x"\n', encoding="utf-8")
    workspace = Workspace.open(tmp_path, {})
    assert workspace.setting_origin("agent.servers.near.command") == "shoptalk.toml"
    assert workspace.setting_origin("agent.servers.near.url") == "default"
    assert "agent.servers" not in {origin.name for origin in workspace.origins}


def test_fallback_models_may_come_from_the_environment(tmp_path: Path) -> None:
    settings = agent_of(tmp_path, "", {"SHOPTALK_AGENT_FALLBACK_MODELS": "claude-a, claude-b"})
    assert settings.fallback_models == ("claude-a", "claude-b")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[agent.servers.x]\nurl = "ftp://x"', r":2: agent.servers.x.url: .*must be an address"),
        ('[agent.servers.x]\nurl = "http://me:secret@x/mcp"', r":2: agent.servers.x.url: .*token_env"),
        ('[agent.servers.x]\ncommand = "a"\nurl = "http://x"', r":3: agent.servers.x.url: .*not both"),
        ("[agent.servers.x]\nport = 1", r":2: unknown key agent.servers.x.port; known: command, args, env, url"),
        ("[agent.servers.x]\ntools = []", r":2: agent.servers.x.tools: "),
        ("[agent.servers.X]", r":1: server name 'X' must be lower-case"),
        ("[agent.servers]\nx = 3", r"agent.servers.x must be a section"),
        ("[agent]\nmax_dollars = 0", r":2: agent.max_dollars: "),
        ('[agent.prices]\nx = ["a", 1]', r":2: agent.prices.x: "),
        ('[agent.prices]\n"claude" = [1]', r":2: agent.prices.claude: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        agent_of(tmp_path, toml)
