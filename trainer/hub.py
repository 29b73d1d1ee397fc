"""Push a model version to the Hugging Face Hub: the model, its card, and records that hold no text of the documents.

The Hub's API: https://huggingface.co/docs/hub/api and huggingface_hub's create_commit, which speaks it.
The address is HF_ENDPOINT's, the token HF_TOKEN's or the one that ``hf auth login`` has saved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from retrieval.errors import ModelError, first_line
from retrieval.models import CHECKSUMS, EVALUATION_RECORD, TRAINING_RECORD, ModelVersion, find_version, verify_version
from retrieval.workspace import Workspace
from trainer.publishing import CARD, REPORT, RUNS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Pushed", "push"]

# What the pushed records say. A key that is not named here stays at home, whatever it may come to hold.
TRAINING_KEYS = (
    "format",
    "created",
    "recipe",
    "seed",
    "base_fingerprint",
    "base_licence",
    "prompts",
    "split",
    "data",
    "leaks",
    "share_of_tuned_weights",
    "lexical_weight",
    "heading_share",
    "fusion_curve",
    "pairs",
)
EVALUATION_KEYS = (
    "format",
    "verdict",
    "reasons",
    "ndcg_before",
    "ndcg_after",
    "evidence",
    "dev_questions",
    "test_questions",
    "rows",
    "changes",
    "likeness",
    "dense",
    "product",
    "unmasked",
    "dev",
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FOLDER_IN_CARD = "this folder"


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now. ``revision`` is the commit; ``withheld`` files and records were left out."""

    version: str
    repository: str
    url: str
    revision: str
    tag: str
    private: bool
    files: list[str]
    withheld: list[str]


