"""What is wrong with a workspace, and how to mend it. Each check is a small function; nothing heavy is imported.

`model_problems`, `folder_problem`, `corpus_problem` and `index_problem` are the rules; ``status`` and the
server tell the same ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from retrieval.errors import IndexingError, ShoptalkError
from retrieval.generation import open_current, remains, writer
from retrieval.installation import Check, check_installation, check_machine
from retrieval.models import ResolvedModel, abandoned, current_reference, history, list_versions, resolve
from retrieval.stores import indexed_elsewhere, open_store
from retrieval.workspace import FILE_NAME, Workspace, unread_variables

__all__ = ["Check", "corpus_problem", "examine", "folder_problem", "index_problem", "model_problems"]

_GIB = 1024**3
_HERE = ("127.0.0.1", "::1", "localhost")
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_REMOTE_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"}
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_watches")
_MOST_FOLDERS = 100_000


def examine(root: Path, *, deep: bool = False) -> Iterator[Check]:
    """Yield what was found of the installation, the machine and the workspace at ``root``.

    ``deep`` also reads every byte of the indexes and the model in use, and loads that model (seconds).
    """
    yield from check_installation()
    try:
        workspace = Workspace.open(root)
    except ShoptalkError as error:
        yield from check_machine("auto")
        yield Check("workspace", "wrong", str(error))
        return
    yield from check_machine(workspace.model.device)
    yield _folder(workspace)
    yield from _environment()
    yield _disk(workspace)
    if workspace.store.kind != "local":
        yield _store(workspace)
    yield from _model(workspace, deep)
    if workspace.search.rerank:
        yield _reranker(workspace, deep)
    if not workspace.corpora:
        mend = 'add [corpus.NAME] with paths = ["FOLDER"] to shoptalk.toml'
        yield Check("corpora", "wrong", "the workspace names no corpus", mend)
    for corpus in workspace.corpora:
        yield _corpus(workspace, corpus)
        yield from _index(workspace, corpus, deep)
    yield from _watches(workspace)
    yield _key()


def model_problems(workspace: Workspace) -> list[str]:
    """Return why the model in use, or the base model, cannot be found; nothing is loaded."""
    problems = []
    try:
        references = list(dict.fromkeys((current_reference(workspace), workspace.model.base)))
    except ShoptalkError as error:
        return [str(error)]
    for reference in references:
        try:
            resolved = resolve(workspace, reference)
        except ShoptalkError as error:
            problems.append(str(error))
            continue
        if not workspace.model.endpoint and (problem := _download_problem(resolved, "model.base")):
            problems.append(problem)
    return problems


def folder_problem(workspace: Workspace, corpus: str) -> str:
    """Return what is wrong with the paths of ``corpus``, "" where nothing is; does not walk them."""
    for path in workspace.corpus_paths(corpus):
        if not path.exists():
            return (
                f"corpus {corpus!r}: {path} does not exist; correct paths under [corpus.{corpus}] "
                f"in {workspace.root / FILE_NAME}"
            )
        if not os.access(path, os.R_OK):
            return f"corpus {corpus!r}: {path} may not be read; grant it, or run as its owner"
    return ""


def corpus_problem(workspace: Workspace, corpus: str) -> str:
    """Return what is wrong with the documents of ``corpus``, "" where nothing is; reads none of them."""
    from retrieval.documents import require_documents, walk

    problem = folder_problem(workspace, corpus)
    if problem:
        return problem
    try:
        files, left_out = walk(workspace, corpus)
        require_documents(workspace, corpus, len(files), left_out)
    except ShoptalkError as error:
        return str(error)
    return ""


def index_problem(workspace: Workspace, corpus: str) -> str:
    """Return what is wrong with the live index of ``corpus``, "" where nothing shows; checks no bytes."""
    try:
        built_with = open_store(workspace, corpus).open().facts.reference
        used = current_reference(workspace)
    except ShoptalkError as error:
        return str(error)
    if built_with != used:
        return f"the index was built with {built_with} and {used} is in use now; run `shoptalk index`"
    return ""


def _folder(workspace: Workspace) -> Check:
    for path, what in ((workspace.root / "indexes", "indexing does"), (workspace.models_dir, "tuning does")):
        place = path if path.exists() else workspace.root
        if not os.access(place, os.W_OK):
            told = f"{place} may not be written: searches work, {what} not"
            return Check("workspace", "note", told, "grant it, or run as its owner")
    return Check("workspace", "ok", str(workspace.root))


def _environment() -> Iterator[Check]:
    """Variables that nothing reads are most often misspelt ones."""
    for name, near in unread_variables(os.environ):
        meant = f"did you mean {near}?" if near else "see `shoptalk status --settings`"
        yield Check("environment", "note", f"{name} is set and nothing reads it", meant)


def _disk(workspace: Workspace) -> Check:
    """The next generation is written beside the live one."""
    free = shutil.disk_usage(workspace.root).free
    needed = 0
    for corpus in workspace.corpora:
        try:
            manifest = open_current(workspace.index_dir(corpus), corpus).manifest
        except IndexingError:
            continue
        needed += sum(size for size, _ in manifest.files.values())
    told = f"{free / _GIB:.1f} GiB free in the workspace"
    if free < needed:
        return Check("disk", "wrong", f"{told}; the next indexes need {needed / _GIB:.1f}", "make room")
    kind = _file_system(workspace.root)
    if kind in _REMOTE_FILE_SYSTEMS:
        return Check(
            "disk", "note", f"{told}, on {kind}: locks and mapped files are less sure there", "use a local disk"
        )
    if free < _GIB:
        return Check("disk", "note", f"{told}: too little for a model", "make room")
    return Check("disk", "ok", told)


def _store(workspace: Workspace) -> Check:
    """Whether the database that holds the indexes answers, lets us in, is new enough, and holds what it says."""
    from retrieval.databases import KEY_VARIABLE, database
    from retrieval.remote_store import RemoteStore

    try:
        there = database(workspace)
        version, too_old = there.version()
        for corpus in workspace.corpora:
            RemoteStore(workspace, corpus, there).check()
    except ShoptalkError as error:
        return Check("store", "wrong", str(error))
    if too_old:
        return Check("store", "wrong", f"{there.where} is version {version}: {too_old}", "update it")
    address = urlsplit(workspace.store.url)
    if address.scheme == "http" and os.environ.get(KEY_VARIABLE) and address.hostname not in _HERE:
        return Check("store", "note", f"the key goes to {workspace.store.url} unencrypted", "use https://")
    return Check("store", "ok", f"{there.where}, version {version}")


def _file_system(path: Path) -> str:
    """The kind of file system ``path`` is on, "" where the system does not tell."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    above = [(point, kind) for point, kind in mounts if path == Path(point) or Path(point) in path.parents]
    return max(above, key=lambda item: len(item[0]), default=("", ""))[1]


