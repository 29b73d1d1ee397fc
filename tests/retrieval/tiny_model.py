"""A real model that loads in no time: static embeddings of a few words."""

from __future__ import annotations

from pathlib import Path

WORDS = "[UNK] a an and are bird blood cannot claws digs dig emu fly ground heart in is tall the they wombat wombats"


def save_tiny_model(folder: Path) -> Path:
    """Write a sentence-transformers folder of 16 dimensions and return it."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    words = WORDS.split()
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    weights = np.random.default_rng(7).standard_normal((len(words), 16)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder
