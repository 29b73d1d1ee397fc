"""A run that was killed, however often, ends with the weights of the unbroken one; so do two processes together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script found; one process for all, since importing torch is most of what it costs."""
    scratch = tmp_path_factory.mktemp("killed")
    # The tests' own folder holds modules called as the packages are, so it is not on the path itself.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent, HERE)))}
    result = subprocess.run(
        [sys.executable, "-P", str(HERE / "killed_training.py"), str(scratch)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.mark.parametrize("name", ["transformer", "static"])
def test_a_run_killed_at_random_steps_ends_with_the_weights_of_the_unbroken_one(
    found: dict[str, Any], name: str
) -> None:
    run = found[name]
    assert len(run["went_on"]) >= 2  # of four deaths
    assert run["resumed"]["digest"] == run["unbroken"]["digest"]
    assert run["resumed"]["losses"] == run["unbroken"]["losses"]
    assert run["resumed"]["kept"] == run["unbroken"]["kept"]
    assert run["logged"] == list(range(1, 19))


def test_two_processes_train_the_model_that_one_would_and_one_of_them_writes(found: dict[str, Any]) -> None:
    assert found["together"] < 1e-4
