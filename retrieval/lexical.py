"""BM25 two ways: the tantivy index that answers queries, and the scores of given pairs for the trainer.

Both see the words that :func:`retrieval.tokens.tokenize` finds.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import IndexingError
from retrieval.tokens import TOKENIZER_VERSION, engine_module, query_terms, tokenize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TOKENIZER_VERSION", "Bm25Scorer", "LexicalIndex", "query_terms", "tokenize"]

MAX_QUERY_TERMS = 64
MAX_QUERY_CHARS = 32_768
# From so many passages on, words that most of them hold are left out: no loss of NDCG@10 was measured on sets of
# 9,600 to 20,000 passages, and half of the time is saved; on one of 900 passages there was a loss.
_LARGE = 10_000
_WRITER_BYTES = 64_000_000
# To look up one id costs tantivy about as much as to return so many hits.
_HITS_AN_ID = 4
# A range of ids is searched as such where it is at most one such part of the index.
_WIDE_RANGE = 4
# rank-bm25's BM25Okapi.
_K1, _B, _EPSILON = 1.5, 0.75, 0.25


class LexicalIndex:
    """BM25 search over passages by integer id: a folder of tantivy's.

    Open it to read (any number of threads), or create or open it to write (one thread), where
    nothing is seen until :meth:`commit`.
    """

    def __init__(
        self,
        folder: Path,
        index: Any,
        language: str,
        writer: Any = None,
        links: Path | None = None,
    ) -> None:
        self._folder = folder
        if links is not None:
            weakref.finalize(self, _remove, links)
        self._index = index
        self._language = language
        self._writer = writer
        self._tantivy = engine_module("tantivy")
        self._searcher = index.searcher()

    @classmethod
    def create(cls, folder: Path, language: str) -> LexicalIndex:
        """Make an empty index in the new folder ``folder``, open for writing."""
        tantivy = engine_module("tantivy")
        folder.mkdir(parents=True)
        schema = (
            tantivy.SchemaBuilder()
            .add_unsigned_field("id", indexed=True, fast=True)
            .add_text_field("body", tokenizer_name="whitespace", index_option="freq")
            .build()
        )
        index = tantivy.Index(schema, path=str(folder))
        return cls(folder, index, language, _writer(index))

    @classmethod
    def open(cls, folder: Path, language: str, *, writable: bool = False) -> LexicalIndex:
        """Open the index in ``folder``.

        Raises:
            IndexingError: there is no readable index there.
        """
        tantivy = engine_module("tantivy")
        links = None if writable or os.access(folder, os.W_OK) else _links(folder)
        with _damage_told(folder):
            index = tantivy.Index.open(str(links or folder))
            # Without this, tantivy keeps a thread that watches a folder which never changes.
            index.config_reader("manual")
            index.reload()
        return cls(folder, index, language, _writer(index) if writable else None, links)

    def __len__(self) -> int:
        """How many passages can be found."""
        return int(self._searcher.num_docs)

    def add(self, passages: Iterable[tuple[int, str]]) -> None:
        """Add ``(id, text)``; the ids must be new."""
        document_type = self._tantivy.Document
        for number, text in passages:
            document = document_type()
            document.add_unsigned("id", number)
            document.add_text("body", " ".join(tokenize(text, self._language)))
            self._writer.add_document(document)

    def delete(self, numbers: Collection[int]) -> None:
        """Delete the passages ``numbers``; unknown ones are ignored."""
        if numbers:
            # Deletion by term takes an integer for a signed one, and then finds nothing.
            query = self._tantivy.Query.term_set_query(self._index.schema, "id", list(numbers))
            self._writer.delete_documents_by_query(query)

    def commit(self) -> None:
        """Write everything and end writing."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._writer = None
        self._index.reload()
        self._searcher = self._index.searcher()

    def abandon(self) -> None:
        """End writing without a commit; once this returns, nothing more is written into the folder."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # What went wrong is being told already; a writer that failed to end is of no more use (RuntimeError).
            with suppress(ValueError, OSError, RuntimeError):
                writer.wait_merging_threads()

    def search(self, query: str, limit: int, allowed: NDArray[np.int64] | None = None) -> list[tuple[int, float]]:
        """Return up to ``limit`` ``(id, BM25 score)``, best first, equal scores by id.

        A passage matches with any one of the query's terms; the parts of a compound count half. In a
        large index terms that most passages hold count only where the query has no other. Of a long
        query the rarest terms count, as they bear most of the score, and of an endless one its
        beginning. ``allowed`` limits the answer to those ids.

        Raises:
            IndexingError: the index is damaged.
        """
        wanted = query_terms(query[:MAX_QUERY_CHARS], self._language)
        with _damage_told(self._folder):
            terms = [(self._searcher.doc_freq("body", term), term) for term in wanted]
            terms = [(frequency, term) for frequency, term in terms if frequency]
            if len(self) >= _LARGE:
                terms = [(frequency, term) for frequency, term in terms if frequency <= len(self) // 2] or terms
            if len(terms) > MAX_QUERY_TERMS:
                terms = sorted(terms)[:MAX_QUERY_TERMS]
            if not terms or limit < 1 or (allowed is not None and not len(allowed)):
                return []
            words = self._any_of({term: wanted[term] for _, term in terms})
            return self._top(words, limit) if allowed is None else self._within(words, limit, allowed)

    def _any_of(self, terms: Mapping[str, float]) -> Any:
        # Built term by term: tantivy's parser refuses what people type.
        query, occur, schema = self._tantivy.Query, self._tantivy.Occur, self._index.schema
        clauses = []
        for term, weight in terms.items():
            clause = query.term_query(schema, "body", term, "freq")
            clauses.append((occur.Should, clause if weight == 1 else query.boost_query(clause, weight)))
        return query.boolean_query(clauses)

    def _top(self, query: Any, limit: int) -> list[tuple[int, float]]:
        hits = self._searcher.search(query, limit, False).hits
        numbers = self._searcher.fast_field_values("id", [address for _, address in hits])
        found = [(int(number), float(score)) for number, (score, _) in zip(numbers, hits, strict=True)]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def _within(self, words: Any, limit: int, allowed: NDArray[np.int64]) -> list[tuple[int, float]]:
        """The best hits among ``allowed``.

        tantivy takes long to look up thousands of ids, and next to nothing to return a thousand hits more or to
        search a small range of ids: so more hits are asked for, and those that are not allowed are left out.
        """
        import numpy as np

        query, schema = self._tantivy.Query, self._index.schema
        allowed = np.sort(allowed)
        first, last = int(allowed[0]), int(allowed[-1])
        searched, among = len(self), words
        # A filter keeps tantivy from passing over what cannot be among the best: a wide one costs more than it saves.
        if last - first < searched // _WIDE_RANGE:
            searched = last - first + 1
            kind = self._tantivy.FieldType.Unsigned
            among = self._filtered(words, query.range_query(schema, "id", kind, first, last))
        asked = limit * (1 + math.ceil(2 * max(0, searched - len(allowed)) / len(allowed)))
        while asked < _HITS_AN_ID * len(allowed):
            hits = self._top(among, asked)
            numbers = np.array([number for number, _ in hits], dtype=np.int64)
            places = np.minimum(np.searchsorted(allowed, numbers), len(allowed) - 1)
            kept = [hit for hit, good in zip(hits, (allowed[places] == numbers).tolist(), strict=True) if good]
            if len(kept) >= limit or len(hits) < asked:
                return kept[:limit]
            asked *= 4
        return self._top(self._filtered(words, query.term_set_query(schema, "id", allowed.tolist())), limit)

    def _filtered(self, words: Any, where: Any) -> Any:
        query, must = self._tantivy.Query, self._tantivy.Occur.Must
        return query.boolean_query([(must, words), (must, query.const_score_query(where, 0.0))])

    def numbers(self) -> list[int]:
        """Return the ids of all passages, in no order.

        Raises:
            IndexingError: the index is damaged.
        """
        if not len(self):
            return []
        with _damage_told(self._folder):
            hits = self._searcher.search(self._tantivy.Query.all_query(), len(self), False).hits
            found = self._searcher.fast_field_values("id", [address for _, address in hits])
            return [int(number) for number in found]


def _writer(index: Any) -> Any:
    # One thread writes one segment, and the same segment each time.
    return index.writer(_WRITER_BYTES, 1)


def _links(folder: Path) -> Path:
    """Links to the files of ``folder``: tantivy takes a lock to read, for which a read-only folder has no place."""
    links = Path(tempfile.mkdtemp(prefix="shoptalk-lexical-"))
    for path in folder.iterdir():
        if path.suffix != ".lock":
            (links / path.name).symlink_to(path.absolute())
    return links


def _remove(links: Path) -> None:
    """Remove the folder that :func:`_links` made."""
    # The thread that tantivy starts with an index reads it once more, and may lay a lock while the folder is emptied.
    for _ in range(5):
        shutil.rmtree(links, ignore_errors=True)
        if not links.exists():
            return


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    """Turn what tantivy raises over damaged files into one line; it panics over some."""
    try:
        yield
    except BaseException as error:
        # A panic is no Exception, and its class (pyo3's) cannot be imported.
        if not isinstance(error, (ValueError, TypeError, OSError)) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise IndexingError(f"{folder} is damaged ({reason}); rebuild it with `shoptalk index --full`") from None


class Bm25Scorer:
    """How well does this text match this query: rank-bm25's BM25Okapi over a list of texts.

    The scores equal its ``get_scores``; but they are summed over the texts that hold a term instead
    of over all texts, which a mining run needs.

    k1 = 1.5, b = 0.75 (Trotman, Jia and Crane, Towards an Efficient and Effective Search Engine); a
    term in more than half of the texts is given a quarter of the mean idf.
    """

    def __init__(self, texts: Sequence[str], language: str = "english") -> None:
        import numpy as np

        self._language = language
        self._size = len(texts)
        terms: defaultdict[str, int] = defaultdict()
        terms.default_factory = terms.__len__
        tokens, lengths = array("q"), array("q")
        for text in texts:
            found = tokenize(text, language)
            lengths.append(len(found))
            tokens.extend(map(terms.__getitem__, found))
        self._terms = dict(terms)
        # One number a token, its term and its text: sorted, they are the postings, term by term.
        places = np.repeat(np.arange(self._size), lengths)
        postings, counts = np.unique(np.array(tokens) * self._size + places, return_counts=True)
        term, self._where = np.divmod(postings, max(1, self._size))
        self._starts = np.searchsorted(term, np.arange(len(terms) + 1)).tolist()
        size = np.array(lengths)
        penalty = _K1 * (1 - _B + _B * size / size.mean()) if tokens else np.zeros(self._size)
        held = np.diff(self._starts)
        idf = np.log(self._size - held + 0.5) - np.log(held + 0.5)
        if tokens:
            idf[idf < 0] = _EPSILON * idf.mean()
        self._gains = idf[term] * counts * (_K1 + 1) / (counts + penalty[self._where])

    def __len__(self) -> int:
        """How many texts there are."""
        return self._size

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return an array (number of texts,): the BM25 score of each text, 0 where none matches."""
        import numpy as np

        postings = self._postings(query)
        if not postings:
            return np.zeros(self._size)
        where = np.concatenate([self._where[posting] for posting in postings])
        gains = np.concatenate([self._gains[posting] for posting in postings])
        return np.bincount(where, gains, self._size).astype(np.float64, copy=False)

    def score(self, query: str, index: int) -> float:
        """Return the BM25 score of the one text at ``index``.

        Raises:
            IndexError: there is no such text.
        """
        if not 0 <= index < self._size:
            raise IndexError(f"no text {index}; there are {self._size}")
        total = 0.0
        for posting in self._postings(query):
            place = posting.start + int(self._where[posting].searchsorted(index))
            if place < posting.stop and self._where[place] == index:
                total += float(self._gains[place])
        return total

    def _postings(self, query: str) -> list[slice]:
        """For each token of the query that is known, where its postings are."""
        known = (self._terms.get(token) for token in tokenize(query, self._language))
        return [slice(self._starts[term], self._starts[term + 1]) for term in known if term is not None]
