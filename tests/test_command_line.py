from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import shoptalk
from retrieval.workspace import Workspace


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPTALK_")} | more
    command = [sys.executable, "-m", "shoptalk", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.parametrize("verb", shoptalk.VERBS)
def test_the_help_in_the_list_is_the_commands_own(verb: str) -> None:
    command = shoptalk.LazyGroup().get_command(click.Context(shoptalk.command_line), verb)
    assert command is not None
    assert command.get_short_help_str(200) == shoptalk.VERBS[verb][1]


@pytest.mark.parametrize("verb", shoptalk.VERBS)
def test_every_verb_takes_the_global_options_after_its_name(verb: str) -> None:
    command = shoptalk.LazyGroup().get_command(click.Context(shoptalk.command_line), verb)
    assert command is not None
    assert {"workspace", "json", "quiet"} <= {parameter.name for parameter in command.params}


def test_a_wrong_option_is_one_usage_message_and_exit_code_2(tmp_path: Path) -> None:
    result = run("search", "--nonsense", cwd=tmp_path)
    assert result.returncode == 2
    assert "No such option" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "is not a workspace: it has no shoptalk.toml; make one with `shoptalk init"),
        ("[model\n", "shoptalk.toml is not valid TOML"),
        ('[search]\nmode = "fast"\n', "shoptalk.toml:2: search.mode:"),
        ("[search]\nmoode = 1\n", "shoptalk.toml:2: unknown key search.moode"),
        ("[serch]\n", "shoptalk.toml:1: unknown section [serch]"),
        ("[corpus.Docs]\npaths = ['a']\n", "shoptalk.toml:1: corpus name 'Docs'"),
        ("[corpus.docs]\n\npaths = []\n", "shoptalk.toml:3: corpus.docs.paths"),
        ("[corpus.docs]\npath = ['a']\n", "shoptalk.toml:2: unknown key corpus.docs.path"),
        ("[corpus]\npaths = ['a']\n", "shoptalk.toml:1: write corpora as [corpus.NAME]"),
        ("[model]\nbase = ''\n", "shoptalk.toml:2: model.base:"),
        ("[store]\nkind = 'milvus'\nurl = 'file:x'\n", "shoptalk.toml:3: store.url: must end in .db"),
        ("[corpus.docs]\npaths = ['nowhere']\n", "nowhere"),
    ],
)
def test_a_broken_workspace_is_one_line_that_names_the_place(
    tmp_path: Path, settings: str | None, message: str
) -> None:
    if settings is not None:
        (tmp_path / "shoptalk.toml").write_text(settings, encoding="utf-8")
    result = run("index", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_a_variable_that_makes_a_default_wrong_is_named(tmp_path: Path) -> None:
    from retrieval.errors import SettingsError
    from retrieval.workspace import Workspace

    (tmp_path / "shoptalk.toml").write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^SHOPTALK_STORE_KIND: store\.url: must be an address"):
        Workspace.open(tmp_path, {"SHOPTALK_STORE_KIND": "qdrant"})


def test_the_environment_overrides_the_file_and_status_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval.workspace import Workspace

    (tmp_path / "shoptalk.toml").write_text('[search]\nmode = "dense"\ncandidates = 50\n', encoding="utf-8")
    workspace = Workspace.open(tmp_path, {"SHOPTALK_SEARCH_MODE": "lexical"})
    assert (workspace.search.mode, workspace.search.candidates) == ("lexical", 50)
    assert workspace.setting_origin("search.mode") == "$SHOPTALK_SEARCH_MODE"
    assert workspace.setting_origin("search.candidates") == "shoptalk.toml"
    assert workspace.setting_origin("search.fusion") == "default"


def test_an_unknown_model_reference_lists_the_forms_it_can_take(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\ntext\n", encoding="utf-8")
    (tmp_path / "shoptalk.toml").write_text('[model]\nbase = "nonsense"\n[corpus.docs]\npaths = ["docs"]\n')
    result = run("index", cwd=tmp_path)
    assert result.returncode == 1 and "unknown model reference 'nonsense'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_models_of_a_fresh_workspace_are_none_in_text_and_in_json(tmp_path: Path) -> None:
    (tmp_path / "shoptalk.toml").write_text("", encoding="utf-8")
    assert "no versions yet" in run("models", cwd=tmp_path).stdout
    assert json.loads(run("models", "--json", cwd=tmp_path).stdout)["versions"] == []
    assert json.loads(run("--json", "models", "list", cwd=tmp_path).stdout)["versions"] == []
    missing = run("models", "show", "v7", cwd=tmp_path)
    assert missing.returncode == 1 and "no model version 'v7'" in missing.stderr
    nothing = run("models", "rollback", cwd=tmp_path)
    assert nothing.returncode == 1 and "nothing to roll back to" in nothing.stderr


def test_evaluate_without_questions_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "shoptalk.toml").write_text("", encoding="utf-8")
    result = run("evaluate", cwd=tmp_path)
    assert result.returncode == 2 and "--questions" in result.stderr


def test_what_a_terminal_has_no_sign_for_is_shown_by_its_number_and_json_stays_json(tmp_path: Path) -> None:
    folder = tmp_path / "\u30e9"
    Workspace.create(folder, {"docs": "docs"}, "base")
    shown = run("status", cwd=folder, PYTHONIOENCODING="latin-1")
    assert (shown.returncode, shown.stderr) == (0, "") and "\\u30e9" in shown.stdout
    value = json.loads(run("--json", "status", cwd=folder, PYTHONIOENCODING="latin-1").stdout)
    assert "\u30e9" in json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_output_is_output_to_nowhere(tmp_path: Path, closed: str) -> None:
    (tmp_path / "shoptalk.toml").write_text("", encoding="utf-8")
    command = f'"{sys.executable}" -m shoptalk'
    for verb in ("status", "--json status", "models"):
        result = subprocess.run(f"{command} {verb} {closed}", shell=True, capture_output=True, text=True, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, ""), verb
    asked = subprocess.run(f"{command} ask hi {closed}", shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert asked.returncode == 1 and "Traceback" not in asked.stderr
    served = subprocess.run(f"{command} serve 1>&-", shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert served.returncode == 1 and len(served.stderr.strip().splitlines()) == 1


def test_a_folder_that_the_locale_cannot_name_is_told_with_the_fix(tmp_path: Path) -> None:
    folder = tmp_path / "W\u00f6rk"
    Workspace.create(folder, {"docs": "docs"}, "base")
    result = run("status", cwd=folder, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert result.returncode == 1 and result.stderr.endswith("cannot be named in this locale; set PYTHONUTF8=1\n")
    assert run("status", cwd=folder, LC_ALL="C", PYTHONUTF8="1").returncode == 0


def test_a_budget_that_nothing_would_keep_to_is_refused(tmp_path: Path) -> None:
    Workspace.create(tmp_path, {"docs": "docs"}, "base")
    result = run("tune", "--recipe", "structure", "--budget", "90s", cwd=tmp_path)
    assert result.returncode == 1 and "--budget bounds the recipe auto alone" in result.stderr
