"""A real, tiny embedder: each word adds a fixed random direction. Texts that share words are near."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent


class HashEmbedder:
    gives_tokens = False

    def __init__(self, name: str = "hash", dimension: int = 32, max_tokens: int = 256) -> None:
        self.name = name
        self.reference = f"test/{name}"
        self.fingerprint = f"{crc32(name.encode()):08x}" * 8
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(text) for text in texts])

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        self.encoded += texts
        return self.encode_queries(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def _vector(self, text: str) -> NDArray[np.float32]:
        total = np.full(self.dimension, 1e-3)
        for word in text.casefold().split():
            total += np.random.default_rng(crc32(f"{self.name} {word}".encode())).standard_normal(self.dimension)
        return (total / np.linalg.norm(total)).astype(np.float32)
