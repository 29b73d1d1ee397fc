"""Make an MCP client know this workspace: an entry in its configuration, or a bundle for Claude Desktop.

Hosts start servers with a nearly empty environment, somewhere: paths are absolute, and the variables that
change what the server does are written down with them. No key ever is.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from retrieval.durable import sync
from retrieval.errors import SettingsError
from retrieval.workspace import SECTIONS, Workspace
from server.jsonc import JsoncError, value_at, with_value
from shoptalk import VERSION

__all__ = ["CLIENTS", "Client", "Connected", "bundle", "connect", "default_name", "entry", "manifest", "write_whole"]

_KEPT_VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
)
_ENTRY_POINT = "server/main.py"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _settings_folder(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """Where applications keep their settings."""
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config")


def _claude_desktop(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    return _settings_folder(environ, home, platform) / "Claude" / "claude_desktop_config.json"


def _claude_code(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    return Path(environ.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json"


def _cursor(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    return home / ".cursor" / "mcp.json"


def _vscode(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    return _settings_folder(environ, home, platform) / "Code" / "User" / "mcp.json"


@dataclass(frozen=True, slots=True)
class Client:
    """An MCP client: its name for people, where its configuration is, the key in it that holds servers.

    ``configuration``: environment, home folder and ``sys.platform`` in, file out. ``extra``: what an entry
    says beside command, arguments and environment.
    """

    title: str
    configuration: Callable[[Mapping[str, str], Path, str], Path]
    key: str
    extra: Mapping[str, str]


CLIENTS: Mapping[str, Client] = {
    "claude-desktop": Client("Claude Desktop", _claude_desktop, "mcpServers", {}),
    "claude-code": Client("Claude Code", _claude_code, "mcpServers", {"type": "stdio"}),
    "cursor": Client("Cursor", _cursor, "mcpServers", {}),
    "vscode": Client("VS Code", _vscode, "servers", {"type": "stdio"}),
}


@dataclass(frozen=True, slots=True)
class Connected:
    """What became of a configuration: its file, whether it changed, and the copy of what it was."""

    file: Path
    changed: bool
    backup: Path | None


def default_name(workspace: Workspace) -> str:
    """The name of the server: that of the workspace's folder, as clients take names."""
    folder = re.sub(r"[^a-z0-9_-]+", "-", workspace.root.name.lower()).strip("-")
    return f"shoptalk-{folder}"[:64].rstrip("-")


def entry(workspace: Workspace, environ: Mapping[str, str]) -> dict[str, Any]:
    """How to start the server of ``workspace``: command, arguments, environment."""
    # -P: the folder a host happens to be in may have folders named like our packages.
    return {
        "command": sys.executable,
        "args": ["-P", "-m", "shoptalk", "-w", str(workspace.root), "serve"],
        "env": _environment(environ),
    }


def connect(workspace: Workspace, client: Client, name: str, file: Path, environ: Mapping[str, str]) -> Connected:
    """Write the entry into ``file``, the configuration of ``client``; all else in it stays as it is.

    What it was is copied first. The file is replaced as a whole; where it is a link, what it leads to.

    Raises:
        SettingsError: the name is taken or none, or the file cannot be read, is no JSON, or cannot be written.
    """
    path = (client.key, _checked(name))
    file = file.resolve()
    wanted = {**client.extra, **entry(workspace, environ)}
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        present = value_at(text, path) if text.strip() else None
        if present == wanted:
            return Connected(file, False, None)
        if present is not None and not _leads_to(present, workspace):
            raise SettingsError(f"{file} has another server named {name!r}; choose another name with --name")
        changed = with_value(text, path, wanted)
        backup = _copied(file) if file.exists() else None
        write_whole(file, changed.encode())
    except (JsoncError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, JsoncError) else "it is not UTF-8"
        raise SettingsError(f"{file} was left as it is: {reason}; mend it, or take the entry from --print") from None
    except OSError as error:
        raise SettingsError(f"{file} was left as it is: {error.strerror}; take the entry from --print") from None
    return Connected(file, True, backup)


def manifest(workspace: Workspace, name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of a bundle that starts this Python on this workspace.

    Where a server embeds, its key is asked for when the bundle is installed, and kept by the client.

    Raises:
        SettingsError: the name is none.
    """
    launch = entry(workspace, environ)
    launch["args"] = ["-P", "${__dirname}/" + _ENTRY_POINT, *launch["args"][3:]]
    described: dict[str, Any] = {
        "manifest_version": "0.4",
        "name": _checked(name),
        "display_name": f"Shoptalk: {workspace.root.name}",
        "version": VERSION,
        "description": f"Search the documents of {', '.join(sorted(workspace.corpora))}, with citations.",
        "author": {"name": "Shoptalk"},
        "license": "Apache-2.0",
        "server": {"type": "python", "entry_point": _ENTRY_POINT, "mcp_config": launch},
        "tools_generated": True,
        "prompts_generated": True,
        "compatibility": {"platforms": [sys.platform]},
    }
    for variable, (title, address) in keys_wanted(workspace).items():
        name = variable.removeprefix("SHOPTALK_").lower()
        launch["env"][variable] = f"${{user_config.{name}}}"
        described.setdefault("user_config", {})[name] = {
            "type": "string",
            "title": title,
            "description": f"What {address} asks for; empty where it asks for none.",
            "sensitive": True,
            "required": False,
        }
    return described


def keys_wanted(workspace: Workspace) -> dict[str, tuple[str, str]]:
    """The environment variables with the keys of the servers that searches ask, each with what it is and whose."""
    wanted = {}
    if workspace.model.endpoint:
        wanted["SHOPTALK_ENDPOINT_KEY"] = "Key of the embedding server", workspace.model.endpoint
    if workspace.store.kind != "local" and not workspace.store.url.startswith("file:"):
        wanted["SHOPTALK_STORE_KEY"] = "Key of the store", workspace.store.url
    return wanted


def bundle(described: Mapping[str, Any]) -> bytes:
    """The bundle (.mcpb) with that manifest, for Claude Desktop on this machine."""
    files = {
        "manifest.json": json.dumps(described, indent=2, ensure_ascii=False) + "\n",
        _ENTRY_POINT: '"""Start Shoptalk."""\n\nfrom shoptalk import main\n\nmain()\n',
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, text in files.items():
            packed.writestr(zipfile.ZipInfo(path), text)
    return archive.getvalue()


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that a kill at any instant leaves the old one or the new; its mode stays.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)
    sync(file.parent)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that change what the server does. Keys are none of them."""
    settings = {f"SHOPTALK_{name}_{key}".upper() for name, model in SECTIONS.items() for key in model.model_fields}
    return {name: environ[name] for name in sorted({*settings, *_KEPT_VARIABLES}) if name in environ}


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name for a server; use up to 64 letters, digits, - and _")
    return name


def _leads_to(present: object, workspace: Workspace) -> bool:
    """Whether an entry starts a server of this workspace."""
    arguments = present.get("args") if isinstance(present, dict) else None
    return isinstance(arguments, list) and str(workspace.root) in arguments and "serve" in arguments


def _copied(file: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%dT%H%M%S%f")
    backup = file.with_name(f"{file.name}.{stamp}.bak")
    shutil.copy2(file, backup)
    return backup
