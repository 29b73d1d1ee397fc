from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hash_embedder import HashEmbedder
from numpy.typing import NDArray

from retrieval.lexical import Bm25Scorer
from retrieval.passages import Passage
from retrieval.structure import Block, Section
from trainer.material import Material
from trainer.negatives import MAX_SHARE_OF_POSITIVE, add_hard_negatives, by_likeness, refresh_hard_negatives
from trainer.pairs import Pair
from trainer.recipes import NegativeSource

TEXTS = [
    "the pump must be primed with clean water",  # the positive
    "the pump must be primed with clean water",  # its copy, in another document
    "the pump is primed before the first start",
    "clean water runs out of the drain",
    "how to prime a pump",  # holds the anchor
    "the seal of a dry pump is destroyed",
    "two years of warranty from the day of purchase",
    "call the dealer for spare parts",
]
ANCHOR = "prime a pump"


def material(texts: list[str] = TEXTS) -> Material:
    sections = tuple(
        Section(f"{place}.md", (), (Block("paragraph", text, 1, 1),), 1, 1) for place, text in enumerate(texts)
    )
    passages = tuple(Passage(str(place), f"{place}.md", "", (), text, 1, 1) for place, text in enumerate(texts))
    return Material((), sections, passages, tuple(range(len(texts))), ())


def vectors(similarities: list[float]) -> NDArray[np.float32]:
    """Unit vectors with these cosines to the first axis."""
    return np.array([[cosine, np.sqrt(1 - cosine**2)] for cosine in similarities], dtype=np.float32)


PAIR = Pair(ANCHOR, TEXTS[0], "heading", 0, 0, "0.md")
ANCHORS = vectors([1.0])
#        positive copy  primed drain holds  seal  years  call
COSINES = [0.80, 0.80, 0.70, 0.10, 0.60, 0.77, 0.30, 0.20]


def found(source: NegativeSource, count: int = 1, **settings: object) -> set[str]:
    """All texts that are chosen over many seeds."""
    passages = vectors(COSINES)
    scorer = Bm25Scorer(TEXTS)
    chosen: set[str] = set()
    for seed in range(30):
        pairs = add_hard_negatives(
            material(), [PAIR], ANCHORS, passages[:1], passages, count=count, seed=seed, source=source, lexical=scorer,
            **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        chosen.update(*(pair.negatives for pair in pairs))
    return chosen


def test_the_answer_its_copies_what_is_too_near_and_what_holds_the_anchor_are_no_negatives() -> None:
    assert COSINES[5] > MAX_SHARE_OF_POSITIVE * COSINES[0]
    assert found("model") == {TEXTS[place] for place in (2, 3, 6, 7)}


def test_bm25_finds_only_what_shares_words_and_the_model_judges_how_near_that_may_be() -> None:
    # "pump" and "primed" find 0, 1, 2, 4 and 5: the positive, its copy, one that fits, one that holds the anchor,
    # one too near by the model.
    assert found("lexical") == {TEXTS[2]}
    assert found("both") == found("model")


def test_sources_take_turns_so_that_neither_drowns_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.negatives.SAMPLED_FROM", 2)
    texts = [*TEXTS, "a pump and a spare pump"]
    passages = vectors([*COSINES, 0.05])
    common = {"lexical": Bm25Scorer(texts)}
    chosen = {
        source: {
            add_hard_negatives(
                material(texts), [PAIR], ANCHORS, passages[:1], passages, seed=seed, source=source, **common
            )[0].negatives[0]
            for seed in range(20)
        }
        for source in ("model", "both")
    }
    assert texts[-1] not in chosen["model"] and texts[-1] in chosen["both"]


def test_held_out_passages_are_never_learned_from() -> None:
    assert found("both", held={2, 3}) == {TEXTS[6], TEXTS[7]}


def test_a_chunk_that_was_cut_by_words_has_no_negative_of_its_own_document() -> None:
    passages = vectors(COSINES)
    for rule, own in (("heading", True), ("seed_adjacent", False)):
        pair = replace(PAIR, rule=rule, section=7, passage=7, document_id="2.md")
        chosen = {
            text
            for seed in range(30)
            for given in add_hard_negatives(material(), [pair], ANCHORS, passages[:1], passages, seed=seed)
            for text in given.negatives
        }
        assert (TEXTS[2] in chosen) == own


def test_a_pair_without_enough_negatives_is_left_out() -> None:
    passages = vectors(COSINES)
    assert add_hard_negatives(material(), [PAIR], ANCHORS, passages[:1], passages, count=5) == []
    [pair] = add_hard_negatives(material(), [PAIR], ANCHORS, passages[:1], passages, count=4)
    assert len(pair.negatives) == len(set(pair.negatives)) == 4
    assert [TEXTS[section] for section in pair.negative_sections] == list(pair.negatives)


def test_the_sections_of_what_is_too_near_are_noted_whoever_finds_the_negatives() -> None:
    passages = vectors(COSINES)
    for source in ("model", "lexical"):
        common = {"source": source, "lexical": Bm25Scorer(TEXTS)}
        [pair] = add_hard_negatives(material(), [PAIR], ANCHORS, passages[:1], passages, **common)
        assert pair.likely_answers == (0, 1, 5)


def test_bm25_as_source_needs_its_scorer() -> None:
    passages = vectors(COSINES)
    with pytest.raises(ValueError, match="needs a Bm25Scorer"):
        add_hard_negatives(material(), [PAIR], ANCHORS, passages[:1], passages, source="lexical")


def test_a_refresh_follows_the_model_and_keeps_what_it_cannot_renew() -> None:
    embedder = HashEmbedder()
    old = replace(PAIR, negatives=(TEXTS[7],), negative_sections=(7,))
    # Nothing can be below .95 of a positive that the model takes for the opposite.
    hopeless = replace(old, anchor="dealer spare parts", passage=6, section=6)
    renewed, kept = refresh_hard_negatives(material(), [old, hopeless], embedder)
    anchors = embedder.encode_queries([ANCHOR])
    passages = embedder.encode_documents(TEXTS)
    direct = add_hard_negatives(material(), [PAIR], anchors, passages[:1], passages)
    assert renewed.negatives == direct[0].negatives
    similarity = embedder.encode_queries([hopeless.anchor]) @ passages.T
    limit = MAX_SHARE_OF_POSITIVE * similarity[0, 6]
    assert kept == hopeless or all(similarity[0, section] < limit for section in kept.negative_sections)


def test_anchors_that_are_alike_follow_each_other_a_group_at_a_time() -> None:
    # Two directions, taken in turns: 0, 2, 4 near one, 1, 3, 5 near the other.
    anchors = vectors([1.0, 0.0, 0.99, 0.1, 0.98, 0.05])
    assert by_likeness(anchors, 3) == [0, 2, 4, 1, 5, 3]
    assert by_likeness(anchors, 2) == [0, 2, 1, 5, 3, 4]
    assert by_likeness(anchors, 1) == [0, 1, 2, 3, 4, 5]
    assert by_likeness(anchors, 100) == [0, 2, 4, 3, 5, 1]
    assert by_likeness(anchors[:0], 3) == []


@pytest.mark.parametrize("size", [1, 2, 7, 16, 50])
def test_every_anchor_has_one_place_whatever_the_size_of_a_group(size: int) -> None:
    generator = np.random.default_rng(3)
    anchors = generator.normal(size=(41, 8)).astype(np.float32)
    anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
    anchors[20:25] = anchors[3]
    order = by_likeness(anchors, size)
    assert sorted(order) == list(range(41))
    assert order == by_likeness(anchors, size)