def push(
    workspace: Workspace,
    name: str,
    repository: str,
    *,
    public: bool = False,
    tag: str = "",
    branch: str = "",
    with_examples: bool = False,
    show_progress: bool = False,
) -> Pushed:
    """Commit a version to ``repository`` (``OWNER/NAME``), which is made, private, where it does not exist.

    Questions, document ids and lines of documents stand in the report and in parts of the records; they
    are left out unless ``with_examples``. Nothing is sent before every file's checksum was found right.

    Args:
        workspace: whose version it is.
        name: of the version.
        repository: where to.
        public: make the repository public, or accept that it is.
        tag: a name for the commit; refused where the repository has it already.
        branch: commit there instead of to main; made where it does not exist.
        with_examples: push the version as it is, texts included.
        show_progress: draw the Hub client's bars on stderr.

    Raises:
        ModelError: there is no such version, it is damaged, or the Hub refuses or cannot be reached; the
            message says which and what to do.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ModelError(f"{repository!r} names no repository; write OWNER/NAME")
    version = find_version(workspace, name)
    if not version.training.get("model_files"):
        raise ModelError(f"{version.path / TRAINING_RECORD} does not say which files the model is; tune it anew")
    verify_version(workspace, version.name)
    contents, withheld = _contents(workspace, version, repository, with_examples)
    with _told(repository), _bars(show_progress):
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        api = _client()
        api.create_repo(repository, private=not public, exist_ok=True)
        private = bool(api.model_info(repository).private)
        if not private and not public:
            raise ModelError(f"{repository} exists and is public; push with --public, or choose another name")
        if tag and any(ref.name == tag for ref in api.list_repo_refs(repository).tags):
            raise ModelError(f"{repository} has a tag {tag} already; choose another. Nothing was pushed")
        if branch:
            api.create_branch(repository, branch=branch, exist_ok=True)
        there = [file.rfilename for file in api.model_info(repository, revision=branch or None).siblings or ()]
        stale = [path for path in there if _is_record(path) and path not in contents]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(path, content) for path, content in contents.items()),
            *(CommitOperationDelete(path) for path in stale),
        ]
        message = f"{version.name}: {version.verdict or 'not judged'}"
        commit = api.create_commit(repository, operations, commit_message=message, revision=branch or None)
        if tag:
            api.create_tag(repository, tag=tag, revision=commit.oid)
        return Pushed(
            version=version.name,
            repository=repository,
            url=f"{api.endpoint}/{repository}/tree/{commit.oid}",
            revision=commit.oid,
            tag=tag,
            private=private,
            files=list(contents),
            withheld=withheld,
        )


def _contents(
    workspace: Workspace, version: ModelVersion, repository: str, with_examples: bool
) -> tuple[dict[str, str | bytes], list[str]]:
    """What to push, path by path (a file's path, or bytes), and what is withheld."""
    everything = [
        path.relative_to(version.path).as_posix() for path in sorted(version.path.rglob("*")) if path.is_file()
    ]
    files = everything if with_examples else version.training["model_files"]
    contents: dict[str, str | bytes] = {path: str(version.path / path) for path in files if path != CHECKSUMS}
    contents[CARD] = _card(workspace, version, repository).encode()
    if with_examples:
        return contents, []
    withheld = [path for path in everything if path not in (*files, CARD, CHECKSUMS)]
    for name, record, keys in (
        (TRAINING_RECORD, version.training, TRAINING_KEYS),
        (EVALUATION_RECORD, version.evaluation, EVALUATION_KEYS),
    ):
        withheld.remove(name)
        told = {key: record[key] for key in keys if key in record}
        if teacher := told.get("recipe", {}).get("teacher"):
            told["recipe"] = {**told["recipe"], "teacher": _without_folders(workspace, teacher)}
        contents[name] = (json.dumps(told, indent=2) + "\n").encode()
        withheld += [f"{name}: {key}" for key in record if key not in keys]
    return contents, withheld


def _card(workspace: Workspace, version: ModelVersion, repository: str) -> str:
    """The card for the Hub: its example loads the repository; of a base that is a folder here only the name is told."""
    from huggingface_hub import ModelCard

    base = str(version.training.get("base", ""))
    text = (version.path / CARD).read_text(encoding="utf-8")
    text = text.replace(f'"{_FOLDER_IN_CARD}"', f'"{repository}"')
    if not base or _is_hub_id(workspace, base):
        return text
    card = ModelCard(text.replace(base, _without_folders(workspace, base)))
    card.data.pop("base_model")  # the Hub takes ids of its own only
    return str(card)


def _without_folders(workspace: Workspace, reference: str) -> str:
    """A model's reference, where it is a folder here its name alone."""
    is_id = _is_hub_id(workspace, reference)
    return reference if is_id else PurePosixPath(reference.replace("\\", "/")).name


def _is_hub_id(workspace: Workspace, reference: str) -> bool:
    """Whether ``reference`` is taken from the Hub: "models/minilm" may be a folder of the workspace as well."""
    is_id = bool(_REPOSITORY.fullmatch(reference)) and not reference.startswith(".")
    return is_id and not (workspace.root / reference).is_dir()


def _is_record(path: str) -> bool:
    """Whether a push of ours, and only such, puts this file there besides the model."""
    return path == REPORT or path.startswith(f"{RUNS}/")


def _client() -> HfApi:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        raise ModelError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    token = get_token()
    if not token:
        raise ModelError("HF_TOKEN is not set; make a token that may write at https://huggingface.co/settings/tokens")
    return HfApi(token=token, library_name="shoptalk")


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if shown:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line that says what to do."""
    import httpx2

    try:
        yield
    # A refusal is an OSError, a bad card or answer a ValueError, a failed upload a RuntimeError around the cause.
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise ModelError(_reason(error, repository)) from error


def _reason(error: Exception, repository: str) -> str:
    import httpx2
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError

    known = (HfHubHTTPError, httpx2.TransportError)
    cause: BaseException = error
    while not isinstance(cause, known) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _refusal(cause, repository)
    if isinstance(cause, httpx2.TransportError):
        return f"cannot reach {ENDPOINT}: {first_line(cause)}; check the network and HF_ENDPOINT"
    return f"pushing to {repository} failed: {' '.join(str(cause).split())[:300] or type(cause).__name__}"


def _refusal(error: Any, repository: str) -> str:
    status = error.response.status_code
    owner = repository.partition("/")[0]
    said = f" ({first_line(Exception(error.server_message))})" if error.server_message else ""
    reasons = {
        401: f"the Hub does not accept the token{said}; check HF_TOKEN, and that it may see {repository}",
        403: f"the token may not write to {repository}{said}; give it write access to {owner}, or choose another owner",
        404: f"the Hub has no {repository}, or hides it from this token{said}; check the name and HF_TOKEN",
        409: f"{repository} is being changed by somebody else{said}; try again",
        412: f"{repository} was changed meanwhile{said}; try again",
        429: f"the Hub asks for patience{said}; try again in a few minutes",
    }
    again = "try again later" if status >= 500 else "see https://huggingface.co/docs/hub"
    return reasons.get(status, f"the Hub answered {status}{said}; {again}")
