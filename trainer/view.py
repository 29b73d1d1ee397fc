"""One way to ask the questions: over which texts of the passages, by whom it is judged, and what the base finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, staged
from retrieval.embedders import LocalEmbedder
from retrieval.heading_share import heading_vectors, with_headings
from retrieval.workspace import Workspace
from trainer.evaluation import Candidates, Judge
from trainer.fusing import choose_fusion
from trainer.mined import Mined
from trainer.probe import PROBE_DEPTH, Probe
from trainer.ranking import Found, rank

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """The questions over the passages, with what would give an answer away masked, or as they stand.

    ``headings`` are those of each passage that its vector may share, ``base`` is what the base finds, ``probe`` what
    trained states are looked at over.
    """

    judge: Judge
    texts: Sequence[str]
    headings: Sequence[str]
    base: Found
    probe: Probe

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        corpus: str,
        embedder: LocalEmbedder,
        mined: Mined,
        texts: Sequence[str],
        headings: Sequence[str],
        progress: Progress,
    ) -> View:
        """Encode ``texts`` with the base, and choose the dev questions to look at while training."""
        judge = Judge.of(workspace, mined.material.passages, texts, mined.questions.all)
        base = rank(judge, workspace, corpus, embedder, texts, staged(progress, "encoding with the base"))
        dev, _ = mined.questions.places()
        return cls(judge, texts, headings, base, Probe.choose(judge, base.candidates, dev, texts))

    def looking(self, dev: range, depth: int = PROBE_DEPTH) -> View:
        """The same with a pool of another depth to look at trained states over."""
        return replace(self, probe=Probe.choose(self.judge, self.base.candidates, dev, self.texts, depth))

    def widened(self, embedder: LocalEmbedder, vectors: NDArray[np.float32]) -> View:
        """The same with the mistakes of ``embedder``, which gives the passages these ``vectors``, in that pool."""
        return replace(self, probe=self.probe.widened(embedder, vectors, self.texts))

    def headings_promise(self, found: Found, encode: Callable[[list[str]], NDArray[np.float32]]) -> bool:
        """Whether a share of headings would be chosen by hybrid search over what trained states are looked at over.

        That pool has no passage that its headings alone bring up, which flatters them: where none would be chosen over
        it, nothing speaks for encoding those of all passages.

        Args:
            found: what the model finds without them.
            encode: gives the vectors of headings under it.
        """
        questions, passages = list(self.probe.questions), list(self.probe.passages)
        asked, vectors = found.asked[questions], found.vectors[passages]
        of_headings = heading_vectors([self.headings[place] for place in passages], vectors.shape[1], encode)

        def find(share: float) -> Candidates:
            return self.probe.candidates(asked, with_headings(vectors, of_headings, share))

        return choose_fusion(self.judge, find, questions).share > 0

    def base_ndcg(self) -> NDArray[np.float64]:
        """What the base scores where trained states are looked at, a number a question."""
        places, passages = list(self.probe.questions), list(self.probe.passages)
        return self.probe.ndcg_of(self.base.asked[places], self.base.vectors[passages])
