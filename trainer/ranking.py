"""What a model finds for the questions of a judge, as searches by it would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent
from retrieval.embedders import Embedder, compares_tokens
from retrieval.embedding_cache import encode_cached, encode_missing, open_cache, text_hash
from retrieval.errors import IndexingError
from retrieval.heading_share import heading_vectors, with_headings
from retrieval.late_interaction import Codes, similarity
from retrieval.names import compares_names, encode_names
from retrieval.workspace import Workspace
from trainer.evaluation import Candidates, Judge

__all__ = ["Found", "by_heading_share", "rank"]

NAMES_BLOCK = 1_024
"""Passages whose names are encoded at once."""


@dataclass(frozen=True)
class Found:
    """(passages, d) and (questions, d) under a model, its dense candidates of each question, and the codes of names."""

    vectors: NDArray[np.float32]
    asked: NDArray[np.float32]
    candidates: Candidates
    names: Mapping[int, Codes]


def rank(
    judge: Judge,
    workspace: Workspace,
    corpus: str,
    embedder: Embedder,
    texts: Sequence[str],
    progress: Progress = silent,
) -> Found:
    """Encode the passages and the judge's questions, and find what ``embedder`` ranks first for them.

    Args:
        judge: whose questions.
        workspace: its settings say whether tokens and names are compared.
        corpus: whose cache the passages' vectors are taken from and come into, with the codes of their tokens.
        embedder: the model.
        texts: of the passages, as they are embedded; one that is not its passage's own lists no names.
        progress: told of what is encoded.

    Raises:
        IndexingError: by the candidates, when they are looked at closer and the cache is gone.
    """
    vectors = encode_cached(workspace, corpus, embedder, texts, progress)
    questions = [question.text for question in judge.questions]
    names = _names(judge, workspace, corpus, embedder, texts, progress) if compares_names(workspace) else {}
    if not compares_tokens(embedder, workspace):
        asked = embedder.encode_queries(questions)
        return Found(vectors, asked, judge.dense(asked, vectors, names=names), names)
    encoded = embedder.encode_queries_and_tokens(questions)
    asked = np.stack([vector for vector, _ in encoded])

    def codes(numbers: Sequence[int]) -> list[Codes]:
        hashes = [text_hash(texts[number]) for number in numbers]
        with open_cache(workspace, corpus, embedder) as cache:
            found = cache.find_tokens(set(hashes))
        # The model may hold other weights by now, so nothing can be encoded again here.
        if len(found) < len(set(hashes)):
            raise IndexingError(f"vectors of corpus {corpus!r} were deleted while it was judged; run the command again")
        return [found[digest] for digest in hashes]

    finer = _Likeness([tokens for _, tokens in encoded], codes)
    return Found(vectors, asked, judge.dense(asked, vectors, finer, names), names)


def _names(
    judge: Judge, workspace: Workspace, corpus: str, embedder: Embedder, texts: Sequence[str], progress: Progress
) -> dict[int, Codes]:
    """The codes of the names of passages, but of those whose text is not their own: a mask would be given away."""
    own = [place for place, text in enumerate(texts) if judge.passage(place).embedded_text == text]
    found: dict[int, Codes] = {}
    with open_cache(workspace, corpus, embedder) as cache:

        def encode(names: list[str]) -> NDArray[np.float32]:
            # Without tokens, as the index has them.
            return encode_missing(cache, embedder, names, lambda _: None)[0]

        for start in range(0, len(own), NAMES_BLOCK):
            some = own[start : start + NAMES_BLOCK]
            codes = encode_names([judge.passage(place) for place in some], encode)
            found |= {some[place]: of_names for place, of_names in codes.items()}
            if codes:
                progress("encoding names", start + len(some), len(own))
    return found


def by_heading_share(
    judge: Judge,
    workspace: Workspace,
    corpus: str,
    embedder: Embedder,
    headings: Sequence[str],
    plain: Found,
) -> Callable[[float], Candidates]:
    """Return what gives the model's candidates for any share of headings in passages' vectors.

    The headings are encoded once, when a share of them is first asked for; the model must be as it was ranked by then.

    Args:
        judge: whose questions.
        workspace: whose settings.
        corpus: whose cache the headings' vectors come into.
        embedder: the model.
        headings: of each passage, "" where its text stands alone.
        plain: what `rank` found without a share of them.
    """

    @cache
    def of_headings() -> NDArray[np.float32]:
        encode = partial(encode_cached, workspace, corpus, embedder)
        return heading_vectors(headings, plain.vectors.shape[1], encode)

    def find(share: float) -> Candidates:
        if not share:
            return plain.candidates
        vectors = with_headings(plain.vectors, of_headings(), share)
        return judge.dense(plain.asked, vectors, plain.candidates.finer, plain.names)

    return find


class _Likeness:
    """How like a passage a question is, token by token: looked at once, though many weights of BM25 are tried."""

    def __init__(self, questions: Sequence[NDArray[np.float32]], codes: Callable[[Sequence[int]], list[Codes]]) -> None:
        self._questions = questions
        self._codes = codes
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, place: int, numbers: Sequence[int]) -> NDArray[np.float64]:
        new = [number for number in numbers if (place, number) not in self._known]
        if new:
            likenesses = similarity(self._questions[place], self._codes(new))
            self._known |= {(place, number): float(value) for number, value in zip(new, likenesses, strict=True)}
        return np.array([self._known[place, number] for number in numbers])
