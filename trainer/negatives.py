"""Hard negatives: passages that the base model takes for the answer, and that are not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from trainer.material import Material, normalise
from trainer.mining import Pair

__all__ = ["add_hard_negatives"]

# The base model's best so many are looked at; the sample is drawn from the first that pass.
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
) -> list[Pair]:
    """Give each pair up to ``count`` hard negatives (texts of passages, as the index embeds them).

    Args:
        material: what the pairs were mined from.
        pairs: n pairs.
        anchors: (n, d) unit vectors of the anchors.
        positives: (n, d) unit vectors of the positives.
        passages: (p, d) unit vectors of all passages.
        held: passages held out for judging, of which nothing may be learned.
        count: negatives a pair.
        seed: of the sampling.

    Returns:
        The pairs that have ``count`` negatives, in order; the others are dropped, since a batch
        needs as many of each.
    """
    generator = Random(seed)
    texts = [normalise(passage.embedded_text) for passage in material.passages]
    looked_at = min(LOOKED_AT, len(passages))
    result = []
    for start in range(0, len(pairs), BLOCK):
        similarity = anchors[start : start + BLOCK] @ passages.T
        nearest = np.argpartition(-similarity, looked_at - 1, axis=1)[:, :looked_at]
        for row, pair in enumerate(pairs[start : start + BLOCK]):
            limit = MAX_SHARE_OF_POSITIVE * float(anchors[start + row] @ positives[start + row])
            anchor = f" {normalise(pair.anchor)} "
            fitting: list[int] = []
            for place in sorted(map(int, nearest[row]), key=lambda place: -similarity[row, place]):
                if similarity[row, place] >= limit or material.related(pair.section, material.section_of[place]):
                    continue
                if anchor in f" {texts[place]} " or place in held:
                    continue
                fitting.append(place)
                if len(fitting) == SAMPLED_FROM:
                    break
            if len(fitting) >= count:
                chosen = generator.sample(fitting, count)
                result.append(
                    replace(
                        pair,
                        negatives=tuple(material.passages[place].embedded_text for place in chosen),
                        negative_sections=tuple(material.section_of[place] for place in chosen),
                    )
                )
    return result
