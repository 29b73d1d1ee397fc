"""What several tests need that is no fixture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval.documents import read_all
from retrieval.passages import Passage, cut
from retrieval.structure import sections
from retrieval.workspace import Workspace


def passages_of(folder: Path, max_tokens: int = 200) -> list[Passage]:
    """Cut the documents of a folder by a count of words, without a model."""
    settings = folder.parent / "shoptalk.toml"
    if not settings.exists():
        Workspace.create(folder.parent, {"docs": folder.name}, "base")
    workspace = Workspace.open(folder.parent)
    documents, _ = read_all(workspace, workspace.corpus_name())
    return [
        passage
        for document in documents
        for passage in cut(
            document.title, sections(document), lambda texts: [len(text.split()) for text in texts], max_tokens
        )
    ]


SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SMALL_BERT_TOKENS = 64


def small_bert(kind: str, words: Sequence[str], **settings: Any) -> Any:
    """A BERT of one layer, 16 dimensions and random weights, the same every time, of a ``kind`` of transformers."""
    import torch
    import transformers

    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL_WORDS) + len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=SMALL_BERT_TOKENS,
        initializer_range=0.5,
        **settings,
    )
    return getattr(transformers, kind)(config)


def save_words(folder: Path, words: Sequence[str], **settings: Any) -> None:
    """Write the tokenizer of a `small_bert` that knows ``words``."""
    from transformers import BertTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL_WORDS, *words])}
    BertTokenizerFast(vocab=vocabulary, **settings).save_pretrained(folder)
