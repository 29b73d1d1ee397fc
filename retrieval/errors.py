"""Everything Shoptalk raises on purpose.

* ShoptalkError            exit code 1
  * SettingsError          shoptalk.toml or a SHOPTALK_* variable is wrong
  * DocumentError          a corpus, or one file of it, cannot be read
  * ModelError             a model reference does not resolve, load or fit
    * EndpointError        the server that embeds does not answer, or not as it should
  * IndexingError          an index is missing, damaged, locked or of another model
    * IndexingCancelled    an indexing run was asked to stop, and did
    * NewerFormat          a later version of Shoptalk wrote the index
    * GenerationGone       a reader kept a generation for longer than its database did
    * StoreError           the database that holds the index does not answer, or not as it should
  * QuestionsError         questions, qrels or mined pairs do not suffice
  * GateRefused            exit code 3: a verdict said no

Each message is one line that names the file or setting at fault and the way to mend it.
"""

from __future__ import annotations

__all__ = [
    "DocumentError",
    "EndpointError",
    "GenerationGone",
    "GateRefused",
    "IndexingCancelled",
    "IndexingError",
    "ModelError",
    "NewerFormat",
    "QuestionsError",
    "SettingsError",
    "ShoptalkError",
    "StoreError",
    "first_line",
    "refusal_of",
]


class ShoptalkError(Exception):
    """Base of every error whose message is meant for the person at the keyboard."""

    exit_code = 1


class SettingsError(ShoptalkError):
    """A setting is missing or wrong; the message names its file, key and line."""


class DocumentError(ShoptalkError):
    """A corpus, or one file of it, cannot be read."""


class ModelError(ShoptalkError):
    """A model reference does not resolve, does not load, or does not fit what it is used for."""


class EndpointError(ModelError):
    """The server that embeds (``model.endpoint``) does not answer, or not as it should."""


class IndexingError(ShoptalkError):
    """An index is missing, damaged, held by another writer, or built by another model."""


class IndexingCancelled(IndexingError):
    """An indexing run was asked to stop, and did; the old index stays."""


class NewerFormat(IndexingError):
    """A later version of Shoptalk wrote the index: this one can neither read it nor may replace it."""


class GenerationGone(IndexingError):
    """What a search began with is no longer in the database; it has to begin anew."""


class StoreError(IndexingError):
    """The database that holds the index (``store.url``) does not answer, or not as it should."""


class QuestionsError(ShoptalkError):
    """Questions, relevance judgments or mined pairs are missing, malformed or too few."""


class GateRefused(ShoptalkError):
    """A gate said no: the work is whole and kept, but its result may not be put to use."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def refusal_of(error: OSError) -> str:
    """What the operating system refused, and of which file."""
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
