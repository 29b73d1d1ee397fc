"""shoptalk.toml, the folders of a workspace, and the frozen settings each package is handed.

A setting is looked up in this order: a flag of the command (handled by the command), the
environment (``SHOPTALK_<SECTION>_<KEY>``), ``shoptalk.toml``, the default written here.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from retrieval.errors import SettingsError

__all__ = [
    "AgentServerSettings",
    "AgentSettings",
    "CorpusSettings",
    "ModelSettings",
    "PassageSettings",
    "RecipeSettings",
    "SearchSettings",
    "ServerSettings",
    "SettingOrigin",
    "StoreSettings",
    "SynthesisSettings",
    "TrainerSettings",
    "Workspace",
    "home_expanded",
    "unread_variables",
]

FILE_NAME = "shoptalk.toml"
DEFAULT_BASE_MODEL = "BAAI/bge-base-en-v1.5"
PREFIX = "SHOPTALK_"
OF_KUBERNETES = re.compile(r"SERVICE_(?:HOST|PORT)|PORT(?:_\d|$)")
"""What it sets in each container for a service called shoptalk."""
ALIKE = 0.8
NO_SETTINGS = {"WORKSPACE", "ENDPOINT_KEY", "STORE_KEY", "SYNTHESIS_KEY"}
"""Variables that are read and are no settings: where the workspace is, and what no file may hold."""
CORPUS_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


# fmt: off
Language = Literal[
    "none", "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "dutch_porter", "english",
    "esperanto", "estonian", "finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish",
    "italian", "lithuanian", "nepali", "norwegian", "persian", "polish", "porter", "portuguese", "romanian",
    "russian", "serbian", "sesotho", "spanish", "swedish", "tamil", "turkish", "yiddish",
]
# fmt: on
"""Whose stems words are reduced to (Snowball's stemmers), or none: a wrong one is told before anything is indexed."""


def _listed(value: Any) -> Any:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A list, or names with commas between them, as the environment gives them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Frozen):
    """``[model]``: which embedder, and where it runs.

    ``query_prompt`` and ``document_prompt`` unset: the model's own. ``endpoint``: the address of a server
    that embeds in the model's stead, "" for none; its key is in SHOPTALK_ENDPOINT_KEY, never in a file.
    """

    base: str = Field(DEFAULT_BASE_MODEL, min_length=1)
    device: str = "auto"
    backend: Literal["torch", "onnx-int8"] = "torch"
    batch_size: int = Field(32, ge=1, le=4096)
    trust_remote_code: bool = False
    query_prompt: str | None = None
    document_prompt: str | None = None
    endpoint: str = ""
    endpoint_kind: Literal["tei", "openai", "huggingface"] = "tei"
    endpoint_model: str = ""
    endpoint_max_tokens: int = Field(512, ge=16)
    endpoint_timeout: float = Field(30.0, gt=0)

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an address such as http://127.0.0.1:8080")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query; put the key in SHOPTALK_ENDPOINT_KEY")
        return value.rstrip("/")


class CorpusSettings(_Frozen):
    """``[corpus.NAME]``: which documents, which of them to leave out, and which columns of tables are what.

    ``text_columns`` (those that a file has are joined), ``title_column`` and ``id_column`` unset: guessed.
    """

    paths: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = True
    max_file_mb: float = Field(64.0, gt=0)
    text_columns: tuple[str, ...] = ()
    title_column: str = ""
    id_column: str = ""


class PassageSettings(_Frozen):
    """``[passages]``: how sections are cut and their words stemmed; lengths are tokens of the embedder in use.

    ``heading_context``: a passage is embedded, and found by its words, with the headings that it stands under.
    ``heading_share``: how much of a passage's vector is that of its headings alone; unset: as tuned with the model,
    else 0.
    """

    max_tokens: int = Field(224, ge=16, le=8192)
    language: Language = "english"
    heading_context: bool = True
    heading_share: float | None = Field(None, ge=0, le=0.9)