def _model(workspace: Workspace, deep: bool) -> Iterator[Check]:
    problems = model_problems(workspace)
    for problem in problems:
        yield Check("model", "wrong", problem)
    for path in abandoned(workspace):
        yield Check("model", "note", f"{path} was left by a killed process", "the next `shoptalk tune` sweeps it")
    if problems:
        return
    try:
        list_versions(workspace)
        for reference in history(workspace):
            resolve(workspace, reference)
    except ShoptalkError as error:
        yield Check("model", "wrong", str(error))
    resolved = resolve(workspace, "current")
    missing = not (resolved.is_folder or workspace.model.endpoint or _downloaded(resolved))
    if resolved.is_folder and not any(Path(resolved.location).rglob("*.safetensors")):
        yield Check("model", "wrong", f"{resolved.location} holds no weights (*.safetensors)", "restore them")
    elif missing:
        yield Check("model", "note", f"{resolved.reference} is not here yet", "it is downloaded at its first use")
    elif not deep:
        yield Check("model", "ok", f"{resolved.reference}, in {resolved.location}")
    else:
        yield _loaded(workspace, resolved.reference)


def _loaded(workspace: Workspace, reference: str) -> Check:
    """Whether the bytes of the model are as registered, it loads, and the indexes are its own."""
    from retrieval.embedders import load_embedder
    from retrieval.models import verify_version

    try:
        verify_version(workspace, reference)
        embedder = load_embedder(reference, workspace)
    except ShoptalkError as error:
        return Check("model", "wrong", str(error))
    for corpus in workspace.corpora:
        try:
            manifest = open_current(workspace.index_dir(corpus), corpus).manifest
        except IndexingError:
            continue  # told of with the index
        if manifest.reference == reference and manifest.fingerprint != embedder.fingerprint:
            return Check(
                "model", "wrong", f"{reference} changed since it built the index of {corpus!r}", "shoptalk index"
            )
    return Check("model", "ok", f"{reference} loads; {embedder.dimension} dimensions")


