"""How many tokens a text has, without loading the model that reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["TokenizerFile", "estimate_tokens"]

# Word pieces of English average more than four characters: this counts too many rather than too few.
_PIECES = re.compile(r"[^\W_]{1,4}|[^\w\s]|_")


class TokenizerFile:
    """Counts as the tokenizer of a ``tokenizer.json`` does, special tokens left out. Thread-safe."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """Return about how many tokens each text has, rather too many: four characters of a word at most make one."""
    return [sum(1 for _ in _PIECES.finditer(text)) for text in texts]