class SearchSettings(_Frozen):
    """``[search]``: how hits are ranked and shown.

    ``lexical_weight`` unset: as tuned with the model, else .5. ``late_interaction``: the first candidates are compared
    token by token too, where the model's vectors are means of its tokens'. ``names``: passages come nearer by the names
    that they list, as `retrieval.names` has it. ``per_document``: how many passages
    of one document may be hits, 0 for any number. ``neighbours``: how many passages before and
    after a hit are shown with it. ``rerank``: the cross-encoder that has the last word, "" for none.
    """

    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    fusion: Literal["zscore", "rrf"] = "zscore"
    lexical_weight: float | None = Field(None, ge=0, le=1)
    candidates: int = Field(100, ge=1, le=1000)
    late_interaction: bool = True
    names: bool = True
    collapse_duplicates: bool = True
    per_document: int = Field(0, ge=0)
    neighbours: int = Field(0, ge=0, le=10)
    rerank: str = ""
    rerank_candidates: int = Field(30, ge=1, le=1000)


class StoreSettings(_Frozen):
    """``[store]``: where the index lives: in the workspace, or in a Qdrant or Milvus that its users run.

    ``url``: the server's address, or ``file:FOLDER`` for the engine's own embedded kind, which one process at a time
    may use; the key is in SHOPTALK_STORE_KEY, never in a file. ``name`` begins the names of collections and aliases.
    ``shards`` and ``replicas`` of a new collection, 0 for the server's own defaults. ``quantize``: vectors are searched
    at 8 bits a number and the best scored again (Qdrant). ``poll_seconds``: how often a reader looks for a newer
    generation.
    """

    kind: Literal["local", "qdrant", "milvus"] = "local"
    url: str = Field("", validate_default=True)
    name: str = Field("shoptalk", pattern=r"^[a-z][a-z0-9_]{0,31}$")
    shards: int = Field(0, ge=0, le=1024)
    replicas: int = Field(0, ge=0, le=64)
    quantize: bool = True
    poll_seconds: float = Field(1.0, ge=0, le=60)
    timeout: float = Field(10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("kind", "local") == "local":
            return value
        parts = urlsplit(value)
        embedded = parts.scheme == "file" and bool(parts.path)
        if not embedded and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an address such as http://127.0.0.1:6333, or file:FOLDER")
        if embedded and info.data["kind"] == "milvus" and not parts.path.endswith(".db"):
            raise ValueError("must end in .db, as file:NAME.db")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query; put the key in SHOPTALK_STORE_KEY")
        return value.rstrip("/")


class RecipeSettings(_Frozen):
    """``[trainer.recipes.NAME]``: a recipe of one's own; what is unset here is as in the one it is ``based_on``.

    ``rules``: the mining rules, by name. ``learning_rate`` holds for static models too. ``teacher``: the cross-encoder
    that scores the ``lessons``, "" for hybrid search itself. The rest is what docs/training.md says of it.
    """

    based_on: Literal["structure", "seed"] = "structure"
    rules: _Names | None = Field(None, min_length=1)
    max_pairs: int | None = Field(None, ge=2)
    intact: float | None = Field(None, ge=0, le=1)
    epochs: int | None = Field(None, ge=1, le=100)
    batch_size: int | None = Field(None, ge=2, le=65_536)
    mini_batch: int | None = Field(None, ge=1)
    alike: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=8)
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    warmup: float | None = Field(None, ge=0, le=1)
    loss: Literal["ranking", "triplet"] | None = None
    false_negative_mask: bool | None = None
    hard_negatives: int | None = Field(None, ge=0, le=15)
    negatives_from: Literal["model", "lexical", "both"] | None = None
    refresh_negatives: bool | None = None
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    lora_rank: int | None = Field(None, ge=0, le=1024)
    lessons: int | None = Field(None, ge=0)
    teacher: str | None = None
    teacher_temperature: float | None = Field(None, gt=0, allow_inf_nan=False)
    averages: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(None, min_length=1)
    looks: int | None = Field(None, ge=0)
    gentler: float | None = Field(None, gt=0, le=1)
    patience: int | None = Field(None, ge=1)
    checkpoint_every: int | None = Field(None, ge=1)