def _reranker(workspace: Workspace, deep: bool) -> Check:
    """Whether the cross-encoder is there; if ``deep``, whether it loads."""
    reference = workspace.search.rerank
    try:
        resolved = resolve(workspace, reference)
        if problem := _download_problem(resolved, "search.rerank"):
            return Check("reranker", "wrong", problem)
        if deep:
            from retrieval.reranking import Reranker

            Reranker(workspace, reference).load()
    except ShoptalkError as error:
        return Check("reranker", "wrong", str(error), "correct search.rerank, or remove it")
    if not (deep or resolved.is_folder or _downloaded(resolved)):
        return Check("reranker", "note", f"{reference} is not here yet", "it is downloaded at its first use")
    return Check("reranker", "ok", f"{reference}, in {resolved.location}")


def _download_problem(resolved: ResolvedModel, setting: str) -> str:
    """Why a model of the Hub cannot be had, "" where it can or is no such model."""
    if resolved.is_folder or _downloaded(resolved) or not _offline():
        return ""
    return (
        f"model {resolved.reference} was never downloaded, and HF_HUB_OFFLINE keeps it from being: "
        f"unset it once, or set {setting} to a folder"
    )


def _downloaded(resolved: ResolvedModel) -> bool:
    """Whether a Hub model is in the local cache; huggingface_hub's layout, without importing it."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    snapshots = cache / f"models--{resolved.location.replace('/', '--')}" / "snapshots"
    return any(snapshots.glob("*/config.json")) or any(snapshots.glob("*/modules.json"))


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _corpus(workspace: Workspace, corpus: str) -> Check:
    problem = corpus_problem(workspace, corpus)
    if problem and indexed_elsewhere(workspace, corpus):
        return Check(f"corpus {corpus}", "note", problem, "needed only where it is indexed")
    paths = ", ".join(str(path) for path in workspace.corpus_paths(corpus))
    return Check(f"corpus {corpus}", "wrong" if problem else "ok", problem or paths)


def _index(workspace: Workspace, corpus: str, deep: bool) -> Iterator[Check]:
    name, index_dir = f"index {corpus}", workspace.index_dir(corpus)
    held = writer(index_dir)
    if held is not None:
        who = f"process {held}" if held else "another process"
        yield Check(name, "note", f"{who} is indexing it now")
    elif left := remains(index_dir):
        told = f"{len(left)} left of a killed or unfinished run, the first: {left[0].name}"
        yield Check(name, "note", told, "the next `shoptalk index` sweeps them")
    problem = index_problem(workspace, corpus)
    if problem:
        yield Check(name, "wrong", problem)
    if not deep or indexed_elsewhere(workspace, corpus):
        if not problem:
            facts = open_store(workspace, corpus).open().facts
            told = f"{facts.name}, {facts.documents:,} documents, {facts.passages:,} passages"
            yield Check(name, "ok", f"{told}, by {facts.reference}")
        return
    from retrieval.integrity import examine_index

    for found in examine_index(workspace, corpus):
        if found.problem:
            if found.problem != problem:
                yield Check(name, "wrong" if found.live else "note", found.problem)
        else:
            yield Check(
                name, "ok", f"{found.generation}: {found.files} files, {found.bytes:,} bytes as they were sealed"
            )


def _watches(workspace: Workspace) -> Iterator[Check]:
    """Linux watches folder by folder, up to a limit a user."""
    try:
        limit = int(_INOTIFY.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    folders = 0
    for corpus in workspace.corpora:
        for path in workspace.corpus_paths(corpus):
            for _ in os.walk(path):
                folders += 1
                if folders > min(limit, _MOST_FOLDERS):
                    mend = f"sudo sysctl fs.inotify.max_user_watches={4 * folders}"
                    yield Check("watching", "note", f"more folders than this user may watch ({limit})", mend)
                    return


def _key() -> Check:
    """Whether Claude can be asked; the key itself is never shown."""
    there = [name for name in _KEYS if os.environ.get(name, "").strip()]
    if not there:
        return Check("claude", "note", "no API key: `shoptalk ask` needs one", f"export {_KEYS[0]}=…")
    return Check("claude", "ok", f"{there[0]} is set")
