"""Hard negatives: passages that the model, or BM25, takes for the answer, and that are not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.material import Material, normalise
from trainer.mining import SEED_RULES
from trainer.pairs import Pair
from trainer.recipes import NegativeSource

if TYPE_CHECKING:
    from retrieval.embedders import Embedder
    from retrieval.lexical import Bm25Scorer

__all__ = ["add_hard_negatives", "by_likeness", "refresh_hard_negatives"]

# Each side's best so many are looked at; the sample is drawn from the first that pass.
LOOKED_AT = 40
SAMPLED_FROM = 15
# Nearer to the anchor than this share of the positive's own similarity, a passage is as likely an
# unlabelled answer as a negative (Moreira et al., NV-Retriever, 2024: positive-aware mining).
MAX_SHARE_OF_POSITIVE = 0.95
BLOCK = 256


def add_hard_negatives(
    material: Material,
    pairs: Sequence[Pair],
    anchors: NDArray[np.float32],
    positives: NDArray[np.float32],
    passages: NDArray[np.float32],
    *,
    held: Collection[int] = frozenset(),
    count: int = 1,
    seed: int = 13,
    source: NegativeSource = "model",
    lexical: Bm25Scorer | None = None,
) -> list[Pair]:
    """Give each pair ``count`` hard negatives (texts of passages, as the index embeds them).

    Whoever finds a passage, the model judges it: nearer to the anchor than .95 of the positive's similarity it is
    left out, and its section noted, so that it is no negative of this pair in a batch either. BM25 has no such margin
    of its own, as a positive that shares no word with its anchor scores 0.

    Args:
        material: what the pairs were mined from.
        pairs: n pairs.
        anchors: (n, d) unit vectors of the anchors.
        positives: (n, d) unit vectors of the positives.
        passages: (p, d) unit vectors of all passages.
        held: passages held out for judging, of which nothing may be learned.
        count: negatives a pair.
        seed: of the sampling.
        source: who finds them.
        lexical: BM25 over the p passages; wanted where ``source`` is not "model".

    Returns:
        The pairs that have ``count`` negatives, in order; the others are dropped, since a batch
        needs as many of each.

    Raises:
        ValueError: ``source`` wants ``lexical``, and there is none.
    """
    if source != "model" and lexical is None:
        raise ValueError(f"source = {source!r} needs a Bm25Scorer over the passages")
    generator = Random(seed)
    texts = material.normalised
    result = []
    for start in range(0, len(pairs), BLOCK):
        similarity = anchors[start : start + BLOCK] @ passages.T
        for row, pair in enumerate(pairs[start : start + BLOCK]):
            limit = MAX_SHARE_OF_POSITIVE * float(anchors[start + row] @ positives[start + row])
            anchor = f" {normalise(pair.anchor)} "
            nearest = _best(similarity[row])
            # In order: what a run's checkpoint is known by is made of its pairs.
            likely = tuple(sorted({material.section_of[place] for place in nearest if similarity[row, place] >= limit}))
            rankings = []
            if source != "lexical":
                rankings.append(nearest)
            if source != "model" and lexical is not None:
                scores = lexical.scores(pair.anchor)
                rankings.append([place for place in _best(scores) if scores[place] > 0])
            fitting: list[int] = []
            for place in _in_turns(rankings):
                section = material.section_of[place]
                # Where in its document such a chunk lies is not known.
                if pair.rule in SEED_RULES and material.passages[place].document_id == pair.document_id:
                    continue
                if similarity[row, place] >= limit or section in likely or material.related(pair.section, section):
                    continue
                if anchor in f" {texts[place]} " or place in held:
                    continue
                fitting.append(place)
                if len(fitting) == SAMPLED_FROM:
                    break
            if len(fitting) >= count:
                result.append(_with_negatives(pair, generator.sample(fitting, count), likely, material))
    return result


def refresh_hard_negatives(
    material: Material,
    pairs: Sequence[Pair],
    embedder: Embedder,
    *,
    held: Collection[int] = frozenset(),
    count: int = 1,
    seed: int = 13,
    source: NegativeSource = "model",
    lexical: Bm25Scorer | None = None,
) -> list[Pair]:
    """Choose the negatives again by what a half-trained model now takes for the answer.

    The model is asked anew for all passages, which costs as much as encoding the corpus does. A pair for which it
    finds no negatives any more keeps those it had.

    Args:
        material: what the pairs were mined from.
        pairs: with negatives from before.
        embedder: the model as it now is.
        held: as for `add_hard_negatives`, like the rest.
        count: negatives a pair.
        seed: of the sampling; another one than before gives another sample of what is still hard.
        source: who finds them.
        lexical: BM25 over the passages.

    Returns:
        As many pairs as were given, in their order.
    """
    passages = embedder.encode_documents([passage.embedded_text for passage in material.passages])
    anchors = embedder.encode_queries([pair.anchor for pair in pairs])
    positives = passages[[pair.passage for pair in pairs]]
    found = add_hard_negatives(
        material,
        pairs,
        anchors,
        positives,
        passages,
        held=held,
        count=count,
        seed=seed,
        source=source,
        lexical=lexical,
    )
    renewed = {(pair.anchor, pair.positive, pair.passage): pair for pair in found}
    return [renewed.get((pair.anchor, pair.positive, pair.passage), pair) for pair in pairs]


def by_likeness(anchors: NDArray[np.float32], size: int) -> list[int]:
    """The places of ``anchors`` in an order in which ``size`` that are alike follow each other.

    The first that is left leads the next few: those nearest to it of what is left. Batches made of such groups hold
    negatives that are hard for the whole group (after Hofstätter et al., Efficiently Teaching an Effective Dense
    Retriever with Balanced Topic Aware Sampling, SIGIR 2021, who draw batches from clusters of queries).

    Args:
        anchors: (n, d) unit vectors.
        size: of a group.
    """
    left = np.ones(len(anchors), dtype=bool)
    order: list[int] = []
    for first in range(len(anchors)):
        if left[first]:
            left[first] = False
            nearness = np.where(left, anchors @ anchors[first], -np.inf)
            nearest = np.argsort(-nearness, kind="stable")[: min(size - 1, int(left.sum()))].tolist()
            left[nearest] = False
            order += [first, *nearest]
    return order


def _best(scores: NDArray[np.floating]) -> list[int]:
    """The places of the `LOOKED_AT` greatest scores, greatest first, equal ones by place."""
    looked_at = min(LOOKED_AT, len(scores))
    nearest = np.sort(np.argpartition(-scores, looked_at - 1)[:looked_at])
    found: list[int] = nearest[np.argsort(-scores[nearest], kind="stable")].tolist()
    return found


def _in_turns(rankings: Sequence[Sequence[int]]) -> Iterator[int]:
    """The first of each ranking, then the second of each; each place once."""
    seen: set[int] = set()
    for rank in range(max(map(len, rankings))):
        for ranking in rankings:
            if rank < len(ranking) and ranking[rank] not in seen:
                seen.add(ranking[rank])
                yield ranking[rank]


def _with_negatives(pair: Pair, chosen: Sequence[int], likely: tuple[int, ...], material: Material) -> Pair:
    return replace(
        pair,
        negatives=tuple(material.passages[place].embedded_text for place in chosen),
        negative_sections=tuple(material.section_of[place] for place in chosen),
        likely_answers=likely,
    )