class TrainerSettings(_Frozen):
    """``[trainer]``: how a model is tuned and judged. ``budget_minutes``: how long the recipe auto may take.

    ``general_questions``: a folder in BEIR's layout, with corpus.jsonl, to tell what tuning costs elsewhere; "" for
    Python's own docstrings. ``recipes``: see RecipeSettings.
    """

    recipe: str = "structure"
    budget_minutes: float = Field(30.0, gt=0)
    seed: int = 13
    max_pairs: int = Field(20_000, ge=2)
    min_pairs: int = Field(64, ge=2)
    general_questions: str = ""
    recipes: Mapping[str, RecipeSettings] = {}


class SynthesisSettings(_Frozen):
    """``[synthesis]``: who writes questions about passages, how many, and which of them are believed.

    ``base_url``: another server that speaks the Messages API, such as one of your own; its key, if it wants one,
    is in SHOPTALK_SYNTHESIS_KEY, never in a file. ``effort`` "": not sent. A question is believed where its
    passage is among the base model's best ``top_k``. Prices are in US dollars per million tokens; unset: known.
    """

    model: str = "claude-sonnet-5-5"
    effort: Literal["", "low", "medium", "high"] = "low"
    base_url: str = ""
    per_passage: int = Field(2, ge=1, le=10)
    top_k: int = Field(10, ge=1, le=100)
    max_tokens: int = Field(2048, ge=256, le=20_000)
    concurrency: int = Field(4, ge=1, le=64)
    input_price: float | None = Field(None, ge=0)
    output_price: float | None = Field(None, ge=0)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query):
            raise ValueError("must be an address such as http://127.0.0.1:8080, without user, password or query")
        return value.rstrip("/")


