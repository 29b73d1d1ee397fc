from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

from retrieval.errors import QuestionsError
from retrieval.workspace import Workspace
from trainer import forgetting
from trainer.forgetting import general_set


def workspace_with(root: Path, setting: str = "") -> Workspace:
    line = f'[trainer]\ngeneral_questions = "{setting}"\n' if setting else ""
    (root / "shoptalk.toml").write_text(f'[corpus.docs]\npaths = ["docs"]\n{line}')
    return Workspace.open(root)


def write_set(folder: Path, questions: int = 30) -> None:
    folder.mkdir()
    records = [{"_id": f"d{n}", "title": f"Title {n}", "text": f"all about subject{n}"} for n in range(questions + 10)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = (json.dumps({"_id": f"q{n}", "text": f"tell me of subject{n}"}) + "\n" for n in range(questions))
    (folder / "queries.jsonl").write_text("".join(asked))
    (folder / "qrels.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(questions)))


def test_python_itself_gives_a_set_where_the_user_has_none_and_its_answers_are_not_in_its_questions(
    tmp_path: Path,
) -> None:
    found = general_set(workspace_with(tmp_path))
    assert found is not None and found.source == "Python's docstrings"
    assert len(found.questions) == 200 and 200 <= len(found.texts) <= 500
    forgetting._from_docstrings.cache_clear()
    assert found.questions == general_set(workspace_with(tmp_path)).questions  # type: ignore[union-attr]
    for question in found.questions:
        assert set(question.relevant) <= set(found.texts)
        assert question.text not in found.texts[question.id]


def test_an_installation_without_pythons_source_has_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert general_set(workspace_with(tmp_path)) is None


def test_the_users_own_set_is_taken_with_every_answer_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MOST_TEXTS", 35)
    write_set(tmp_path / "general")
    found = general_set(workspace_with(tmp_path, "general"))
    assert found is not None and found.source == "general"
    assert len(found.questions) == 30 and len(found.texts) == 35
    assert {unit for question in found.questions for unit in question.relevant} <= set(found.texts)


def test_a_model_that_lost_what_it_knew_is_seen_to_have_forgotten(tmp_path: Path) -> None:
    class Emptied(HashEmbedder):
        """Sees the first word only."""

        def _vector(self, text: str):  # type: ignore[no-untyped-def]
            return super()._vector(text.split()[0])

    write_set(tmp_path / "general")
    found = general_set(workspace_with(tmp_path, "general"))
    assert found is not None
    before = found.score(HashEmbedder(dimension=256))  # type: ignore[arg-type]
    after = found.score(Emptied(dimension=256))  # type: ignore[arg-type]
    told = found.compare(before, after)
    assert told.change.before > 0.9 and told.change.high < -0.3
    assert found.compare(before, before).change.mean == 0


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_set_that_lacks_a_file_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    write_set(tmp_path / "general")
    (tmp_path / "general" / missing).unlink()
    with pytest.raises(QuestionsError, match=missing.split(".")[0]):
        general_set(workspace_with(tmp_path, "general"))


def test_questions_whose_answers_the_set_lacks_do_not_count(tmp_path: Path) -> None:
    write_set(tmp_path / "general", 19)
    with pytest.raises(QuestionsError, match="only 19 questions of .* have an answer in corpus.jsonl"):
        general_set(workspace_with(tmp_path, "general"))
