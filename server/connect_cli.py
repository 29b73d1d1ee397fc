"""The verb connect."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import SettingsError, ShoptalkError

__all__ = ["connect"]


@click.command()
@click.argument("client", type=click.Choice(["claude-desktop", "claude-code", "cursor", "vscode", "mcpb"]))
@click.option("--name", help="The server's name in the client (default: shoptalk- and the workspace's folder).")
@click.option("--print", "only_print", is_flag=True, help="Write nothing; print what would be written.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="mcpb: the bundle's file (default: NAME.mcpb here)."
)
@pass_invocation
def connect(invocation: Invocation, client: str, name: str | None, only_print: bool, out: Path | None) -> None:
    """Enter this workspace into an MCP client's configuration.

    All else in the configuration stays as it is, comments included, and a copy of it is kept. mcpb makes a
    bundle instead, which Claude Desktop installs when it is opened.
    """
    from server.connect import CLIENTS, default_name, entry, keys_wanted, manifest
    from server.connect import connect as enter

    workspace = invocation.workspace()
    if not workspace.corpora:
        raise SettingsError(
            f'{workspace.root / "shoptalk.toml"} names no corpus; add [corpus.NAME] with paths = ["FOLDER"]'
        )
    if out and client != "mcpb":
        raise click.UsageError("--out is for mcpb.")
    name = name or default_name(workspace)
    if client == "mcpb":
        described = manifest(workspace, name, os.environ)
        if only_print:
            click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        else:
            _write_bundle(invocation, described, (out or Path(f"{name}.mcpb")).absolute())
        return
    target = CLIENTS[client]
    if wanted := keys_wanted(workspace):
        invocation.note(f"Keys are not written down; see that the client's environment has {' and '.join(wanted)}.")
    if only_print:
        servers = {name: {**target.extra, **entry(workspace, os.environ)}}
        click.echo(json.dumps({target.key: servers}, indent=2, ensure_ascii=False))
        return
    done = enter(workspace, target, name, target.configuration(os.environ, Path.home(), sys.platform), os.environ)
    kept = f" What it was: {done.backup}." if done.backup else ""
    told = f"{name} added. Restart {target.title} to see it.{kept}" if done.changed else f"{name} is there already."
    backup = str(done.backup) if done.backup else ""
    value = {"client": client, "name": name, "file": str(done.file), "changed": done.changed, "backup": backup}
    invocation.emit(value, f"{done.file}: {told}")


def _write_bundle(invocation: Invocation, described: Mapping[str, Any], file: Path) -> None:
    from server.connect import bundle, write_whole

    try:
        write_whole(file, bundle(described))
    except OSError as error:
        raise ShoptalkError(f"{file} cannot be written: {error.strerror}") from None
    value = {"client": "mcpb", "name": described["name"], "file": str(file)}
    invocation.emit(value, f"{file}: open it with Claude Desktop.")