class ServerSettings(_Frozen):
    """``[server]``: how the MCP server behaves, and over HTTP whom it lets in and how much it lets them do.

    ``hosts`` and ``origins``: the names it may be called by and the sites whose pages may call it; those of
    this machine are added where only this machine can reach it. ``public_url``: its address as clients know
    it, which the tokens of an OAuth server (``issuer``, with keys at ``jwks_url``) must be made for;
    ``verifier``, "module:function", judges tokens of any other kind. ``max_concurrent`` and ``max_per_minute``
    hold for each token, ``request_seconds`` for the time a client may take to send a request, and
    ``shutdown_seconds`` for the time that requests under way have to end. ``connector_tools`` adds ``search`` and
    ``fetch`` in the shape that ChatGPT's connectors want.
    """

    model_wait_seconds: float = Field(20.0, ge=0, le=50)
    hosts: _Names = ()
    origins: _Names = ()
    public_url: str = ""
    issuer: str = ""
    jwks_url: str = ""
    verifier: str = ""
    max_body_kb: int = Field(256, ge=16)
    max_concurrent: int = Field(64, ge=1)
    max_per_minute: int = Field(600, ge=1)
    max_sessions: int = Field(1000, ge=1)
    request_seconds: float = Field(10.0, gt=0)
    shutdown_seconds: float = Field(20.0, ge=0)
    connector_tools: bool = False

    @field_validator("public_url", "issuer", "jwks_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if value and (not parts.hostname or parts.scheme not in ("https", *(["http"] if here else []))):
            raise ValueError("must be an address that begins with https:// (http:// to this machine only)")
        return value


class AgentServerSettings(_Frozen):
    """``[agent.servers.NAME]``: an MCP server that Claude may use, and which of its tools.

    ``command`` with ``args`` and ``env`` starts one; ``url`` reaches one that runs, with the token in the environment
    variable ``token_env``; neither: this workspace's own. A value of ``env`` that begins with $ is read from the
    variable it names, so that no secret need be in a file.
    """

    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    url: str = ""
    token_env: str = ""
    tools: tuple[str, ...] = Field(("model_status", "search_corpus"), min_length=1)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if value and info.data.get("command"):
            raise ValueError("name a command or a url, not both")
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an address such as http://127.0.0.1:8000/mcp")
        if parts.username or parts.password:
            raise ValueError("must hold no user or password; name the variable with the token in token_env")
        return value


class AgentSettings(_Frozen):
    """``[agent]``: which Claude, how hard it thinks, what it searches with, and where it must stop.

    Limits hold for one question; ``max_dollars`` unset: none. ``fallback_models`` stand in, in this order, for a model
    that is overloaded, retired or not allowed. ``effort`` "": not sent. ``thinking`` "summarized": what Claude thinks
    is told, in short. Beyond ``context_tokens`` of input, old search results are dropped. ``prices``: dollars per
    million input and output tokens of a model. ``servers``: see AgentServerSettings; none: the workspace's own.
    """

    model: str = "claude-opus-5-5"
    fallback_models: _Names = ()
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = "medium"
    thinking: Literal["adaptive", "summarized", "off"] = "adaptive"
    max_tokens: int = Field(8192, ge=256, le=20_000)
    max_turns: int = Field(12, ge=1)
    max_calls: int = Field(40, ge=1)
    max_output_tokens: int = Field(64_000, ge=256)
    max_dollars: float | None = Field(None, gt=0)
    max_seconds: float = Field(300.0, gt=0)
    context_tokens: int = Field(150_000, ge=1000)
    prices: Mapping[str, tuple[NonNegativeFloat, NonNegativeFloat]] = {}
    servers: Mapping[str, AgentServerSettings] = {}


_T = TypeVar("_T", bound=_Frozen)

SECTIONS: dict[str, type[_Frozen]] = {
    "model": ModelSettings,
    "passages": PassageSettings,
    "search": SearchSettings,
    "store": StoreSettings,
    "trainer": TrainerSettings,
    "synthesis": SynthesisSettings,
    "server": ServerSettings,
    "agent": AgentSettings,
}
NAMED: dict[type[_Frozen], tuple[str, type[_Frozen]]] = {
    AgentSettings: ("servers", AgentServerSettings),
    TrainerSettings: ("recipes", RecipeSettings),
}
"""Sections that hold sections of names that users give: under which key, and of what kind."""


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """One effective setting: its dotted name, its value, and where that came from."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Workspace:
    """A folder with a ``shoptalk.toml``; everything Shoptalk writes is inside it."""

    root: Path
    corpora: Mapping[str, CorpusSettings]
    model: ModelSettings
    passages: PassageSettings
    search: SearchSettings
    store: StoreSettings
    trainer: TrainerSettings
    synthesis: SynthesisSettings
    server: ServerSettings
    agent: AgentSettings
    origins: tuple[SettingOrigin, ...]

    @classmethod
    def open(cls, root: Path | str = ".", environ: Mapping[str, str] | None = None) -> Workspace:
        """Read the workspace at ``root``.

        Raises:
            SettingsError: no ``shoptalk.toml``, or a key or value in it (or in the environment)
                is wrong; the message names the file, the line and the key. Or the folder's name is no UTF-8.
        """
        folder = home_expanded(root).resolve()
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            # The files of an index are opened by name outside of Python.
            raise SettingsError(f"{ascii(str(folder))} cannot be named in this locale; set PYTHONUTF8=1") from None
        file = folder / FILE_NAME
        text = _read_settings_file(file)
        table = _parse_toml(file, text)
        environment = os.environ if environ is None else environ
        origins: list[SettingOrigin] = []
        corpora = _read_corpora(file, text, table.pop("corpus", {}), origins)
        for name, model in SECTIONS.items():
            if model in NAMED:
                _check_named(file, text, name, *NAMED[model], table.get(name), origins)
        sections = {
            name: _read_section(file, text, name, table.pop(name, {}), environment, origins) for name in SECTIONS
        }
        if table:
            key = next(iter(table))
            known = ", ".join(["corpus.NAME", *SECTIONS])
            raise SettingsError(f"{_where(file, text, key, None)}: unknown section [{key}]; known: {known}")
        return cls(root=folder, corpora=corpora, origins=tuple(origins), **sections)  # type: ignore[arg-type]

    @staticmethod
    def create(root: Path | str, corpora: Mapping[str, str], base_model: str) -> Path:
        """Write a new ``shoptalk.toml`` naming ``corpora`` (name → path) and return its path.

        Raises:
            SettingsError: the folder already is a workspace.
        """
        folder = home_expanded(root).resolve()
        file = folder / FILE_NAME
        if file.exists():
            raise SettingsError(f"{file} exists already; edit it, or choose another folder with -w")
        lines = ["# Shoptalk workspace: https://toml.io", "", "[model]", f"base = {_toml_string(base_model)}"]
        for name, path in corpora.items():
            lines += ["", f"[corpus.{name}]", f"paths = [{_toml_string(path)}]"]
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    @property
    def models_dir(self) -> Path:
        """Where model versions live."""
        return self.root / "models"

    def index_dir(self, corpus: str) -> Path:
        """Where the generations of ``corpus`` live."""
        return self.root / "indexes" / corpus

    def corpus_name(self, name: str = "") -> str:
        """``name`` if the workspace has that corpus; with "", its only corpus.

        Raises:
            SettingsError: no such corpus, or "" where there is not exactly one.
        """
        known = ", ".join(sorted(self.corpora))
        if not self.corpora:
            raise SettingsError(f'{self.root / FILE_NAME} names no corpus; add [corpus.NAME] with paths = ["FOLDER"]')
        if name:
            if name not in self.corpora:
                raise SettingsError(f"no corpus named {name!r} in {self.root / FILE_NAME}; known: {known}")
            return name
        if len(self.corpora) > 1:
            raise SettingsError(f"this workspace has several corpora ({known}); name one")
        return next(iter(self.corpora))

    def corpus_paths(self, name: str) -> tuple[Path, ...]:
        """The absolute paths of a corpus, as its settings give them (relative ones from the workspace)."""
        return tuple((self.root / home_expanded(path)).absolute() for path in self.corpora[name].paths)

    def setting_origin(self, name: str) -> str:
        """Where the value of the dotted setting ``name`` came from, e.g. ``default``."""
        return next(origin.origin for origin in self.origins if origin.name == name)


def unread_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable called SHOPTALK_… that nothing reads, and the one that is most like it, "" for none."""
    known = {f"{section}_{field}".upper() for section, model in SECTIONS.items() for field in model.model_fields}
    known |= NO_SETTINGS
    for name in sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)):
        if name not in known and not OF_KUBERNETES.search(name):
            near = difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)
            yield PREFIX + name, PREFIX + near[0] if near else ""


