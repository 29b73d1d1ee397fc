"""What ``model_status`` tells: the model in use, the indexes, the jobs and the model versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retrieval.doctor import folder_problem, index_problem, model_problems
from retrieval.embedders import device_in_use
from retrieval.errors import ShoptalkError
from retrieval.models import ModelVersion, current_reference, list_versions
from retrieval.stores import indexed_elsewhere
from retrieval.workspace import Workspace
from server.contract import CorpusStatus, LoadState, ModelStatusOutput, VersionStatus
from server.engines import Engines
from server.jobs import Jobs
from server.refusals import without_root

if TYPE_CHECKING:
    from retrieval.search import EngineInfo

__all__ = ["model_status_output"]

_WORST_FIRST: tuple[LoadState, ...] = ("failed", "loading", "not loaded", "ready")


def model_status_output(workspace: Workspace, engines: Engines, jobs: Jobs) -> ModelStatusOutput:
    """Describe model, indexes, jobs and versions as they are now; loads nothing."""
    reference = current_reference(workspace)
    versions = list_versions(workspace)
    version = next((version for version in versions if version.current), None)
    infos = {corpus: _info(engines, corpus) for corpus in sorted(workspace.corpora)}
    states = {corpus: engines.load_state(corpus) for corpus in infos}
    load_errors = [*model_problems(workspace), *(error for _, error in states.values() if error)]
    fitting = next((info for info, _ in infos.values() if info is not None and not info.stale), None)
    indexed = [state for corpus, (state, _) in states.items() if infos[corpus][0] is not None]
    loaded = any(state == "ready" for state, _ in states.values())
    return ModelStatusOutput(
        model=reference,
        version=version.name if version else "",
        fingerprint=fitting.fingerprint if fitting else "",
        dimension=fitting.dimension if fitting else 0,
        device=device_in_use(workspace) if loaded else "",
        load_state=min(indexed, key=_WORST_FIRST.index, default="not loaded"),
        load_error=without_root(workspace.root, "; ".join(dict.fromkeys(load_errors))),
        verdict=version.verdict if version else "",
        ndcg_before=version.ndcg_before if version else None,
        ndcg_after=version.ndcg_after if version else None,
        corpora=[
            _without_index(corpus, without_root(workspace.root, problem))
            if info is None
            else _with_index(workspace, info, *states[corpus])
            for corpus, (info, problem) in infos.items()
        ],
        jobs=[job.output() for job in jobs.recent()],
        versions=[_version_status(version) for version in versions],
    )


def _info(engines: Engines, corpus: str) -> tuple[EngineInfo | None, str]:
    """What the engine says of the live index, or why there is none."""
    try:
        return engines.info(corpus), ""
    except ShoptalkError as error:
        return None, str(error)


def _with_index(workspace: Workspace, info: EngineInfo, load_state: LoadState, load_error: str) -> CorpusStatus:
    degraded = load_error and f"words only: {load_error}"
    degraded = degraded or index_problem(workspace, info.corpus)
    if not degraded and not indexed_elsewhere(workspace, info.corpus):
        degraded = folder_problem(workspace, info.corpus)
    return CorpusStatus(
        corpus=info.corpus,
        load_state=load_state,
        generation=info.generation,
        documents=info.documents,
        passages=info.passages,
        age_seconds=max(0.0, (datetime.now(UTC) - datetime.fromisoformat(info.created)).total_seconds()),
        stale=info.stale,
        degraded=without_root(workspace.root, degraded),
    )


def _without_index(corpus: str, problem: str) -> CorpusStatus:
    return CorpusStatus(
        corpus=corpus,
        load_state="not loaded",
        generation="",
        documents=0,
        passages=0,
        age_seconds=0.0,
        stale=False,
        degraded=problem,
    )


def _version_status(version: ModelVersion) -> VersionStatus:
    return VersionStatus(
        name=version.name,
        current=version.current,
        created=version.created,
        verdict=version.verdict,
        ndcg_before=version.ndcg_before,
        ndcg_after=version.ndcg_after,
    )
