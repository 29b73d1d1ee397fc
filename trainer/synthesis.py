"""Questions about the documents, written by Claude, believed where they lead back to their passage.

    shoptalk synthesize --limit 500

What is asked, what it may cost and where the text goes is said before anything is sent. Answers are kept as they
come (`question_store`), so a run that was killed goes on where it stopped. A question is a training pair where the
base model and BM25 together find its passage (the round-trip filter of Alberti et al., ACL 2019); it is never one
to judge by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval.console import Progress, silent
from retrieval.embedding_cache import encode_cached, text_hash
from retrieval.fusion import UNTUNED_WEIGHT, fuse
from retrieval.indexing import passage_limit
from retrieval.models import resolve
from retrieval.prices import AS_OF, Price, synthesis_price
from retrieval.words import count_words
from retrieval.workspace import SynthesisSettings, Workspace
from trainer.asking import Inbox, Tally, ask_by_batches, ask_one_by_one, fetch_batches
from trainer.claude import Ask, Pace, connected, host_of
from trainer.evaluation import dense_candidates, lexical_candidates
from trainer.material import Material, gather
from trainer.pairs import Pair
from trainer.question_store import SYNTHETIC_RULE, QuestionStore, Ranked, store_path
from trainer.question_writing import ask_key, estimated_tokens, request, shown

if TYPE_CHECKING:
    from retrieval.embedders import Embedder

__all__ = ["Estimate", "Synthesis", "round_trip", "synthesize", "synthetic_pairs"]

log = logging.getLogger(__name__)

MIN_WORDS = 8
"""A passage of fewer words, headings included, is not worth a question."""
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is about to be sent where, and about what it costs. Dollars are None where no price is known."""

    passages: int
    host: str
    model: str
    batch: bool
    input_tokens: int
    output_tokens: int
    dollars: float | None
    most_dollars: float | None

    def line(self) -> str:
        """The estimate in a sentence or two."""
        how = "by message batches" if self.batch else "message by message"
        tokens = f"about {self.input_tokens:,} tokens in and {self.output_tokens:,} out"
        if self.dollars is None or self.most_dollars is None:
            cost = f"the price of {self.model} is not known here (set [synthesis] input_price and output_price)"
        else:
            cost = f"about ${self.dollars:,.2f}, at the very most ${self.most_dollars:,.2f} (prices of {AS_OF})"
        return f"The text of {self.passages:,} passages goes to {self.host} for {self.model}, {how}: {tokens}; {cost}."


@dataclass(frozen=True)
class Synthesis:
    """What a run did: passages worth a question, those with an answer, questions, and those that are believed."""

    passages: int
    asked: int
    tally: Tally
    dollars: float | None
    answered: int
    questions: int
    believed: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Subject:
    """A passage to ask about: its place in the material, what is shown of it, that text's hash, its answer's key."""

    place: int
    text: str
    digest: str
    key: str


def synthesize(
    workspace: Workspace,
    corpus: str,
    embedder: Embedder,
    *,
    batch: bool = True,
    limit: int | None = None,
    confirm: Callable[[Estimate], None],
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
    pace: Pace | None = None,
) -> Synthesis:
    """Have questions written about the passages of a corpus, and filter them.

    Args:
        workspace: whose ``[synthesis]`` settings say who writes.
        corpus: of this workspace.
        embedder: the base model's; what it finds is believed.
        batch: by message batches (half the price, minutes to hours), else message by message.
        limit: ask about no more passages than this, those answered before included; the same ones each time.
        confirm: given the estimate before anything is sent; it raises to stop there.
        tell: given what a person should know while it runs.
        progress: told how far it is.
        pace: of looks at a batch.

    Raises:
        DocumentError: the corpus is missing or empty.
        ShoptalkError: no key, the API refuses or cannot be reached, or another process is at it; what was
            answered until then is kept.
    """
    settings, pace, tally = workspace.synthesis, pace or Pace(), Tally()
    with QuestionStore(store_path(workspace, corpus)) as store, store.writing():
        material = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress)
        subjects = _subjects(material, settings)
        chosen = subjects[:limit]
        if store.batches():
            tell("Fetching what an earlier run sent in a batch.")
            asyncio.run(fetch_batches(store, settings, tally, pace, progress, tell))
        answered = store.answered(subject.key for subject in chosen)
        missing = [subject for subject in chosen if subject.key not in answered]
        if missing:
            estimate = _estimate(missing, settings, batch)
            asyncio.run(_check(settings))
            confirm(estimate)
            inbox = Inbox(
                store,
                tally,
                {item.key: item.digest for item in missing},
                settings.model,
                per_passage=settings.per_passage,
            )
            asks = [Ask(item.key, request(item.text, settings)) for item in missing]
            if batch:
                asyncio.run(ask_by_batches(inbox, asks, settings, pace, progress, tell))
            else:
                asyncio.run(ask_one_by_one(inbox, asks, settings, bool(answered), progress))
        return _report(workspace, corpus, embedder, material, subjects, missing, store, tally, progress)


