"""One tokenizer for every lexical use; the tantivy index; BM25 scores for given pairs.

Whatever compares words (the index, the silver filter of the trainer, an oracle in a test) calls
:func:`tokenize`: two tokenizers in one system make two notions of what a word is, and the
agreement of their top-10 lists falls by a quarter.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from retrieval.errors import IndexingError, SettingsError, ShoptalkError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TOKENIZER_VERSION", "Bm25Scorer", "LexicalIndex", "query_terms", "tokenize"]

TOKENIZER_VERSION = 1
"""Raised whenever :func:`tokenize` may answer differently; indexes of another version are rebuilt."""

MAX_TOKEN_CHARS = 128
MAX_QUERY_TERMS = 64
_CACHED_WORDS = 500_000
_WRITER_BYTES = 64_000_000

# \w leaves out combining marks, without which the words of many scripts fall to pieces.
_MARKS = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
# A run of letters and digits; further ones joined to it as in 2.1, foo-bar, 12(b); C++ and C#.
_PATTERN = r"§?{w}+(?:[.\-/:+&@#=]{w}+|\({w}+\)?)*(?:\+\+|#)?"
_ASCII_WORD = re.compile(_PATTERN.format(w=r"\w"), re.ASCII)
_WORD = re.compile(_PATTERN.format(w=rf"[\w{_MARKS}]"))
_LOOSE = re.compile(r"[\-/:+&@#=()]+")
_TIGHT = re.compile(r"[._§]+")
_CJK = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+)")


def tokenize(text: str, language: str = "english") -> list[str]:
    """Return the tokens of ``text``, in order, for indexing or for a query.

    NFKC and case folding; compounds and identifiers both whole and in parts (``E11.9`` gives
    e11.9, e11, 9); Snowball stems of plain words; overlapping bigrams of Chinese, Japanese and
    Korean runs. Nothing is left out as a stop word: BM25 weighs those down by itself.

    Args:
        text: anything.
        language: a Snowball language, or ``none`` for no stemming.

    Raises:
        SettingsError: there is no stemmer for ``language``.
    """
    analyzer = _analyzer(language)
    if text.isascii():
        words = _ASCII_WORD.findall(text)
    else:
        words = _WORD.findall(unicodedata.normalize("NFKC", text).replace("\u00ad", ""))
    tokens: list[str] = []
    for word in words:
        tokens += analyzer.tokens(word)
    return tokens


def query_terms(query: str, language: str = "english") -> list[str]:
    """Return the distinct tokens of ``query``, in order."""
    return list(dict.fromkeys(tokenize(query, language)))


class _Analyzer:
    """The tokens of single words, remembered: a text of a million words has few distinct ones."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._local = threading.local()
        self._known: dict[str, tuple[str, ...]] = {}
        self._stem("")

    def tokens(self, word: str) -> tuple[str, ...]:
        tokens = self._known.get(word)
        if tokens is None:
            if len(self._known) >= _CACHED_WORDS:
                self._known = {}
            tokens = tuple(token[:MAX_TOKEN_CHARS] for token in self._split(word.casefold()))
            self._known[word] = tokens
        return tokens

    def _split(self, word: str) -> Iterable[str]:
        if word.isascii() and word.isalnum():
            yield self._stem(word)
            return
        for separator in (_LOOSE, _TIGHT):
            parts = [part for part in separator.split(word) if part]
            if parts != [word]:
                yield word
                for part in parts:
                    yield from self._split(part)
                return
        for index, run in enumerate(_CJK.split(word)):
            if index % 2:
                yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
            elif run:
                yield self._stem(run)

    def _stem(self, word: str) -> str:
        if self._language == "none":
            return word
        # A Snowball stemmer keeps its state in itself: one a thread.
        stemmer = getattr(self._local, "stemmer", None)
        if stemmer is None:
            stemmer = self._local.stemmer = _stemmer(self._language)
        return str(stemmer.stemWord(word))


@lru_cache(maxsize=8)
def _analyzer(language: str) -> _Analyzer:
    return _Analyzer(language)


def _stemmer(language: str) -> Any:
    Stemmer = _engine_module("Stemmer")
    if language not in Stemmer.algorithms():
        known = ", ".join(["none", *Stemmer.algorithms()])
        raise SettingsError(f"passages.language: no stemmer for {language!r}; known: {known}")
    # The words are remembered above, so the stemmer's own cache would only keep them twice.
    return Stemmer.Stemmer(language, 0)


def _engine_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ShoptalkError(f"{name} is not installed; install the engine with `pip install 'shoptalk[cpu]'`") from None


