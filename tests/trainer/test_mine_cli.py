from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hash_embedder import HashEmbedder

import shoptalk
from retrieval.workspace import Workspace
from trainer.mining import RULES


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of twelve documents, whose base model is a cheap one."""
    for n, name in enumerate(
        ("alder", "beech", "cedar", "dogwood", "elder", "fir", "gorse", "hazel", "ivy", "juniper")
    ):
        path = tmp_path / "docs" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"# The {name} pump\n\nAlso called: lifter {name}\n\nIt moves {n + 2} litres of water up to the roof.\n\n"
            f"## How do I start the {name}?\n\nTurn the {name} valve until {n} bar are shown.\n",
            encoding="utf-8",
        )
    Workspace.create(tmp_path, {"docs": "docs"}, "base")
    monkeypatch.setattr("retrieval.embedders.load_local", lambda *_: HashEmbedder())
    return tmp_path


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(shoptalk.command_line, ["-w", str(root), *arguments], catch_exceptions=False)


def test_mine_tells_what_each_rule_and_each_filter_left_and_what_would_give_more(root: Path) -> None:
    value = json.loads(run(root, "--json", "mine", "--recipe", "structure").stdout)
    rules = {item["rule"]: item for item in value["rules"]}
    assert rules["alias"]["mined"] == 10 and rules["question"]["kept"] == 10
    assert list(rules["alias"]) == ["rule", "mined", "clear", "distinct", "telling", "silver", "kept"]
    assert "definition" in value["idle"] and set(rules) | set(value["idle"]) >= set(RULES)
    assert "are too few" in " ".join(value["advice"]) and "glossaries" in " ".join(value["advice"])
    assert value["pairs"] == sum(item["kept"] for item in value["rules"])


def test_mine_shows_people_a_table_examples_and_the_idle_rules(root: Path) -> None:
    text = run(root, "mine").stdout
    assert "How do I start the" in text and "->" in text
    assert "idle:" in text and "table_row: found no tables whose rows have names" in text
    assert "recipe structure takes" in text and "taken" in text


def test_mine_says_what_tune_without_questions_would_judge_by_or_that_it_would_refuse(root: Path) -> None:
    told = "Without --questions tune "
    refused = r"would refuse: only \d questions could be mined and held out \(at least 20 are wanted\): "
    text = run(root, "mine").stdout
    assert re.search(rf"{told}{refused}the documents ask \d\d different ones, and about a quarter may be", text)
    for n in range(60):
        kind = "".join(chr(ord("a") + int(digit)) for digit in f"{n:02}")
        (root / "docs" / f"more{n}.md").write_text(
            f"# Engine {kind}\n\nAlso called: motor {kind}{kind}\n\nIt turns {n} wheels of the {kind} coach.\n\n"
            f"## How is the {kind} greased?\n\nPress {kind} into the {n} nipples that are red.\n"
        )
    found = re.search(rf"{told}holds out (\d+) questions of (\d+) documents to judge by", run(root, "mine").stdout)
    assert found and int(found[1]) >= 20 and int(found[2]) >= 10
    asked = root / "questions"
    asked.mkdir()
    (asked / "queries.jsonl").write_text('{"_id": "q", "text": "the oldest of all pumps"}\n')
    (asked / "qrels.tsv").write_text("q\tfir.md\t1\n")
    assert told not in run(root, "mine", "--questions", str(asked)).stdout


def test_the_pairs_are_written_one_object_a_line(root: Path) -> None:
    out = root / "pairs.jsonl"
    result = run(root, "--json", "mine", "--out", str(out))
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(records) == json.loads(result.stdout)["pairs"] > 0
    assert set(records[0]) == {"anchor", "positive", "rule", "document_id"}


def test_a_folder_that_is_not_there_is_named_before_anything_is_mined(root: Path) -> None:
    result = run(root, "mine", "--out", str(root / "missing" / "pairs.jsonl"))
    assert result.exit_code == 2 and "missing is no folder" in result.stderr


def test_mine_says_that_tune_would_refuse_where_what_is_held_out_cannot_be_split(root: Path) -> None:
    for file in (root / "docs").iterdir():
        file.unlink()
    # Two documents, each there twice in nearly the same words: questions about such stay on one side.
    for kind in ("engine", "boiler"):
        for year in ("older", "newer"):
            parts = [f"{kind}{chr(97 + part)}" for part in range(26)]
            steps = {part: " ".join(f"{part} step{turn} of the {kind}" for turn in range(12)) for part in parts}
            text = "".join(f"## How is the {year} {part} greased?\n\n{steps[part]}.\n\n" for part in parts)
            (root / "docs" / f"{kind}-{year}.md").write_text(text)
    text = run(root, "mine").stdout
    assert "Without --questions tune would refuse: 0 dev and 26 test questions are too few" in text
