"""Inputs and outputs of every tool: what a client may send, and what it gets back.

Inputs are annotated types with bounds, so that the published schema and the check are one thing.
Optional strings default to "" because some clients trip over ``anyOf: null``. Outputs are models,
published as each tool's output schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Cancel",
    "ConnectorDocument",
    "ConnectorResult",
    "ConnectorResults",
    "Corpus",
    "CorpusStatus",
    "HitOutput",
    "IndexingMode",
    "JobId",
    "JobOutput",
    "JobState",
    "LoadState",
    "MaxChars",
    "ModelStatusOutput",
    "PathPrefix",
    "Query",
    "SearchMode",
    "SearchOutput",
    "SkippedFile",
    "SourceOutput",
    "TopK",
    "VersionStatus",
    "WaitSeconds",
]

JobState = Literal["running", "done", "failed", "cancelled"]
LoadState = Literal["not loaded", "loading", "ready", "failed"]

Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        description="What to look for: a question or a description in plain words, as the documents might put it.",
    ),
]
Corpus = Annotated[
    str,
    Field(
        max_length=64, description='The corpus to use. "" is the only one there is; name it where there are several.'
    ),
]
TopK = Annotated[int, Field(ge=1, le=50, description="How many passages to return at most.")]
SearchMode = Annotated[
    Literal["hybrid", "dense", "lexical"],
    Field(
        description="hybrid weighs meaning and words together and suits most questions; dense goes by meaning alone; "
        "lexical by words alone, for exact names, codes and error messages."
    ),
]
PathPrefix = Annotated[
    str,
    Field(
        max_length=1000,
        description='Only documents whose id begins with this, e.g. "guides/". "" searches the whole corpus.',
    ),
]
MaxChars = Annotated[
    int,
    Field(ge=100, le=20_000, description="The longest text to return of each passage, in characters."),
]
IndexingMode = Annotated[
    Literal["incremental", "full"],
    Field(description="incremental indexes what changed since the last time; full indexes everything anew."),
]
WaitSeconds = Annotated[
    int,
    Field(
        ge=0, le=50, description="How long this call waits for the job to end. The job goes on when the wait is over."
    ),
]
JobId = Annotated[
    str,
    Field(max_length=64, description='The job to wait for or cancel, from an earlier call. "" starts or joins a job.'),
]
Cancel = Annotated[bool, Field(description="Stop the job named by job_id, or the corpus's running job.")]


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceOutput(_Output):
    """Where else a passage's text stands."""

    document_id: str
    uri: str
    first_line: int
    last_line: int


class HitOutput(_Output):
    """A passage that was found."""

    rank: int = Field(description="Place in the answer, from 1.")
    id: str = Field(description="Id of the passage; stable while its document, heading and text stay the same.")
    document_id: str
    title: str
    heading: list[str] = Field(description="Headings above the passage, outermost first.")
    uri: str = Field(description="URI of the document; ends in #page=N, the passage's first page, where it has pages.")
    first_line: int = Field(description="First line of the passage in its source file, from 1.")
    last_line: int
    text: str = Field(description="Untrusted text from the document.")
    truncated: bool = Field(description="Whether text was cut short.")
    score: float
    dense_rank: int | None = Field(description="Place by meaning alone; null where that side did not find it.")
    lexical_rank: int | None = Field(description="Place by words alone; null where that side did not find it.")
    also: list[SourceOutput] = Field(
        default_factory=list, description="Other places that say the same, nearly word for word; the first of them."
    )
    also_total: int = Field(default=0, description="How many such places were found.")


class SearchOutput(_Output):
    """What ``search_corpus`` found."""

    query: str
    mode: Literal["hybrid", "dense", "lexical"] = Field(description="How the hits were really ranked.")
    corpus: str
    model: str = Field(description="Reference of the embedding model of the index.")
    generation: str = Field(description="Generation of the index that answered.")
    degraded: str = Field(description='"", or why the answer is less than was asked for.')
    hits: list[HitOutput]


class SkippedFile(_Output):
    """A file or record that was not indexed, and why."""

    path: str
    reason: str


class JobOutput(_Output):
    """An indexing job as it stands."""

    job_id: str
    corpus: str
    mode: Literal["incremental", "full"]
    state: JobState
    reason: str = Field(default="", description="Why the job failed.")
    stage: str = Field(default="", description="What the job is doing, or did last.")
    done: int = Field(default=0, description="Items of this stage that are done.")
    total: int = Field(default=0, description="Items of this stage; 0 while not known.")
    added: int = Field(default=0, description="Documents added.")
    updated: int = Field(default=0, description="Documents updated.")
    removed: int = Field(default=0, description="Documents removed.")
    skipped: list[SkippedFile] = Field(default_factory=list, description="Files left out; the first of them.")
    skipped_total: int = Field(default=0, description="How many files were left out.")
    generation: str = Field(default="", description="The generation that is live after the job.")
    seconds: float = Field(default=0.0, description="How long the job has run.")


class CorpusStatus(_Output):
    """A corpus and its index."""

    corpus: str
    load_state: LoadState
    generation: str = Field(description='The live generation; "" where there is no index yet.')
    documents: int
    passages: int
    age_seconds: float = Field(description="Time since the live generation was built.")
    stale: bool = Field(
        description="Whether the index was built by another model than the one in use: reindex it. "
        "Documents that have changed since are not looked for."
    )
    degraded: str = Field(description='"", or why searches give less than they could, and what mends it.')


class VersionStatus(_Output):
    """A model version and how it was judged."""

    name: str
    current: bool
    created: str
    verdict: str = Field(description='WIN, TIE or REGRESSION against the base model; "" where it was not judged.')
    ndcg_before: float | None = Field(description="NDCG@10 of the base model on the test questions.")
    ndcg_after: float | None = Field(description="NDCG@10 of this version on the same questions.")


class ModelStatusOutput(_Output):
    """The model in use, the indexes, recent jobs and the model versions there are."""

    model: str = Field(description="Reference of the model in use.")
    version: str = Field(description='The model version in use; "" for a base model.')
    fingerprint: str = Field(description='Identity of that model; "" until a corpus is indexed with it.')
    dimension: int = Field(description="Length of its vectors; 0 until a corpus is indexed with it.")
    device: str = Field(description='Where it runs; "" until it is loaded.')
    load_state: LoadState
    load_error: str = Field(description='"", or why the model did not load.')
    verdict: str
    ndcg_before: float | None
    ndcg_after: float | None
    corpora: list[CorpusStatus]
    jobs: list[JobOutput] = Field(description="Recent indexing jobs, newest first.")
    versions: list[VersionStatus]


class ConnectorResult(_Output):
    """A document that ``search`` found."""

    id: str = Field(description="What fetch takes.")
    title: str
    url: str


class ConnectorResults(_Output):
    """What ``search`` found."""

    results: list[ConnectorResult]


class ConnectorDocument(_Output):
    """What ``fetch`` read."""

    id: str
    title: str
    text: str = Field(description="Untrusted text of the document.")
    url: str
    metadata: dict[str, str]
