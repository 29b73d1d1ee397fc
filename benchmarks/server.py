"""How soon a server answers: process start to the answer of ``tools/list``, the model not waited for.

    python benchmarks/server.py [--json]

Starts ``shoptalk serve`` five times on a small workspace made for the purpose, as a client would, and
takes the median. Prints a table, or with --json one object with figures and setup.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS = 5
GREETING: list[dict[str, Any]] = [
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
]


def seconds_to_list(root: Path) -> float:
    """Seconds from starting the process to the answer of tools/list."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "shoptalk", "-w", str(root), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdin and process.stdout
        for message in GREETING:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline()).get("id") != 2:
            pass
        seconds = time.perf_counter() - begun
        process.kill()
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "docs").mkdir()
        (root / "docs" / "a.md").write_text("# A\n\nText.\n", encoding="utf-8")
        (root / "shoptalk.toml").write_text('[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8")
        runs = [seconds_to_list(root) for _ in range(RUNS)]
    figures = {"tools_list_s": statistics.median(runs)}
    if "--json" in sys.argv[1:]:
        setup = {"runs": RUNS, "cpus": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({"figures": figures, "setup": setup}))
        return
    print(f"process start to tools/list   median {figures['tools_list_s']:.2f} s")
    print(f"                              runs   {', '.join(f'{run:.2f}' for run in runs)} s")


if __name__ == "__main__":
    main()
