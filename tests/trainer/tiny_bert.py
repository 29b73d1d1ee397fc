"""Small models with weights drawn at random, a vocabulary of words, and things to train them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.structure import Block, Section
from trainer.material import Material
from trainer.pairs import Pair

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

ANIMALS = "wombat emu koala dingo quokka bilby numbat possum echidna platypus galah cassowary".split()
DEEDS = "digs flies sleeps howls smiles listens licks climbs curls swims screams kicks".split()
PLACES = "burrow plain tree desert island scrub log roof bush river farm forest".split()
SPECIAL = "[PAD] [UNK] [CLS] [SEP] the in a who very often and then".split()
WORDS = [*SPECIAL, *ANIMALS, *DEEDS, *PLACES]


def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def save_tiny_static(folder: Path) -> Path:
    """Write a sentence-transformers folder of one vector of 32 dimensions a word, and return it."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = np.random.default_rng(5).standard_normal((len(WORDS), 32)).astype(np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(_tokenizer(), embedding_weights=weights)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def save_tiny_bert(folder: Path, dropout: float = 0.1) -> Path:
    """Write a transformer of two layers and 32 dimensions as a sentence-transformers folder, and return it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    )
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
    )
    plain = folder / "plain"
    BertModel(config).save_pretrained(str(plain))
    fast.save_pretrained(str(plain))
    transformer = Transformer(str(plain))
    model = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def load_tiny(folder: Path) -> SentenceTransformer:
    """Load a model as the engine does: on the CPU, in evaluation mode."""
    from sentence_transformers import SentenceTransformer

    from retrieval.local_embedder import quiet_loading

    with quiet_loading():
        model = SentenceTransformer(str(folder), device="cpu")
    model.eval()
    return model


def tiny_pairs(negatives: int = 1) -> list[Pair]:
    """48 pairs of texts of unlike lengths, each with a hard negative from the next animal."""
    pairs = []
    for number in range(48):
        animal, deed, place = (words[(number * step) % 12] for words, step in ((ANIMALS, 1), (DEEDS, 1), (PLACES, 5)))
        tail = " and then often" * (number % 4)
        other = (number + 1) % 12
        pairs.append(
            Pair(
                f"who {deed} in the {place}" + " very" * (number // 12),
                f"the {animal} {deed} in a {place} {tail}" + " often" * (number // 12),
                "cloze",
                number % 12,
                0,
                "d",
                (f"the {ANIMALS[other]} {DEEDS[other]} {'very ' * (number // 12)}{tail}",) * negatives,
                (other,) * negatives,
            )
        )
    return pairs


def tiny_material() -> Material:
    """A section for each animal; number 1 is a copy of number 0, so they answer for each other."""
    texts = [f"the {animal} {deed}" for animal, deed in zip(ANIMALS, DEEDS, strict=True)]
    texts[1] = texts[0]
    blocks = [(Block("paragraph", text, 1, 1),) for text in texts]
    sections = tuple(Section(f"{place}.md", (), block, 1, 1) for place, block in enumerate(blocks))
    return Material((), sections, (), (), ())