def home_expanded(path: Path | str) -> Path:
    """``path`` with "~" made a home folder; where there is no such user, a name that begins with "~"."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _read_settings_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(
            f"{file.parent} is not a workspace: it has no {FILE_NAME}; make one with `shoptalk init --corpus FOLDER`"
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None


def _parse_toml(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from None


def _read_corpora(file: Path, text: str, table: Any, origins: list[SettingOrigin]) -> dict[str, CorpusSettings]:
    if not isinstance(table, dict) or not all(isinstance(values, dict) for values in table.values()):
        raise SettingsError(f"{_where(file, text, 'corpus', None)}: write corpora as [corpus.NAME] sections")
    corpora: dict[str, CorpusSettings] = {}
    for name, values in table.items():
        section = f"corpus.{name}"
        if not CORPUS_NAME.fullmatch(name):
            raise SettingsError(
                f"{_where(file, text, section, None)}: corpus name {name!r} must be lower-case letters, digits, - and _"
            )
        corpora[name] = _validate(file, text, section, CorpusSettings, values, {}, origins)
    return corpora


def _check_named(
    file: Path, text: str, section: str, key: str, model: type[_Frozen], table: Any, origins: list[SettingOrigin]
) -> None:
    """Check each [section.key.NAME] by itself, so that what is wrong is named by its own key and line."""
    named = table.get(key, {}) if isinstance(table, dict) else {}
    for name, values in named.items() if isinstance(named, dict) else ():
        inner = f"{section}.{key}.{name}"
        if not CORPUS_NAME.fullmatch(name):
            place = _where(file, text, inner, None)
            what = key.removesuffix("s")
            raise SettingsError(f"{place}: {what} name {name!r} must be lower-case letters, digits, - and _")
        _validate(file, text, inner, model, values, {}, origins)


def _read_section(
    file: Path, text: str, name: str, values: Any, environ: Mapping[str, str], origins: list[SettingOrigin]
) -> _Frozen:
    model = SECTIONS[name]
    overrides = {
        field: environ[variable]
        for field in model.model_fields
        if (variable := f"SHOPTALK_{name}_{field}".upper()) in environ
    }
    return _validate(file, text, name, model, values, overrides, origins)


def _validate(
    file: Path,
    text: str,
    section: str,
    model: type[_T],
    values: Any,
    overrides: Mapping[str, str],
    origins: list[SettingOrigin],
) -> _T:
    if not isinstance(values, dict):
        raise SettingsError(f"{_where(file, text, section, None)}: {section} must be a section, [{section}]")
    try:
        settings = model.model_validate({**values, **overrides})
    except ValidationError as error:
        # A key that nobody knows first: where one is missing as well, it is most often that one misspelt.
        problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        key, *inner = map(str, problem["loc"] or ("",))
        if key in overrides:
            place = f"SHOPTALK_{section}_{key}".upper()
        elif overrides and key in model.model_fields and key not in values:
            # Nobody set it, so it is what a variable says that makes its default wrong.
            place = ", ".join(f"SHOPTALK_{section}_{name}".upper() for name in overrides)
        else:
            if isinstance(values.get(key), dict) and inner:
                section, key = f"{section}.{key}", inner[0]
            place = _where(file, text, section, key)
        if problem["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise SettingsError(f"{place}: unknown key {section}.{key}; known: {known}") from None
        told = problem["msg"].removeprefix("Value error, ")
        wanted = 'wants a list, ["…"]' if problem["type"] == "tuple_type" else told[:1].lower() + told[1:]
        raise SettingsError(f"{place}: {section}.{key}: {wanted}") from None
    for field in model.model_fields:
        if model in NAMED and field == NAMED[model][0]:
            continue  # told key by key, under its own name
        if model is RecipeSettings and field not in values:
            continue  # as in the recipe it is based on, which is the trainer's to tell
        variable = f"SHOPTALK_{section}_{field}".upper()
        origin = f"${variable}" if field in overrides else FILE_NAME if field in values else "default"
        origins.append(SettingOrigin(f"{section}.{field}", getattr(settings, field), origin))
    return settings


def _where(file: Path, text: str, section: str, key: str | None) -> str:
    """``file:line`` of a key in a section (or of the section), as well as a line scan can tell."""
    header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(re.escape(part) for part in section.split(".")) + r"\s*\]")
    assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=") if key else None
    inside = False
    found = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            inside = bool(header.match(line))
            if inside:
                found = found or number
        elif inside and assignment and assignment.match(line):
            return f"{file}:{number}"
        elif not inside and not key and re.match(rf"\s*{re.escape(section)}\s*=", line):
            return f"{file}:{number}"
    return f"{file}:{found}" if found else str(file)


def _toml_string(value: str) -> str:
    # A string of JSON is one of TOML, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