class LexicalIndex:
    """BM25 search over passages by integer id: a folder of tantivy's.

    Open it to read (any number of threads), or create or open it to write (one thread), where
    nothing is seen until :meth:`commit`.
    """

    def __init__(self, folder: Path, index: Any, language: str, writer: Any = None) -> None:
        self._folder = folder
        self._index = index
        self._language = language
        self._writer = writer
        self._tantivy = _engine_module("tantivy")
        self._searcher = index.searcher()

    @classmethod
    def create(cls, folder: Path, language: str) -> LexicalIndex:
        """Make an empty index in the new folder ``folder``, open for writing."""
        tantivy = _engine_module("tantivy")
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
        tantivy = _engine_module("tantivy")
        try:
            index = tantivy.Index.open(str(folder))
            # Without this, tantivy keeps a thread that watches a folder which never changes.
            index.config_reader("manual")
            index.reload()
        except (ValueError, OSError) as error:
            raise IndexingError(f"{folder} is damaged ({error}); rebuild it with `shoptalk index --full`") from None
        return cls(folder, index, language, _writer(index) if writable else None)

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

    def search(self, query: str, limit: int, allowed: Collection[int] | None = None) -> list[tuple[int, float]]:
        """Return up to ``limit`` ``(id, BM25 score)``, best first, equal scores by id.

        A passage matches with any one of the query's terms. Of a long query the rarest terms
        count, as they bear most of the score. ``allowed`` limits the answer to those ids.
        """
        searcher = self._searcher
        terms = [(searcher.doc_freq("body", term), term) for term in query_terms(query, self._language)]
        terms = [(frequency, term) for frequency, term in terms if frequency]
        if len(terms) > MAX_QUERY_TERMS:
            terms = sorted(terms)[:MAX_QUERY_TERMS]
        if not terms or limit < 1 or (allowed is not None and not allowed):
            return []
        hits = searcher.search(self._query([term for _, term in terms], allowed), limit, False).hits
        numbers = searcher.fast_field_values("id", [address for _, address in hits])
        found = [(int(number), float(score)) for number, (score, _) in zip(numbers, hits, strict=True)]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def _query(self, terms: Sequence[str], allowed: Collection[int] | None) -> Any:
        # Built term by term: tantivy's parser refuses what people type.
        query, occur, schema = self._tantivy.Query, self._tantivy.Occur, self._index.schema
        words = query.boolean_query([(occur.Should, query.term_query(schema, "body", term, "freq")) for term in terms])
        if allowed is None:
            return words
        within = query.const_score_query(query.term_set_query(schema, "id", list(allowed)), 0.0)
        return query.boolean_query([(occur.Must, words), (occur.Must, within)])


def _writer(index: Any) -> Any:
    # One thread writes one segment, and the same segment each time.
    return index.writer(_WRITER_BYTES, 1)


class Bm25Scorer:
    """How well does this text match this query: rank-bm25's BM25Okapi over a list of texts.

    The statistics are rank-bm25's own and the scores equal its ``get_scores``; they are summed
    over the texts that hold a term instead of over all texts, which a mining run needs.

    k1 = 1.5, b = 0.75 (Trotman, Jia and Crane, Towards an Efficient and Effective Search Engine).
    """

    def __init__(self, texts: Sequence[str], language: str = "english") -> None:
        import numpy as np
        from rank_bm25 import BM25Okapi

        self._language = language
        self._size = len(texts)
        # Interned, a term is held once, not once a text.
        tokens = [[sys.intern(token) for token in tokenize(text, language)] for text in texts]
        self._postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        if not any(tokens):
            return  # BM25Okapi divides by the number of texts, and by that of terms
        bm25 = BM25Okapi(tokens)
        places: dict[str, list[int]] = {}
        for place, frequencies in enumerate(bm25.doc_freqs):
            for term in frequencies:
                places.setdefault(term, []).append(place)
        penalty = bm25.k1 * (1 - bm25.b + bm25.b * np.asarray(bm25.doc_len) / bm25.avgdl)
        for term, found in places.items():
            where = np.asarray(found, dtype=np.int64)
            counts = np.asarray([bm25.doc_freqs[place][term] for place in found])
            gain = bm25.idf[term] * counts * (bm25.k1 + 1) / (counts + penalty[where])
            self._postings[term] = (where, gain)

    def __len__(self) -> int:
        """How many texts there are."""
        return self._size

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return an array (number of texts,): the BM25 score of each text, 0 where none matches."""
        import numpy as np

        totals = np.zeros(self._size)
        for term in tokenize(query, self._language):
            if term in self._postings:
                where, gain = self._postings[term]
                totals[where] += gain
        return totals

    def score(self, query: str, index: int) -> float:
        """Return the BM25 score of the one text at ``index``.

        Raises:
            IndexError: there is no such text.
        """
        if not 0 <= index < self._size:
            raise IndexError(f"no text {index}; there are {self._size}")
        total = 0.0
        for term in tokenize(query, self._language):
            if term in self._postings:
                where, gain = self._postings[term]
                at = int(where.searchsorted(index))
                if at < len(where) and where[at] == index:
                    total += float(gain[at])
        return total
