"""The verbs init, index, search, status and doctor."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.console import Invocation, one_line, pass_invocation, printable
from retrieval.decoding import storable
from retrieval.errors import DocumentError, IndexingError, SettingsError, ShoptalkError
from retrieval.workspace import DEFAULT_BASE_MODEL, Workspace, home_expanded

if TYPE_CHECKING:
    from retrieval.documents import Skipped
    from retrieval.indexing import IndexReport
    from retrieval.search import Hit, Mode, SearchResult, Source

__all__ = ["doctor", "index", "init", "search", "status"]

SHOWN_SKIPPED = 20
SNIPPET_CHARS = 280
SHOWN_SOURCES = 3


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
    root = home_expanded(invocation.root).resolve()
    if (folder := home_expanded(base_model)).is_dir():
        base_model = _stored_path(folder, root)
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
@click.option("--verify", is_flag=True, help="Change nothing; check every byte of the indexes there are.")
@click.option("--watch", is_flag=True, help="Go on: index each change of the documents, until Ctrl-C.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where passages are encoded: in this process, or by the workers of a Ray cluster.",
)
@click.option(
    "--ray-address",
    default="",
    metavar="ADDRESS",
    help="The cluster, such as HOST:6379 (default: RAY_ADDRESS, else Ray on this machine alone).",
)
@pass_invocation
def index(
    invocation: Invocation, corpus: str, full: bool, verify: bool, watch: bool, engine: str, ray_address: str
) -> int:
    """Bring the search index up to date with the documents.

    Without CORPUS, every corpus of the workspace.
    """
    if verify and watch:
        raise click.UsageError("--verify changes nothing, and --watch indexes; give one of them")
    if engine == "ray" and (verify or watch):
        raise click.UsageError("--engine ray is for a run that encodes; leave out --verify and --watch")
    if ray_address and engine != "ray":
        raise click.UsageError("--ray-address is of use with --engine ray only; give both")
    from retrieval.embedders import open_embedder
    from retrieval.indexing import build_index
    from retrieval.models import current_reference

    workspace = invocation.workspace()
    names = [workspace.corpus_name(corpus)] if corpus or len(workspace.corpora) < 2 else list(workspace.corpora)
    if verify:
        return _verify(invocation, workspace, names)
    if watch:
        _watch(invocation, workspace, names, full)
    if engine == "ray":
        from retrieval.ray_cluster import connected
        from retrieval.ray_embedding import index_on_ray

        with connected(ray_address):
            return _index(invocation, names, partial(index_on_ray, workspace, full=full))
    embedder = open_embedder(current_reference(workspace), workspace) if len(names) > 1 else None
    return _index(invocation, names, partial(build_index, workspace, embedder=embedder, full=full))


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
    """Search a corpus and print the best passages.

    Where QUERY is - queries are read from standard input, one a line, and answered one by one: the model is loaded
    once. With --json each answer is a line.
    """
    from retrieval.search import SearchEngine

    engine = SearchEngine(invocation.workspace(), corpus)
    told: set[str] = set()

    def note(message: str) -> None:
        if message not in told:
            told.add(message)
            invocation.note(f"Note: {message}")

    many = query == "-"
    attended = many and sys.stdin.isatty()
    if attended:
        invocation.note("One query a line; Ctrl-D ends it.")
    for asked in _queries() if many else [query]:
        result = engine.search(asked, top_k=top_k, mode=mode, path_prefix=path_prefix)
        if path_prefix and not result.hits and (rows := engine.elsewhere(path_prefix, SHOWN_SOURCES)):
            known = ", ".join(row.path for row in rows)
            note(f"no document's path begins with {path_prefix}; paths look like {known}")
        if result.degraded:
            note(result.degraded)
        if engine.info().stale:
            note(f"the index was built with {result.model}; `shoptalk index` builds it with the model in use")
        text = _hits_text(result)
        if many:
            # On a terminal the query stands there already.
            text = f"{text}\n" if attended else f"{one_line(asked)}\n\n{text}\n"
        invocation.emit(asdict(result), text, line=many)


def _queries() -> Iterator[str]:
    """The lines of standard input that say something, as they come."""
    for line in sys.stdin.buffer:
        if query := line.decode("utf-8-sig", "replace").strip():
            yield query


@click.command()
@click.option("--settings", "settings", is_flag=True, help="Print each setting's value and where it came from.")
@pass_invocation
def status(invocation: Invocation, settings: bool) -> None:
    """Show the workspace: corpora, models, indexes, settings."""
    from retrieval.doctor import model_problems
    from retrieval.models import current_reference

    workspace = invocation.workspace()
    if settings:
        rows = [asdict(origin) for origin in workspace.origins]
        width = max(len(row["name"]) for row in rows)
        lines = [f"{row['name']:<{width}}  {_setting_text(row['value'])}  ({row['origin']})" for row in rows]
        return invocation.emit({"settings": rows}, "\n".join(lines))
    problems = model_problems(workspace)
    model = {"reference": current_reference(workspace), "base": workspace.model.base, "problems": problems}
    corpora = [_corpus_status(workspace, name) for name in workspace.corpora]
    lines = [f"workspace  {workspace.root}", f"model      {model['reference']} (base: {model['base']})"]
    lines += [f"           problem: {problem}" for problem in problems]
    store = workspace.store
    if store.kind != "local":
        lines.append(f"store      {store.kind}, {store.url}")
    for corpus in corpora:
        lines += _corpus_lines(corpus)
    told = {"kind": store.kind, "url": store.url}
    value = {"workspace": str(workspace.root), "model": model, "store": told, "corpora": corpora}
    return invocation.emit(value, "\n".join(lines))


@click.command()
@click.option("--deep", is_flag=True, help="Also read every byte of the indexes, and load the model (seconds).")
@pass_invocation
def doctor(invocation: Invocation, deep: bool) -> int:
    """Check the installation, the machine and the workspace, and say how to mend what is wrong.

    The exit code is 1 if something is wrong; what is only noted does not count.
    """
    from retrieval.doctor import examine

    checks = list(examine(invocation.root, deep=deep))
    wrong = any(check.state == "wrong" for check in checks)
    width = max(len(check.name) for check in checks)
    lines = [
        f"{check.state:<5}  {check.name:<{width}}  {check.message}" + (f"  -> {check.mend}" if check.mend else "")
        for check in checks
    ]
    told = "\n".join(map(one_line, lines))
    invocation.emit({"wrong": wrong, "checks": [asdict(check) for check in checks]}, told)
    return int(wrong)


def _index(invocation: Invocation, names: Sequence[str], build: Callable[..., IndexReport]) -> int:
    """Index the corpora ``names``, tell of each, and go on where one cannot be; the exit code is 1 then."""
    reports, failed = [], []
    for name in names:
        try:
            with invocation.progress() as progress:
                reports.append(build(name, progress=progress))
        except ShoptalkError as error:
            if len(names) == 1:
                raise
            failed.append(f"{name}: {error}")
    if reports:
        value = {"corpora": [asdict(report) for report in reports]}
        invocation.emit(value, "\n".join(line for report in reports for line in _report_lines(report)))
    if failed:
        raise IndexingError(f"{len(failed)} of {len(names)} corpora could not be indexed. {'; '.join(failed)}")
    return 0


def _watch(invocation: Invocation, workspace: Workspace, names: Sequence[str], full: bool) -> None:
    """Follow the documents: one line a generation on stdout, what is wrong on stderr. Ctrl-C ends it."""
    from retrieval.watching import watch

    seen: set[str] = set()
    left_out: dict[str, set[Skipped]] = {}

    def done(report: IndexReport) -> None:
        if report.changed or report.corpus not in seen:
            line = json.dumps(asdict(report), ensure_ascii=False) if invocation.json else _report_lines(report)[0]
            click.echo(line)
        seen.add(report.corpus)
        for item in sorted(set(report.skipped) - left_out.get(report.corpus, set()), key=lambda item: item.path):
            invocation.note(f"Left out: {item.path}: {item.reason}")
        left_out[report.corpus] = set(report.skipped)

    watch(
        workspace,
        names,
        done=done,
        problem=lambda message: click.echo(one_line(f"Error: {message}"), err=True),
        ready=lambda: invocation.note("Watching; Ctrl-C ends it."),
        full=full,
        progress=invocation.progress,
    )


def _verify(invocation: Invocation, workspace: Workspace, names: Sequence[str]) -> int:
    """Examine the indexes of the corpora ``names``; the exit code is 1 if one is not whole."""
    from retrieval.integrity import examine_index

    found = [item for name in names for item in examine_index(workspace, name)]
    lines = []
    for item in found:
        whole = f"whole: {item.files} files, {item.bytes:,} bytes" if item.files else "in the database, made elsewhere"
        told = item.problem or f"{whole}, {_count(item.passages, 'passage')}"
        named = f"{item.corpus} {item.generation}".rstrip() + (", live" if item.live else "")
        lines.append(f"{named}: {told}")
    invocation.emit({"generations": [asdict(item) for item in found]}, "\n".join(lines))
    return int(any(item.problem for item in found))


def _corpus_name(path: Path, taken: dict[str, str]) -> str:
    """A valid corpus name that is not taken, after the folder's or file's own."""
    resolved = home_expanded(path).resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    name = re.sub(r"[^a-z0-9_-]+", "-", name.casefold()).strip("-_")[:60] or "corpus"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def _stored_path(path: Path, root: Path) -> str:
    resolved = home_expanded(path).resolve()
    stored = resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(resolved)
    if storable(stored) != stored:
        raise SettingsError(
            f"{printable(storable(stored))}: a name that is not UTF-8 cannot be written into settings; rename it"
        )
    return stored


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
    lines = [
        f"Left out: {len(skipped)}",
        *(f"  {one_line(f'{item.path}: {item.reason}')}" for item in skipped[:SHOWN_SKIPPED]),
    ]
    if len(skipped) > SHOWN_SKIPPED:
        lines.append(f"  and {len(skipped) - SHOWN_SKIPPED} more (--json lists all)")
    return lines


def _hits_text(result: SearchResult) -> str:
    if not result.hits:
        return "Nothing found."
    entries = []
    for hit in result.hits:
        snippet = " ".join(hit.text[hit.own_start :].split())
        if len(snippet) > SNIPPET_CHARS:
            snippet = snippet[:SNIPPET_CHARS].rsplit(" ", 1)[0] + " …"
        lines = [f"{hit.rank}. {_place(hit)}  ({hit.score:.3f})", " › ".join(hit.heading) or hit.title, snippet]
        if hit.also:
            more = hit.also_total - SHOWN_SOURCES
            shown = ", ".join(map(_place, hit.also[:SHOWN_SOURCES]))
            lines.append(f"also in {shown}" + (f" and {more} more" if more > 0 else ""))
        entries.append("\n   ".join(map(one_line, lines)))
    return "\n\n".join(entries)


def _place(found: Hit | Source) -> str:
    """Where a passage stands: its file with lines or pages, and its document where the file has several."""
    from retrieval.documents import SHEETS

    # By sheet and row: the row alone may be any sheet's.
    if found.document_id.startswith(f"{found.path}#") and found.path.lower().endswith(SHEETS):
        return found.document_id
    place = f"{found.first_line}-{found.last_line}"
    if found.first_page is not None:
        one = found.first_page == found.last_page
        place = f"p. {found.first_page}" if one else f"p. {found.first_page}-{found.last_page}"
    # A record's id names no file; a reader wants both.
    named = "" if found.document_id.startswith(found.path) else f" {found.document_id}"
    return f"{found.path}:{place}{named}"


def _corpus_status(workspace: Workspace, name: str) -> dict[str, Any]:
    from retrieval.doctor import corpus_problem, index_problem
    from retrieval.search import SearchEngine
    from retrieval.stores import indexed_elsewhere

    paths = [str(path) for path in workspace.corpus_paths(name)]
    of_documents = "" if indexed_elsewhere(workspace, name) else corpus_problem(workspace, name)
    problems = [problem for problem in (of_documents, index_problem(workspace, name)) if problem]
    try:
        info = asdict(SearchEngine(workspace, name).info())
    except IndexingError as error:
        return {"corpus": name, "paths": paths, "problems": list(dict.fromkeys([*problems, str(error)]))}
    return {**info, "paths": paths, "problems": problems}


def _corpus_lines(corpus: dict[str, Any]) -> list[str]:
    lines = [f"corpus     {corpus['corpus']}: {', '.join(corpus['paths'])}"]
    problems = [f"           problem: {problem}" for problem in corpus["problems"]]
    if "generation" not in corpus:
        return [*lines, *problems]
    counts = f"{_count(corpus['documents'], 'document')}, {_count(corpus['passages'], 'passage')}"
    lines.append(f"           {counts}, generation {corpus['generation']}, {_age(corpus['created'])} old")
    lines.append(f"           by {corpus['reference']}, {corpus['dimension']} dimensions")
    return [*lines, *problems]


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
