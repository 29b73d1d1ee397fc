"""Recipes of one's own: ``[trainer.recipes.NAME]``, what they change, and who tries them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from benches import bench_of
from tests_support import SMALL_BERT_TOKENS, save_words, small_bert

import shoptalk
from retrieval.errors import ModelError, SettingsError
from retrieval.workspace import Workspace
from trainer import auto
from trainer.auto import search
from trainer.distillation import Lesson
from trainer.lessons import rescored
from trainer.recipes import AUTO, RECIPES, Recipe, find_recipe

if TYPE_CHECKING:
    from conftest import Tuned


def recipe_of(root: Path, toml: str, name: str = "mine") -> Recipe:
    (root / "shoptalk.toml").write_text(toml, encoding="utf-8")
    return find_recipe(name, Workspace.open(root, {}).trainer.recipes)


def test_settings_beside_another_recipe_are_what_differs_from_it() -> None:
    structure = RECIPES["structure"]
    rules = (*structure.rules[1:], "title")
    other = replace(structure, rules=rules, hard_negatives=0, learning_rate=1e-5, loss="triplet")
    told = f"+ title, - {structure.rules[0]}, rate 1e-05, triplet loss, without {structure.hard_negatives} hard"
    assert other.settings(False, structure) == told and structure.settings(False, structure) == ""
    seldom = replace(structure, name="own", warmup=0.5, averages=(1.0, 0.2))
    assert seldom.settings(False, structure) == "warmup 0.5, averages 1.0 0.2"
    assert replace(seldom, epochs=2).settings(False, structure) == "2 x 32, warmup 0.5, averages 1.0 0.2"


def test_a_recipe_of_ones_own_differs_from_what_it_is_based_on_by_what_it_sets(tmp_path: Path) -> None:
    found = recipe_of(
        tmp_path, "[trainer.recipes.mine]\nlora_rank = 8\nmatryoshka = [64, 128]\naverages = [1.0]\nepochs = 2\n"
    )
    assert found == replace(
        RECIPES["structure"],
        name="mine",
        description=found.description,
        lora_rank=8,
        matryoshka=(64, 128),
        averages=(1.0,),
        epochs=2,
    )
    assert "adapters of rank 8" in found.settings(False) and "64, 128 dimensions" in found.settings(False)


def test_rules_and_rates_that_are_set_are_all_there_are(tmp_path: Path) -> None:
    found = recipe_of(
        tmp_path,
        '[trainer.recipes.mine]\nbased_on = "seed"\nrules = ["alias"]\nlearning_rate = 1e-3\nintact = 0.25\n',
    )
    assert found.intact == found.static_intact == 0.25
    assert found.every_rule == ("alias",) and found.epochs == RECIPES["seed"].epochs
    assert found.learning_rate == found.static_learning_rate == 1e-3


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[trainer.recipes.mine]\nlora = 8", r":2: unknown key trainer.recipes.mine.lora; known: based_on, rules, "),
        ("[trainer.recipes.mine]\nepochs = 0", r":2: trainer.recipes.mine.epochs: "),
        ("[trainer.recipes.mine]\nlearning_rate = inf", r":2: trainer.recipes.mine.learning_rate: "),
        ("[trainer.recipes.mine]\naverages = [1.5]", r":2: trainer.recipes.mine.averages: "),
        ("[trainer.recipes.mine]\nrules = []", r":2: trainer.recipes.mine.rules: "),
        ('[trainer.recipes.mine]\nbased_on = "x"', r":2: trainer.recipes.mine.based_on: "),
        ("[trainer.recipes.Mine]", r":1: recipe name 'Mine' must be lower-case"),
        ("[trainer.recipes]\nmine = 3", r"trainer.recipes.mine must be a section"),
        ("[trainer.recipes.seed]\nepochs = 1", r"trainer.recipes.seed: there is a recipe of that name"),
        ("[trainer.recipes.prose]\nepochs = 1", r"trainer.recipes.prose: there is a recipe of that name"),
        ('[trainer.recipes.mine]\nteacher = "x"', r"trainer.recipes.mine: a teacher scores lessons, and there"),
        (
            "[trainer.recipes.mine]\nlooks = 0\npatience = 3",
            r"trainer.recipes.mine: patience counts looks at dev, and",
        ),
        ("[trainer.recipes.other]\nepochs = 1", r"unknown recipe 'mine' .* known: seed, structure, auto, other"),
    ],
)
def test_a_wrong_recipe_is_told_in_a_line_with_its_place(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        recipe_of(tmp_path, toml)


def test_only_what_a_recipe_sets_is_listed_among_the_settings(tmp_path: Path) -> None:
    recipe_of(tmp_path, "[trainer.recipes.mine]\nepochs = 2\n")
    origins = {origin.name: origin for origin in Workspace.open(tmp_path, {}).origins}
    assert origins["trainer.recipes.mine.epochs"].value == 2
    assert "trainer.recipes.mine.rules" not in origins and "trainer.recipes" not in origins


def test_a_rule_that_there_is_not_is_named_before_anything_is_mined(tuned: Tuned) -> None:
    with pytest.raises(SettingsError, match="trainer.recipes: there is no mining rule 'alais' .*there are .*alias"):
        bench_of(tuned.workspace, tuned.corpus.questions, ("alais",))


def test_one_command_tunes_by_it_and_the_record_says_so(
    tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (tuned.workspace.root / "shoptalk.toml").read_text(encoding="utf-8")
    documents = tuned.workspace.corpus_paths("icd")[0]
    settings = settings.replace('paths = ["docs"]', f"paths = {json.dumps([str(documents)])}")
    own = '\n[trainer]\nrecipe = "mine"\n[trainer.recipes.mine]\nmax_pairs = 200\nmatryoshka = [64]\naverages = [1.0]\n'
    (tmp_path / "shoptalk.toml").write_text(settings + own, encoding="utf-8")
    command = ["-w", str(tmp_path), "tune", "--no-promote"]
    with pytest.raises(SystemExit) as ended:
        shoptalk.main([*command, "--questions", str(tuned.corpus.questions)])
    assert ended.value.code in (0, 3), capsys.readouterr().err
    record = json.loads((tmp_path / "models" / "v0001" / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"]["name"] == "mine" and record["recipe"]["matryoshka"] == [64]
    assert sum(item["kept"] for item in record["pairs"]) <= 200
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        shoptalk.main([*command, "--recipe", "yours"])
    told = capsys.readouterr().err
    assert ended.value.code not in (0, 3) and len(told.splitlines()) == 1
    assert "unknown recipe 'yours'" in told and "known: seed, structure, auto, mine" in told


def test_auto_tries_recipes_of_ones_own_beside_its_arms(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"names": {"rules": ["alias", "title"], "lora_rank": 0}}
    trainer = tuned.workspace.trainer.model_validate({"recipes": settings, "max_pairs": 300})
    workspace = replace(tuned.workspace, trainer=trainer)
    recipe = find_recipe(AUTO, trainer.recipes)
    assert {"alias", "title"} <= set(recipe.every_rule)
    monkeypatch.setattr(auto, "FIRST_DOSE", 96)
    monkeypatch.setattr(auto, "ARMS", auto.ARMS[:1])
    bench = bench_of(workspace, tuned.corpus.questions, recipe.every_rule)
    _, trials = search(bench, recipe, budget=1e6)
    assert [trial.name for trial in trials][:2] == ["structure", "names"]


def test_lessons_by_another_teacher_follow_its_order_on_one_scale() -> None:
    lessons = [Lesson("a", ("x", "y", "z"), (3.0, 2.0, 1.0)), Lesson("b", ("u", "v"), (1.0, 0.0))]
    given = [[0.1, 0.9, 0.5], [0.2, 0.3]]
    told = rescored(lessons, given)
    assert [lesson.candidates for lesson in told] == [("y", "z", "x"), ("v", "u")]
    flat = np.array([score for lesson in told for score in lesson.scores])
    assert flat.mean() == pytest.approx(0, abs=1e-12) and flat.std() == pytest.approx(1)
    # A teacher's scale and zero say nothing.
    assert [lesson.scores for lesson in rescored(lessons, [[100 * s - 7 for s in row] for row in given])] == [
        pytest.approx(lesson.scores) for lesson in told
    ]
    assert [lesson.scores for lesson in rescored(lessons, [[2, 2, 2], [2, 2]])] == [(0, 0, 0), (0, 0)]


def test_a_cross_encoder_teaches_the_embedder_what_it_would_rank_first(tuned: Tuned, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    bench = bench_of(tuned.workspace, tuned.corpus.questions, ("alias",))
    counts = Counter(word for text in bench.mined.texts for word in text.lower().split() if word.isalpha())
    words = [word for word, _ in counts.most_common(500)]
    teaching, embedding = tmp_path / "teacher", tmp_path / "embedder"
    small_bert("BertForSequenceClassification", words, num_labels=1).save_pretrained(teaching)
    small_bert("BertModel", words).save_pretrained(embedding)
    for folder in (teaching, embedding):
        save_words(folder, words, model_max_length=SMALL_BERT_TOKENS)
    plain = replace(find_recipe("structure"), rules=("alias",), filler_rules=(), max_pairs=64, lessons=40)
    recipe = replace(plain, teacher=str(teaching), averages=(1.0,))
    before, after = bench.lessons(plain), bench.lessons(recipe)
    assert [lesson.anchor for lesson in after] == [lesson.anchor for lesson in before] and len(after) >= 20
    teacher = CrossEncoder(str(teaching), device="cpu")
    for lesson in after[:5]:
        scores = teacher.predict([(lesson.anchor, text) for text in lesson.candidates])
        assert list(scores) == sorted(scores, reverse=True)
    assert [set(lesson.candidates) for lesson in after] == [set(lesson.candidates) for lesson in before]
    assert [lesson.candidates for lesson in after] != [lesson.candidates for lesson in before]
    assert bench.fit(recipe).log.lessons == len(after)
    with pytest.raises(ModelError, match="teacher = .* is no cross-encoder"):
        bench.lessons(replace(recipe, teacher=str(embedding)))