def synthetic_pairs(workspace: Workspace, corpus: str, material: Material) -> list[Pair]:
    """The pairs of written questions that are believed, about passages as they are now; reads what is kept only.

    ``material`` must be cut as the index cuts, with the base model's tokens. A corpus about which nothing was
    asked has none.
    """
    path = store_path(workspace, corpus)
    if not path.exists():
        return []
    base = resolve(workspace, "base").reference
    places: dict[str, int] = {}
    for place, passage in enumerate(material.passages):
        places.setdefault(text_hash(shown(passage)), place)
    with QuestionStore(path) as store:
        ranked = [item for item in store.ranked(base) if item.passage in places]
        known = {(item.passage, item.question) for item in ranked}
        unknown = sum((item, text) not in known for item, texts in store.questions(places).items() for text in texts)
    if unknown:
        log.warning(
            "%d written questions are not used: %s was not asked whether it finds them; `shoptalk synthesize` does, "
            "and asks nobody else anew",
            unknown,
            base,
        )
    pairs = []
    for item in sorted(ranked, key=lambda item: (places[item.passage], item.question)):
        if item.rank is not None and item.rank <= workspace.synthesis.top_k:
            place = places[item.passage]
            passage = material.passages[place]
            section = material.section_of[place]
            pairs.append(
                Pair(item.question, passage.embedded_text, SYNTHETIC_RULE, section, place, passage.document_id)
            )
    return pairs


def round_trip(
    workspace: Workspace,
    corpus: str,
    embedder: Embedder,
    material: Material,
    questions: Sequence[tuple[int, str]],
    progress: Progress = silent,
) -> list[int | None]:
    """Where each question, asked about the passage at its place, finds that passage or a copy: its rank from 1.

    What ranks is what serves an untuned model: its dense candidates and BM25's, fused at equal weights. None
    where the passage is no candidate.
    """
    if not questions:
        return []
    texts = [passage.embedded_text for passage in material.passages]
    vectors = encode_cached(workspace, corpus, embedder, texts, progress)
    depth = workspace.search.candidates
    asked = [text for _, text in questions]
    dense = dense_candidates(embedder.encode_queries(asked), vectors, depth)
    ranks: list[int | None] = []
    lexical = lexical_candidates(asked, texts, workspace.passages.language, depth)
    for (place, _), meant, worded in zip(questions, dense, lexical, strict=True):
        fused, _ = fuse(meant, worded, method=workspace.search.fusion, lexical_weight=UNTUNED_WEIGHT)
        ranks.append(next((rank for rank, found in enumerate(fused, 1) if texts[found] == texts[place]), None))
        progress("round trip", len(ranks), len(questions))
    return ranks


def _subjects(material: Material, settings: SynthesisSettings) -> list[_Subject]:
    """The passages worth a question, each text once, in an order that is random but always the same."""
    found: dict[str, _Subject] = {}
    for place, passage in enumerate(material.passages):
        text = shown(passage)
        if count_words(text) >= MIN_WORDS:
            digest = text_hash(text)
            found.setdefault(digest, _Subject(place, text, digest, ask_key(text, settings)))
    return [found[digest] for digest in sorted(found)]


def _estimate(missing: Sequence[_Subject], settings: SynthesisSettings, batch: bool) -> Estimate:
    tokens = [estimated_tokens(subject.text, settings) for subject in missing]
    sent, written = (sum(each) for each in zip(*tokens, strict=True))
    price = synthesis_price(settings)
    return Estimate(
        passages=len(missing),
        host=host_of(settings),
        model=settings.model,
        batch=batch,
        input_tokens=sent,
        output_tokens=written,
        dollars=price.of(sent, written, batch) if price else None,
        most_dollars=price.of(sent, settings.max_tokens * len(missing), batch) if price else None,
    )


async def _check(settings: SynthesisSettings) -> None:
    """Refuse for want of a key before anybody is asked to confirm; sends nothing."""
    async with connected(settings):
        pass


def _report(
    workspace: Workspace,
    corpus: str,
    embedder: Embedder,
    material: Material,
    subjects: Sequence[_Subject],
    asked: Sequence[_Subject],
    store: QuestionStore,
    tally: Tally,
    progress: Progress,
) -> Synthesis:
    """Filter the questions there are by now, those of earlier runs included, and say how they stand."""
    place = {subject.digest: subject.place for subject in subjects}
    written = store.questions(place)
    base = embedder.reference
    known = {(item.passage, item.question): item for item in store.ranked(base)}
    fresh = [(digest, text) for digest, texts in written.items() for text in texts if (digest, text) not in known]
    ranks = round_trip(
        workspace, corpus, embedder, material, [(place[digest], text) for digest, text in fresh], progress
    )
    ranked = [Ranked(digest, text, rank) for (digest, text), rank in zip(fresh, ranks, strict=True)]
    store.rank(base, ranked)
    standing = [*(item for item in known.values() if item.passage in place), *ranked]
    believed = [item for item in standing if item.rank is not None and item.rank <= workspace.synthesis.top_k]
    price = synthesis_price(workspace.synthesis)
    return Synthesis(
        passages=len(subjects),
        asked=len(asked),
        tally=tally,
        dollars=_dollars(price, tally) if price else None,
        answered=len(store.answered(subject.key for subject in subjects)),
        questions=len(standing),
        believed=len(believed),
        examples=[
            (item.question, material.passages[place[item.passage]].document_id)
            for item in sorted(believed, key=lambda item: text_hash(item.question))[:EXAMPLES]
        ],
    )


def _dollars(price: Price, tally: Tally) -> float:
    tokens_in, tokens_out = tally.batched
    at_once = price.of(tally.input_tokens - tokens_in, tally.output_tokens - tokens_out)
    return at_once + price.of(tokens_in, tokens_out, batch=True)
