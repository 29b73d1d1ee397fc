"""A run that a test can kill: python synthesis_process.py WORKSPACE now|batch."""

from __future__ import annotations

import sys

from hash_embedder import HashEmbedder

from retrieval.workspace import Workspace
from trainer.claude import Pace
from trainer.synthesis import synthesize

synthesize(
    Workspace.open(sys.argv[1]),
    "docs",
    HashEmbedder(),
    batch=sys.argv[2] == "batch",
    confirm=lambda estimate: None,
    tell=lambda text: print(text, flush=True),
    pace=Pace(0.01, 0.01),
)
