"""Models side by side on the same questions over the same corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval.console import Progress, silent
from retrieval.embedders import load_embedder
from retrieval.fusion import served_weight
from retrieval.heading_share import served_share
from retrieval.indexing import passage_limit
from retrieval.models import ModelVersion, list_versions, resolve, tuned_fusion
from retrieval.workspace import Workspace
from trainer.evaluation import Judge, Scores
from trainer.looks import record_look, refuse_second_look
from trainer.material import gather
from trainer.outcome import Row
from trainer.questions import MINED_EVIDENCE, QuestionSet, answerable, by_answers, left_out_told, load_questions
from trainer.ranking import by_heading_share, rank
from trainer.runs import Rankings, write_runs
from trainer.statistics import Change, compare, gate, verdict

__all__ = ["Comparison", "compare_models"]

Mode = Literal["dense", "lexical", "hybrid"]


@dataclass(frozen=True)
class Comparison:
    """A row a model and mode; each change is against the first row. ``notes`` say what is worth knowing of them."""

    questions: int
    missing: list[str]
    rows: list[Row]
    notes: list[str]


def compare_models(
    workspace: Workspace,
    corpus: str,
    references: Sequence[str],
    questions: Path,
    mode: str | None = None,
    *,
    look_again: bool = False,
    runs: Path | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Judge each model in each mode (or in ``mode``) on all of the questions.

    Every look at a version is recorded; a second one at questions that have judged it before is refused
    unless ``look_again``. ``runs`` is a folder to write the rankings to, in TREC's format.

    Raises:
        GateRefused: some of the questions have judged one of the versions before; nothing was scored.
        ModelError: a reference is unknown or cannot be loaded.
        QuestionsError: the questions cannot be read or are not about this corpus.
    """
    concrete = list(dict.fromkeys(resolve(workspace, reference).reference for reference in references))
    loaded = load_questions(questions)
    asked = loaded.all
    versions = {version.name: version for version in list_versions(workspace) if version.name in concrete}
    if mode != "lexical" and not look_again:
        for version in versions.values():
            refuse_second_look(workspace, version, asked)
    first: Scores | None = None
    missing: list[str] = []
    left_out: list[str] = []
    answers: list[int] = []
    rows: list[Row] = []
    rankings: dict[str, Rankings] = {}
    hybrid: dict[str, Scores] = {}
    for place, reference in enumerate(concrete):
        if not (modes := _modes(mode, place)):
            continue
        judged = _judge_model(workspace, corpus, reference, loaded, modes, progress)
        asked, missing, left_out = judged.questions.all, judged.missing, left_out_told(loaded, judged.questions)
        answers = by_answers(asked)
        for name, scores in judged.scores.items():
            change = None if first is None else compare(first.ndcg, scores.ndcg, answers)
            first = first or scores
            shown = judged.weight if name == "hybrid" else None
            rows.append(Row("BM25" if name == "lexical" else reference, name, shown, scores.means(), change))
            rankings[f"{rows[-1].system}-{name}"] = scores.rankings
        if "hybrid" in judged.scores:
            hybrid[reference] = judged.scores["hybrid"]
        if reference in versions and modes != ("lexical",):
            found: dict[str, float] = {name: scores.means()["ndcg@10"] for name, scores in judged.scores.items()}
            record_look(workspace, versions[reference], asked, "evaluate", found)
    if runs is not None:
        write_runs(runs, asked, rankings)
    served_changes = {
        reference: compare(hybrid[concrete[0]].ndcg, scores.ndcg, answers)
        for reference, scores in hybrid.items()
        if reference != concrete[0]
    }
    notes = [
        f"What is served (hybrid search), {concrete[0]} {change.before:.3f} → {reference} {change.after:.3f}: "
        f"{change}, {verdict(change)}"
        for reference, change in served_changes.items()
    ]
    different = len(set(answers))
    if different < len(asked) and any(row.change for row in rows):
        notes.insert(0, f"the {len(asked)} questions are of {different} different answers: intervals are over those")
    return Comparison(len(asked), missing, rows, [*left_out, *notes, *_flattered(versions, rows, served_changes)])


@dataclass(frozen=True)
class _Judged:
    """One model's scores by mode, the weight of BM25 in its hybrid search, what was asked, and answers not there."""

    scores: dict[Mode, Scores]
    weight: float
    questions: QuestionSet
    missing: list[str]


def _judge_model(
    workspace: Workspace,
    corpus: str,
    reference: str,
    questions: QuestionSet,
    modes: Sequence[Mode],
    progress: Progress,
) -> _Judged:
    """Ask one model the questions over passages that are measured in its own tokens, as searches by it would be."""
    embedder = load_embedder(reference, workspace)
    passages = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress).passages
    questions, missing = answerable(questions, passages)
    texts = [passage.embedded_text for passage in passages]
    judge = Judge.of(workspace, passages, texts, questions.all)
    fusion = tuned_fusion(workspace, reference)
    weight = served_weight(workspace.search.lexical_weight, fusion.lexical_weight)
    if modes == ("lexical",):
        return _Judged({"lexical": judge.score("lexical")}, weight, questions, missing)
    plain = rank(judge, workspace, corpus, embedder, texts, progress)
    headings = [passage.embedded_heading for passage in passages]
    served = by_heading_share(judge, workspace, corpus, embedder, headings, plain)(served_share(workspace, fusion))
    found = {"lexical": None, "dense": plain.candidates, "hybrid": served}
    return _Judged({mode: judge.score(mode, found[mode], weight) for mode in modes}, weight, questions, missing)


def _flattered(
    versions: Mapping[str, ModelVersion], rows: Sequence[Row], served: Mapping[str, Change]
) -> Iterator[str]:
    """Where a version was judged by mined questions, what those said beside what these say."""
    for row in rows:
        version = versions.get(row.system)
        if not version or row.mode != "dense" or not row.change or rows[0].mode != "dense":
            continue
        if version.evaluation.get("evidence") == MINED_EVIDENCE and rows[0].system == version.training.get("base"):
            said = Change(**version.evaluation["dense"])
            found = gate(row.change, served.get(row.system, row.change))
            differ = "" if version.verdict == found else "; the real ones count"
            yield (
                f"{version.name} on {said.questions} mined questions: {version.verdict}, dense {said}; on these "
                f"{row.change.questions} real ones: {found}, dense {row.change}{differ}"
            )


def _modes(mode: str | None, place: int) -> tuple[Mode, ...]:
    wanted: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
    if mode is not None:
        wanted = tuple(name for name in wanted if name == mode)
    # BM25 is the same whatever the model.
    return tuple(name for name in wanted if place == 0 or name != "lexical")
