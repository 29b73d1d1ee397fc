"""The docs say what is so: generated pages are fresh, links lead somewhere, README's commands run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import shoptalk
from retrieval.errors import GateRefused

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_command_reference_is_what_the_commands_say_of_themselves() -> None:
    spec = importlib.util.spec_from_file_location("docs_commands", ROOT / "docs" / "commands.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.reference(), "run python docs/commands.py"


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_the_readmes_words_about_the_demo_are_what_it_writes(tmp_path: Path) -> None:
    from trainer.demo import CHAPTERS, write_corpus

    corpus = write_corpus(tmp_path)
    counts = (
        f"{corpus.codes:,} diagnosis codes",
        f"{corpus.files} Markdown files",
        f"{corpus.asked} alternative names",
    )
    assert all(count in README for count in counts), counts
    assert len(CHAPTERS) == 6 and "six of the 22 chapters" in README


def commands(name: str) -> list[list[str]]:
    """The commands of the README's block marked ``run: name``."""
    match = re.search(rf"<!-- run: {name} -->\n```console\n(.*?)```", README, re.DOTALL)
    assert match, f"README has no block {name}"
    lines = [line.removeprefix("$ ") for line in match[1].splitlines() if line.startswith("$ ")]
    return [shlex.split(line)[1:] for line in lines]


def general_set(questions: Path, folder: Path) -> Path:
    """These questions in ``folder``, over no more than the places that answer them."""
    shutil.copytree(questions, folder)
    judgments = (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    places = sorted({line.split("\t")[1] for line in judgments})
    corpus = "".join(json.dumps({"_id": place, "text": place}) + "\n" for place in places)
    (folder / "corpus.jsonl").write_text(corpus, encoding="utf-8")
    return folder


def test_the_readmes_commands_run_as_they_stand_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.demo import write_corpus

    corpus = write_corpus(tmp_path, ("10",))
    # What is shown is that the commands run: few files, few pairs and few general questions show it as well as many.
    for file in corpus.documents.iterdir():
        if file.name not in ("J00-J06.md", "J30-J39.md", "J60-J70.md"):
            file.unlink()
    corpus.documents.rename(tmp_path / "handbook")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOPTALK_TRAINER_MAX_PAIRS", "96")
    monkeypatch.setenv("SHOPTALK_TRAINER_GENERAL_QUESTIONS", str(general_set(corpus.questions, tmp_path / "general")))
    outputs = {}
    for arguments in (*commands("quickstart"), *commands("tune")):
        result = CliRunner().invoke(shoptalk.command_line, arguments)
        # On so small a corpus an honest verdict may be TIE; then the gate says no, and that is all it says.
        refused = arguments[0] == "tune" and isinstance(result.exception, GateRefused)
        assert result.exit_code == 0 or refused, (arguments, result.output, result.exception)
        outputs[arguments[0]] = result.output
    assert "alias" in outputs["mine"]
    assert "handbook" in outputs["status"]
    assert "Verdict: " in outputs["tune"]
    assert "v1" in outputs["models"]
    assert ".md:" in outputs["search"]
