"""Train in children that kill themselves at random steps, and in two processes at once; a script.

usage: killed_training.py SCRATCH

A child dies by SIGKILL just before or just after a step's weights were changed, or while a checkpoint is being
written; the next child goes on. Prints a JSON object: for each model how often a run was killed, where it went on, and
the digest of its weights; the digest of an unbroken run; and how far two processes that trained together are from one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from children import in_child
from numpy.typing import NDArray
from tiny_bert import load_tiny, save_tiny_bert, save_tiny_static, tiny_material, tiny_pairs

from retrieval.compute import Compute
from retrieval.local_embedder import fingerprint
from trainer.recipes import Recipe
from trainer.training import train
from trainer.weights import copy_weights

RECIPE = Recipe(
    name="killed",
    description="",
    rules=("cloze",),
    epochs=3,
    batch_size=8,
    learning_rate=1e-3,
    hard_negatives=1,
    false_negative_mask=True,
    looks=4,
    checkpoint_every=1,
)
KILLS = 4
# Two workers where the batch is cut up; threads that wait for each other are dear, so one elsewhere.
THREADS = 2


class Killer:
    """Counts instants, three a step, and ends the process at the chosen one."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run(model_folder: Path, folder: Path | None, recipe: Recipe, die_at: int) -> dict[str, Any]:
    """One training; returns its digest and where it went on from."""
    torch.set_num_threads(THREADS if recipe.mini_batch else 1)
    model = load_tiny(model_folder)
    instant = Killer(die_at)
    step, replacing = torch.optim.AdamW.step, os.replace

    def stepping(self: Any, *arguments: Any, **settings: Any) -> Any:
        instant()
        result = step(self, *arguments, **settings)
        instant()
        return result

    def replaced(source: Any, target: Any) -> None:
        if str(source).endswith(".part") and "checkpoint" in str(source):
            instant()
        replacing(source, target)

    torch.optim.AdamW.step = stepping  # type: ignore[method-assign]
    os.replace = replaced

    material, cpu = tiny_material(), Compute("cpu", False, "asked for")
    look = partial(score_of, model)
    log = train(model, tiny_pairs(), recipe, material, cpu, seed=3, dev_scores=look, folder=folder)
    went_on = [choice for choice in log.choices if choice.startswith("went on")]
    return {"digest": fingerprint(model), "went_on": went_on, "losses": log.losses, "kept": log.kept_step}


def score_of(model: Any) -> NDArray[np.float64]:
    """Any function of the weights that is not monotonic in the steps."""
    return np.array([float(sum(weight.double().abs().sum() * 1e4 for weight in model.parameters())) % 1.0])


def log_steps(folder: Path) -> list[str]:
    return (folder / "train-log.jsonl").read_text().splitlines()


def kill_often(model: Path, scratch: Path, recipe: Recipe) -> dict[str, Any]:
    generator = random.Random(13)
    folder, result = scratch / "run", scratch / "result.json"
    code, unbroken = in_child(lambda: run(model, None, recipe, 0), result)
    assert code == 0, code
    went_on: list[str] = []
    for _ in range(KILLS):
        # Three instants a step; a few steps each life, so that there is something left to kill.
        die_at = generator.randrange(5, 12)
        code, _ = in_child(lambda die_at=die_at: run(model, folder, recipe, die_at), result)  # type: ignore[misc]
        assert code == -signal.SIGKILL, code
    code, resumed = in_child(lambda: run(model, folder, recipe, 0), result)
    assert code == 0, code
    went_on = resumed.pop("went_on")
    lines = [json.loads(line) for line in log_steps(folder)]
    return {"unbroken": unbroken, "resumed": resumed, "went_on": went_on, "logged": [line["step"] for line in lines]}


def together(model_folder: Path, scratch: Path) -> float:
    """How far the weights that two processes trained together are from those of one; both must have the same.

    The second comes with its pairs in another order, as a GPU that rounds otherwise would mine them.
    """
    recipe = replace(RECIPE, epochs=1, looks=0, learning_rate=1e-3)

    def one(rank: int, size: int) -> list[float]:
        address = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in address.items()})
        os.environ["MASTER_PORT"] = (scratch / "port").read_text()
        model = load_tiny(model_folder)
        cpu = Compute("cpu", False, "asked for")
        folder = scratch / f"rank{rank}of{size}"
        pairs = tiny_pairs()[:41]
        train(model, pairs if rank == 0 else pairs[::-1], recipe, tiny_material(), cpu, seed=3, folder=folder)
        assert folder.exists() == (rank == 0)
        # The softmax of attention is the same whatever the keys' bias: its gradient is rounding, and differs by machine
        # and by process, but Adam makes steps of full size of it.
        telling = [weight for name, weight in copy_weights(model).items() if not name.endswith("key.bias")]
        return [float(value) for weight in telling for value in weight.double().flatten()[:200]]

    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (scratch / "port").write_text(str(free.getsockname()[1]))
    pid = os.fork()
    if pid == 0:
        try:
            (scratch / "second.json").write_text(json.dumps(one(1, 2)))
        finally:
            os._exit(0)
    code, first = in_child(lambda: one(0, 2), scratch / "first.json")
    os.waitpid(pid, 0)
    assert code == 0, code
    assert first == json.loads((scratch / "second.json").read_text())
    code, alone = in_child(lambda: one(0, 1), scratch / "alone.json")
    assert code == 0, code
    return max(abs(some - other) for some, other in zip(first, alone, strict=True))


def main() -> None:
    scratch = Path(sys.argv[1])
    torch.set_num_threads(1)  # no threads here that children would miss
    bert, static = save_tiny_bert(scratch / "tiny"), save_tiny_static(scratch / "tiny-static")
    found: dict[str, Any] = {}
    for name, model, recipe in (
        ("transformer", bert, replace(RECIPE, mini_batch=10)),
        ("static", static, replace(RECIPE, checkpoint_every=2)),
    ):
        (scratch / name).mkdir()
        found[name] = kill_often(model, scratch / name, recipe)
    found["together"] = together(bert, scratch)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
