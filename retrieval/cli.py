"""The verbs init, index, search and status."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import DocumentError, IndexingError
from retrieval.workspace import DEFAULT_BASE_MODEL, Workspace

if TYPE_CHECKING:
    from retrieval.documents import Skipped
    from retrieval.indexing import IndexReport
    from retrieval.search import Mode, SearchResult

__all__ = ["index", "init", "search", "status"]

SHOWN_SKIPPED = 20
SNIPPET_CHARS = 280


@click.command()
@click.option(
    "--corpus",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder or file of documents; may be given several times.",
)
@click.option(
    "--base-model",
    "base_model",
    default=DEFAULT_BASE_MODEL,
    show_default=True,
    metavar="REF",
    help="The model to start from: a Hub id, a folder, or package:NAME/FOLDER.",
)
@pass_invocation
def init(invocation: Invocation, paths: tuple[Path, ...], base_model: str) -> None:
    """Write shoptalk.toml for a folder of documents."""
    if not paths:
        raise click.UsageError("no documents were named; give their folder with --corpus PATH")
    root = invocation.root.expanduser().resolve()
    corpora: dict[str, str] = {}
    for path in paths:
        corpora[_corpus_name(path, corpora)] = _stored_path(path, root)
    counts, skipped = _check(root, corpora, base_model)
    file = Workspace.create(root, corpora, base_model)
    value = {
        "file": str(file),
        "base_model": base_model,
        "corpora": {name: {"path": path, "files": counts[name]} for name, path in corpora.items()},
        "skipped": [asdict(item) for item in skipped],
    }
    lines = [f"Wrote {file}"]
    lines += [f"  corpus {name}: {path}, {_count(counts[name], 'file')}" for name, path in corpora.items()]
    lines += [f"  base model: {base_model}", *_skipped_lines(skipped), "Next: shoptalk index, then shoptalk search"]
    invocation.emit(value, "\n".join(lines))


@click.command()
@click.argument("corpus", default="")
@click.option("--full", is_flag=True, help="Read and cut every document anew.")
@pass_invocation
def index(invocation: Invocation, corpus: str, full: bool) -> None:
    """Bring the search index up to date with the documents.

    Without CORPUS, every corpus of the workspace.
    """
    from retrieval.embedders import load_embedder
    from retrieval.indexing import build_index
    from retrieval.models import current_reference

    workspace = invocation.workspace()
    names = [workspace.corpus_name(corpus)] if corpus or len(workspace.corpora) < 2 else list(workspace.corpora)
    embedder = load_embedder(current_reference(workspace), workspace) if len(names) > 1 else None
    reports = []
    for name in names:
        with invocation.progress() as progress:
            reports.append(build_index(workspace, name, embedder=embedder, full=full, progress=progress))
    value = {"corpora": [asdict(report) for report in reports]}
    invocation.emit(value, "\n".join(line for report in reports for line in _report_lines(report)))


@click.command()
@click.argument("query")
@click.option("-k", "top_k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many passages.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    help="By meaning, by words, or both (default: search.mode of shoptalk.toml).",
)
@click.option("--corpus", default="", help="Which corpus, where the workspace has several.")
@click.option("--path", "path_prefix", default="", metavar="PREFIX", help="Only documents whose path starts so.")
@pass_invocation
def search(invocation: Invocation, query: str, top_k: int, mode: Mode | None, corpus: str, path_prefix: str) -> None:
    """Search a corpus and print the best passages."""
    from retrieval.search import SearchEngine

    engine = SearchEngine(invocation.workspace(), corpus)
    result = engine.search(query, top_k=top_k, mode=mode, path_prefix=path_prefix)
    if result.degraded:
        invocation.note(f"Note: {result.degraded}")
    if engine.info().stale:
        invocation.note(
            f"Note: the index was built with {result.model}; `shoptalk index` builds it with the model in use"
        )
    invocation.emit(asdict(result), _hits_text(result))


@click.command()
@click.option("--settings", "settings", is_flag=True, help="Print each setting's value and where it came from.")
@pass_invocation
def status(invocation: Invocation, settings: bool) -> None:
    """Show the workspace: corpora, models, indexes, settings."""
    from retrieval.models import current_reference

    workspace = invocation.workspace()
    if settings:
        rows = [asdict(origin) for origin in workspace.origins]
        width = max(len(row["name"]) for row in rows)
        lines = [f"{row['name']:<{width}}  {_setting_text(row['value'])}  ({row['origin']})" for row in rows]
        return invocation.emit({"settings": rows}, "\n".join(lines))
    model = {"reference": current_reference(workspace), "base": workspace.model.base}
    corpora = [_corpus_status(workspace, name) for name in workspace.corpora]
    lines = [f"workspace  {workspace.root}", f"model      {model['reference']} (base: {model['base']})"]
    for corpus in corpora:
        lines += _corpus_lines(corpus)
    return invocation.emit({"workspace": str(workspace.root), "model": model, "corpora": corpora}, "\n".join(lines))


def _corpus_name(path: Path, taken: dict[str, str]) -> str:
    """A valid corpus name that is not taken, after the folder's or file's own."""
    resolved = path.expanduser().resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    name = re.sub(r"[^a-z0-9_-]+", "-", name.casefold()).strip("-_")[:60] or "corpus"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def _stored_path(path: Path, root: Path) -> str:
    resolved = path.expanduser().resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(resolved)


def _check(root: Path, corpora: dict[str, str], base_model: str) -> tuple[dict[str, int], list[Skipped]]:
    """Count the files of each corpus, before anything is written.

    Raises:
        DocumentError: a path is missing, or holds nothing that can be read.
        ModelError: ``base_model`` is no model reference.
    """
    from retrieval.documents import require_documents, walk
    from retrieval.models import resolve

    with tempfile.TemporaryDirectory() as elsewhere:
        Workspace.create(elsewhere, corpora, base_model)
        workspace = replace(Workspace.open(elsewhere), root=root)
    counts: dict[str, int] = {}
    skipped: list[Skipped] = []
    for name in corpora:
        for path in workspace.corpus_paths(name):
            if not path.exists():
                raise DocumentError(f"--corpus {path} does not exist")
        files, left_out = walk(workspace, name)
        require_documents(workspace, name, len(files), left_out)
        counts[name] = len(files)
        skipped += left_out
    resolve(workspace, base_model)
    return counts, skipped


def _report_lines(report: IndexReport) -> list[str]:
    documents = report.added + report.updated + report.unchanged
    line = f"{report.corpus}: {_count(documents, 'document')}, {_count(report.passages, 'passage')}"
    if report.changed:
        line += (
            f" ({report.added} added, {report.updated} updated, {report.removed} removed, {report.unchanged} unchanged;"
            f" {_count(report.embedded, 'passage')} encoded) in {report.seconds:.1f} s, generation {report.generation}"
        )
    else:
        line += f": up to date, generation {report.generation}"
    return [line, *_skipped_lines(report.skipped)]


def _skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    if not skipped:
        return []
    lines = [f"Left out: {len(skipped)}", *(f"  {item.path}: {item.reason}" for item in skipped[:SHOWN_SKIPPED])]
    if len(skipped) > SHOWN_SKIPPED:
        lines.append(f"  and {len(skipped) - SHOWN_SKIPPED} more (--json lists all)")
    return lines


def _hits_text(result: SearchResult) -> str:
    if not result.hits:
        return "Nothing found."
    entries = []
    for hit in result.hits:
        lines = f"{hit.first_line}-{hit.last_line}"
        snippet = " ".join(hit.text.split())
        if len(snippet) > SNIPPET_CHARS:
            snippet = snippet[:SNIPPET_CHARS].rsplit(" ", 1)[0] + " …"
        # A record's id names no file; a reader wants both.
        named = "" if hit.document_id.startswith(hit.path) else f" {hit.document_id}"
        place = f"{hit.rank}. {hit.path}:{lines}{named}  ({hit.score:.3f})"
        entries.append("\n   ".join([place, " › ".join(hit.heading) or hit.title, snippet]))
    return "\n\n".join(entries)


def _corpus_status(workspace: Workspace, name: str) -> dict[str, Any]:
    from retrieval.search import SearchEngine

    paths = [str(path) for path in workspace.corpus_paths(name)]
    try:
        info = asdict(SearchEngine(workspace, name).info())
    except IndexingError as error:
        return {"corpus": name, "paths": paths, "problem": str(error)}
    return {**info, "paths": paths, "problem": ""}


def _corpus_lines(corpus: dict[str, Any]) -> list[str]:
    lines = [f"corpus     {corpus['corpus']}: {', '.join(corpus['paths'])}"]
    if corpus["problem"]:
        return [*lines, f"           {corpus['problem']}"]
    counts = f"{_count(corpus['documents'], 'document')}, {_count(corpus['passages'], 'passage')}"
    lines.append(f"           {counts}, generation {corpus['generation']}, {_age(corpus['created'])} old")
    lines.append(f"           by {corpus['reference']}, {corpus['dimension']} dimensions")
    if corpus["stale"]:
        lines.append("           another model is in use now; `shoptalk index` builds it anew")
    return lines


def _setting_text(value: object) -> str:
    return "unset" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _age(created: str) -> str:
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return _count(seconds // length, unit)
    return _count(seconds, "second")
