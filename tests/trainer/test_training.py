from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_bert import load_tiny, save_tiny_bert, tiny_material, tiny_pairs

from retrieval.compute import Compute
from retrieval.errors import ModelError, QuestionsError, SettingsError, ShoptalkError
from retrieval.models import list_versions
from retrieval.workspace import Workspace
from trainer import memory
from trainer.batches import Plan
from trainer.distillation import Lesson, listwise_loss
from trainer.gradients import batch_gradient
from trainer.loss import at_dimensions, ranking_loss, triplet_loss
from trainer.memory import Room
from trainer.precision import Precision, choose_precision
from trainer.publishing import register, require_room
from trainer.ranks import Ranks
from trainer.recipes import Recipe
from trainer.training import train
from trainer.training_log import StepLog, keep_logs
from trainer.weights import copy_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

CPU = Compute("cpu", False, "asked for")
FLOAT32 = Precision("float32", "cpu", False, "a test")
RECIPE = Recipe(
    name="test",
    description="",
    rules=("cloze",),
    epochs=2,
    batch_size=16,
    learning_rate=1e-3,
    hard_negatives=1,
    false_negative_mask=True,
)
PAIRS = tiny_pairs()
LESSONS = [Lesson(pair.anchor, (pair.positive, pair.negatives[0], "the emu"), (3.0, 1.0, 0.0)) for pair in PAIRS[:20]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than such a small model does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tune(model: SentenceTransformer, recipe: Recipe = RECIPE, **settings: Any) -> Any:
    pairs = settings.pop("pairs", PAIRS)
    return train(model, pairs, recipe, tiny_material(), settings.pop("compute", CPU), seed=3, **settings)


def of_dev(mean: float) -> NDArray[np.float64]:
    """Scores of two dev questions with this mean."""
    return np.array([mean - 0.05, mean + 0.05])


def gradients(model: SentenceTransformer, recipe: Recipe = RECIPE, room: Room | None = None) -> dict[str, torch.Tensor]:
    """The gradient of the first batch by each parameter."""
    plan = Plan(PAIRS, (), recipe, tiny_material(), 3)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    room = room or Room(recipe.mini_batch)
    with batch_gradient(model, FLOAT32, room, Ranks(), lambda: False, scaler) as gradient:
        loss = gradient(plan[0])
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"loss": torch.tensor(loss), **found}


def assert_close(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert some.keys() == others.keys() and len(some) > 1
    for name in some:
        torch.testing.assert_close(some[name], others[name], atol=tolerance, rtol=1e-4, msg=name)


def moved(model: SentenceTransformer, before: dict[str, torch.Tensor]) -> float:
    after = copy_weights(model)
    return max(float((after[name] - before[name]).abs().max()) for name in before)


def test_the_gradient_is_that_of_the_whole_batch_embedded_at_once(bert: Path) -> None:
    model = load_tiny(bert)
    batch = Plan(PAIRS, (), RECIPE, tiny_material(), 3)[0]
    columns = [model(model.preprocess(list(texts)))["sentence_embedding"] for texts in (batch.anchors, batch.documents)]
    loss = batch.objective(columns[0], columns[1])
    loss.backward()
    plain = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert_close({"loss": loss.detach(), **plain}, gradients(load_tiny(bert)))


@pytest.mark.parametrize("mini_batch", [1, 7, 16])
def test_a_mini_batch_gives_the_gradient_of_the_whole_batch(bert: Path, mini_batch: int) -> None:
    recipe = replace(RECIPE, mini_batch=mini_batch, matryoshka=(8,))
    torch.set_num_threads(2)  # two workers
    whole = gradients(load_tiny(bert), replace(recipe, mini_batch=None))
    assert_close(whole, gradients(load_tiny(bert), recipe))


def test_a_mini_batch_gives_a_static_model_the_same_gradient(static_model: Path) -> None:
    whole = gradients(load_tiny(static_model))
    assert_close(whole, gradients(load_tiny(static_model), replace(RECIPE, mini_batch=5)))


def test_gradient_checkpointing_gives_the_same_gradient_and_is_switched_off_again(bert: Path) -> None:
    model, room = load_tiny(bert), Room(mini_batch=1)
    room.shrink(model, 48, "cpu", "a test")
    assert room.recompute and "gradient checkpointing" in room.changes[-1]
    assert_close(gradients(load_tiny(bert)), gradients(model, room=room))
    room.end(model)
    assert not model[0].auto_model.is_activation_checkpointing and not any(it.training for it in model.modules())


def test_documents_that_answer_each_others_anchors_are_no_negatives(bert: Path) -> None:
    plan = Plan(PAIRS, (), RECIPE, tiny_material(), 3)
    assert sum(len(plan[step].anchors) for step in range(len(plan))) == 2 * len(PAIRS) == plan.examples_before[-1]
    masked = plan._masked([PAIRS[0], PAIRS[1], PAIRS[2]])
    # Sections 0 and 1 are copies; the first row's negative is of section 1, and stays its negative no more.
    assert masked.tolist() == [
        [False, True, False, True, False, False],
        [True, False, False, True, False, False],
        [False, False, False, False, True, False],
    ]


def test_what_the_model_took_for_the_answer_is_no_negative_in_the_batch() -> None:
    plan = Plan(PAIRS, (), RECIPE, tiny_material(), 3)
    rows = [replace(PAIRS[0], likely_answers=(PAIRS[0].section, PAIRS[2].section)), PAIRS[2], PAIRS[4]]
    plain, noted = plan._masked([PAIRS[0], *rows[1:]]), plan._masked(rows)
    sections = [pair.section for pair in rows] + [pair.negative_sections[0] for pair in rows]
    likely = [place for place, section in enumerate(sections) if section in rows[0].likely_answers and place]
    assert not plain[0, 1] and 1 in likely
    assert noted[0].tolist() == [bool(plain[0, place]) or place in likely for place in range(len(sections))]
    assert noted[1:].equal(plain[1:])


def test_another_answer_of_the_same_anchor_is_no_negative_in_the_batch() -> None:
    twice = replace(PAIRS[2], anchor=PAIRS[0].anchor.upper())
    plain = Plan(PAIRS, (), RECIPE, tiny_material(), 3)._masked([PAIRS[0], PAIRS[2]])
    masked = Plan([*PAIRS, twice], (), RECIPE, tiny_material(), 3)._masked([PAIRS[0], PAIRS[2]])
    assert not plain[0, 1] and masked[0, 1] and not masked[1, 0]


def test_pairs_that_follow_each_other_share_a_batch_where_the_recipe_wants_alike_ones() -> None:
    recipe = replace(RECIPE, epochs=1, batch_size=8, alike=4)
    plan = Plan(PAIRS, (), recipe, tiny_material(), 3)
    place = {pair.anchor: number for number, pair in enumerate(PAIRS)}
    batches = [[place[anchor] for anchor in plan[step].anchors] for step in range(len(plan))]
    assert sorted(number for batch in batches for number in batch) == list(range(len(PAIRS)))
    groups = [batch[start : start + 4] for batch in batches for start in range(0, len(batch), 4)]
    assert all(group == list(range(group[0], group[0] + len(group))) for group in groups)
    assert [group[0] for group in groups] != sorted(group[0] for group in groups)


def test_no_batch_holds_a_text_twice() -> None:
    pairs = [replace(pair, anchor=PAIRS[0].anchor) if place < 5 else pair for place, pair in enumerate(PAIRS)]
    plan = Plan(pairs, (), replace(RECIPE, epochs=1), tiny_material(), 3)
    batches = [plan[step] for step in range(len(plan))]
    assert sum(len(batch.anchors) for batch in batches) == len(pairs) and len(batches) >= 5
    for batch in batches:
        texts = batch.anchors + batch.documents
        assert len(set(texts)) == len(texts)


def test_the_losses_are_what_their_papers_say() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    documents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [1.0, 0.0]])
    cosines = [[1.0, 0.0, 0.8, 1.0], [0.0, 1.0, 0.6, 0.0]]
    expected = [math.log(sum(math.exp(20 * cosine) for cosine in row)) - 20 for row in cosines]
    assert ranking_loss(anchors, documents).item() == pytest.approx(sum(expected) / 2, abs=1e-5)
    hidden = torch.tensor([[False, False, True, True], [True, False, True, True]])
    assert ranking_loss(anchors, documents, hidden).item() == pytest.approx(math.log1p(math.exp(-20)) / 2, abs=1e-6)
    # Margin .2: the first negative is at cosine .8, just far enough; the second at 0.
    assert triplet_loss(anchors, documents).item() == pytest.approx(0.0, abs=1e-6)
    assert triplet_loss(anchors, documents[[0, 1, 0, 1]]).item() == pytest.approx(0.2)


def test_a_student_that_ranks_as_its_teacher_has_nothing_to_learn() -> None:
    lessons = [Lesson("a", ("x", "y"), (20.0, 12.0)), Lesson("b", ("y", "x", "z"), (20.0, 0.0, 16.0))]
    anchors = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    documents = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    right = [Lesson("a", ("x", "y"), (20.0, 12.0)), Lesson("b", ("y", "x", "z"), (20.0, 12.0, 16.0))]
    assert listwise_loss(right, "xyz", 1.0)(anchors, documents).item() == pytest.approx(0.0, abs=1e-6)
    assert listwise_loss(lessons, "xyz", 1.0)(anchors, documents).item() > 1e-4
    doubled = [replace(lesson, scores=tuple(2 * score for score in lesson.scores)) for lesson in right]
    assert listwise_loss(doubled, "xyz", 2.0)(anchors, documents).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="as many scores"):
        Lesson("a", ("x", "y"), (1.0,))


def test_vectors_are_learned_at_each_length_they_may_be_cut_to() -> None:
    anchors, documents = torch.randn(4, 8), torch.randn(4, 8)
    unit = torch.nn.functional.normalize
    expected = [ranking_loss(unit(anchors[:, :size]), unit(documents[:, :size])) for size in (8, 4, 2)]
    found = at_dimensions(ranking_loss, (2, 4))(anchors, documents)
    torch.testing.assert_close(found, torch.stack(expected).mean())


@pytest.mark.parametrize("settings", [{}, {"loss": "triplet"}, {"matryoshka": (8, 16)}, {"mini_batch": 4}])
def test_training_lowers_the_loss(bert: Path, settings: dict[str, Any]) -> None:
    log = tune(load_tiny(bert), replace(RECIPE, epochs=4, learning_rate=5e-3, **settings))
    losses = [loss for _, loss in log.losses]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_lessons_are_learned_alone_and_between_pairs(bert: Path) -> None:
    recipe = replace(RECIPE, epochs=4, learning_rate=1e-2)
    alone = tune(load_tiny(bert), recipe, pairs=[], lessons=LESSONS)
    told = [loss for _, loss in alone.lesson_losses]
    assert told[-1] < 0.5 * told[0] and (alone.pairs, alone.lessons, alone.losses) == (0, 20, [])
    assert alone.steps == 12  # 8 lessons of 4 texts cost what 16 pairs do
    both = tune(load_tiny(bert), replace(recipe, epochs=1), lessons=LESSONS)
    assert both.steps == 3 + 2  # here 12, as the pairs have negatives
    # Losses on two scales in one list would look like steps too large.
    steps = [step for kind in (both.losses, both.lesson_losses) for step, _ in kind]
    assert (len(both.losses), len(both.lesson_losses), sorted(steps)) == (3, 2, [1, 2, 3, 4, 5])


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(bert: Path) -> None:
    some, others, third = load_tiny(bert), load_tiny(bert), load_tiny(bert)
    tune(some), tune(others)
    train(third, PAIRS, RECIPE, tiny_material(), CPU, seed=4)
    assert moved(some, copy_weights(others)) == 0.0 < moved(some, copy_weights(third))


class Allocator:
    """Raises as PyTorch's does where more texts are embedded with their activations than it has room for."""

    def __init__(self, model: SentenceTransformer, room: int, error: Callable[[str], Exception]) -> None:
        self.model, self.room, self.held = model, room, 0
        self.forward, self.error, self.raised = model.forward, error, 0
        self.grad = torch.autograd.grad

    def embed(self, features: dict[str, torch.Tensor], **rest: Any) -> Any:
        if torch.is_grad_enabled():
            self.held += len(features["input_ids"])
            if self.held > self.room:
                self.held, self.raised = 0, self.raised + 1
                raise self.error("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")
        return self.forward(features, **rest)

    def derive(self, *arguments: Any, **settings: Any) -> Any:
        self.held = 0
        return self.grad(*arguments, **settings)


@contextmanager
def short_of_memory(
    model: SentenceTransformer, room: int, monkeypatch: pytest.MonkeyPatch, error: Callable[[str], Exception]
) -> Iterator[Allocator]:
    allocator = Allocator(model, room, error)  # counts in order: there is one worker
    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", allocator.embed)
        patch.setattr(torch.autograd, "grad", allocator.derive)
        yield allocator


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_out_of_memory_halves_the_mini_batch_until_it_fits_and_trains_the_same_model(
    bert: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[str], Exception]
) -> None:
    model, unbounded = load_tiny(bert), load_tiny(bert)
    recipe = replace(RECIPE, batch_size=48, epochs=1)
    with short_of_memory(model, 20, monkeypatch, error) as allocator:
        log = tune(model, recipe)
    whole = tune(unbounded, recipe)
    assert log.mini_batch == 18 and allocator.raised == 3  # 48 pairs of 3 texts: 144, 72, 36, 18
    assert len(log.losses) == len(whole.losses) == log.steps  # no step was left out
    assert [loss for _, loss in log.losses] == pytest.approx([loss for _, loss in whole.losses], abs=1e-4)
    assert sum("out of memory" in choice for choice in log.choices) == 3


def test_where_not_one_text_fits_a_smaller_base_is_named_and_the_model_is_as_before(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny(bert)
    before = copy_weights(model)
    with (
        short_of_memory(model, 0, monkeypatch, RuntimeError) as allocator,
        pytest.raises(ModelError, match="not even one text fits into memory .* no smaller base is sure to fit"),
    ):
        tune(model)
    assert allocator.raised == 7 and moved(model, before) == 0.0  # 48, 24, 12, 6, 3, 1, and 1 with checkpointing


def test_the_smaller_base_is_the_largest_whose_training_leaves_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Large:
        def __init__(self, parameters: int, words: int) -> None:
            self.parameters = lambda: [torch.empty(parameters, device="meta")]
            self.tokenizer = range(words)

    english: Any = Large(335_000_000, 30_522)
    for free, name in ((0, "bge-base"), (-3_000_000_000, "bge-small"), (-5_500_000_000, "MiniLM")):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        assert name in memory.smaller_base(english, "cpu")
    # Who reads many languages is not sent to a model of one.
    many: Any = Large(560_000_000, 250_002)
    monkeypatch.setattr(memory, "free_memory", lambda: 10_000_000_000)
    assert "multilingual-e5-base" in memory.smaller_base(many, "cpu")


def test_memory_that_runs_out_beside_the_texts_ends_the_run_in_a_line_and_the_base_is_as_it_was(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny(bert)
    before = copy_weights(model)

    def full(*arguments: Any, **settings: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 bytes")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(ModelError, match=r"memory ran out in training, beside the texts \(CUDA out of.*no smaller"):
        tune(model)
    assert moved(model, before) == 0.0


def test_little_free_memory_is_taken_for_none_before_the_system_ends_the_process(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1_000_000)
    model = load_tiny(bert)
    log = tune(model, replace(RECIPE, epochs=1))
    assert log.mini_batch == 1 and "1 MB of memory are free" in log.choices[1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny(bert)

    def broken(features: dict[str, torch.Tensor]) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        tune(model)


def test_the_best_state_on_dev_is_kept_and_training_stops_when_it_rises_no_more(bert: Path, tmp_path: Path) -> None:
    model = load_tiny(bert)
    scores = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    states: list[dict[str, torch.Tensor]] = []

    def look() -> NDArray[np.float64]:
        states.append(copy_weights(model))
        return of_dev(next(scores))

    log = tune(model, replace(RECIPE, looks=6, patience=2), dev_scores=look, folder=tmp_path)
    assert log.dev == [(1, 0.2), (2, 0.5), (3, 0.4), (4, 0.3)] and (log.kept_step, log.steps) == (2, 4)
    assert moved(model, states[1]) == 0.0
    assert any("stopped early, at step 4 of 6" in choice for choice in log.choices)
    lines = [json.loads(line) for line in (tmp_path / "train-log.jsonl").read_text().splitlines()]
    assert [line["dev_ndcg@10"] for line in lines] == [0.2, 0.5, 0.4, 0.3]
    assert lines[0].keys() >= {"step", "loss", "learning_rate", "gradient_norm", "examples_per_second"}
    again = load_tiny(bert)
    resumed = tune(again, replace(RECIPE, looks=6, patience=2), dev_scores=look, folder=tmp_path)
    assert resumed.kept_step == 2 and moved(again, states[1]) == 0.0  # finished: nothing is done again


GENTLE = replace(RECIPE, looks=3, gentler=0.2)
BASE = np.array([0.4, 0.5, 0.6, 0.5])
LOSS, DOUBTED = BASE - [0.1, 0.1, 0.1, 0.2], BASE - [0.1, -0.2, 0.1, 0.1]


def rates(folder: Path) -> list[float]:
    return [json.loads(line)["learning_rate"] for line in (folder / "train-log.jsonl").read_text().splitlines()]


def test_a_rate_that_spoils_the_base_beyond_doubt_is_cut_and_training_begins_again_from_the_base(
    bert: Path, tmp_path: Path
) -> None:
    model, base = load_tiny(bert), copy_weights(load_tiny(bert))
    looks = iter([LOSS, BASE - 0.2, BASE - 0.3])
    log = tune(model, GENTLE, dev_scores=lambda: next(looks), base_scores=lambda: BASE, folder=tmp_path)
    assert log.learning_rate == pytest.approx(2e-4) and log.steps == 6
    assert any(
        "step 2 of 6, at a rate of 0.0002: dev NDCG@10 was 0.375, below the base's 0.500 by more than its error"
        in choice
        for choice in log.choices
    )
    # What was left behind is not kept though it scored best; the next look is.
    assert log.kept_step == 4 and [score for _, score in log.dev] == pytest.approx([0.375, 0.3, 0.2])
    plain = load_tiny(bert)
    tune(plain, GENTLE, folder=tmp_path / "plain")
    assert rates(tmp_path)[:2] == rates(tmp_path / "plain")[:2]
    assert rates(tmp_path)[2:] == pytest.approx([rate / 5 for rate in rates(tmp_path / "plain")[2:]])
    assert 0 < moved(model, base) < moved(plain, base) / 2


def test_a_rate_that_the_first_look_does_not_speak_against_stays_whatever_comes_later(bert: Path) -> None:
    looks = iter([DOUBTED, LOSS, BASE - 0.2])
    log = tune(load_tiny(bert), GENTLE, dev_scores=lambda: next(looks), base_scores=lambda: BASE)
    assert log.learning_rate == 1e-3 and log.kept_step == 2
    assert not any("begun again" in choice for choice in log.choices)


@pytest.mark.parametrize(("answers", "rate"), [(None, 2e-4), ([0, 0, 0, 1], 1e-3)])
def test_one_answer_asked_for_in_many_wordings_speaks_but_once_against_a_rate(
    bert: Path, answers: list[int] | None, rate: float
) -> None:
    looks = iter([BASE - [0.2, 0.2, 0.2, -0.21], LOSS, LOSS])
    log = tune(load_tiny(bert), GENTLE, dev_scores=lambda: next(looks), base_scores=lambda: BASE, answers=answers)
    assert log.learning_rate == pytest.approx(rate)


def test_where_the_only_look_is_the_last_step_there_is_nothing_left_to_begin_again_with(bert: Path) -> None:
    model, base = load_tiny(bert), copy_weights(load_tiny(bert))
    log = tune(model, replace(GENTLE, looks=1), dev_scores=lambda: LOSS, base_scores=lambda: BASE)
    assert log.learning_rate == 1e-3 and (log.kept_step, log.steps) == (6, 6) and moved(model, base) > 0


def test_a_run_killed_after_its_rate_was_cut_ends_as_the_unbroken_one(bert: Path, tmp_path: Path) -> None:
    recipe, unbroken, resumed = replace(GENTLE, checkpoint_every=1), load_tiny(bert), load_tiny(bert)
    tune(unbroken, recipe, dev_scores=lambda: LOSS, base_scores=lambda: BASE)
    killed = load_tiny(bert)

    def die_at_second() -> NDArray[np.float64]:
        if len(seen := [*looked, 0]) == 2:
            raise RuntimeError("killed")
        looked[:] = seen
        return LOSS

    looked: list[int] = []
    with pytest.raises(RuntimeError, match="killed"):
        tune(killed, recipe, dev_scores=die_at_second, base_scores=lambda: BASE, folder=tmp_path)
    log = tune(resumed, recipe, dev_scores=lambda: LOSS, base_scores=lambda: BASE, folder=tmp_path)
    assert "went on from a checkpoint after step 3" in log.choices and log.learning_rate == pytest.approx(2e-4)
    assert sum("begun again" in choice for choice in log.choices) == 1
    assert moved(resumed, copy_weights(unbroken)) == 0.0


def test_dev_is_looked_at_with_whole_texts_though_training_cuts_them(bert: Path) -> None:
    model = load_tiny(bert)
    seen: list[int] = []

    def look() -> NDArray[np.float64]:
        seen.append(model.max_seq_length)
        return of_dev(0.5)

    whole = model.max_seq_length
    tune(model, replace(RECIPE, looks=2, max_tokens=6), dev_scores=look)
    assert seen == [whole, whole] == [model.max_seq_length] * 2 and whole > 6


def test_a_loss_of_nan_stops_the_run_and_leaves_the_model_as_it_was(bert: Path, tmp_path: Path) -> None:
    model = load_tiny(bert)
    before = copy_weights(model)
    recipe = replace(RECIPE, learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(ShoptalkError, match=r"astray: the \w+ was nan by step 2; a lower learning rate than 1e\+30"):
        tune(model, recipe, folder=tmp_path)
    assert moved(model, before) == 0.0


def press_after(looks: int) -> Callable[[], NDArray[np.float64]]:
    """Dev scores that press Ctrl-C at the given look."""
    seen = []

    def look() -> NDArray[np.float64]:
        seen.append(0)
        if len(seen) == looks:
            os.kill(os.getpid(), signal.SIGINT)
        return of_dev(1.0 / len(seen))

    return look


def test_ctrl_c_keeps_the_best_so_far_says_so_and_the_next_run_goes_on(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, looks=6)
    stopped, resumed, unbroken = load_tiny(bert), load_tiny(bert), load_tiny(bert)
    with pytest.raises(
        KeyboardInterrupt, match="stopped at step 3 of 6; all of it is in .*; the best so far is step 1"
    ):
        tune(stopped, recipe, dev_scores=press_after(3), folder=tmp_path)
    assert "the same command goes on from there" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    log = tune(resumed, recipe, dev_scores=lambda: of_dev(0.1), folder=tmp_path)
    assert log.dev[:3] == [(1, 1.0), (2, 0.5), (3, 1 / 3)] and [step for step, _ in log.losses] == [1, 2, 3, 4, 5, 6]
    falling = iter(range(9, 0, -1))
    tune(unbroken, recipe, dev_scores=lambda: of_dev(float(next(falling))))
    assert moved(resumed, copy_weights(unbroken)) == 0.0 == moved(stopped, copy_weights(unbroken))


def test_without_a_folder_ctrl_c_still_leaves_the_best_in_the_model(bert: Path) -> None:
    model = load_tiny(bert)
    before = copy_weights(model)
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped at step 2 of 6; the best so far is step 1, dev NDCG@10 1\.000"
    ):
        tune(model, replace(RECIPE, looks=6), dev_scores=press_after(2))
    assert moved(model, before) > 0


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A full disk: the system refuses to write on (Python leaves the signal that comes with it aside)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_version_that_the_disk_has_no_room_for_is_told_and_nothing_of_it_stays(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace.create(tmp_path, {"docs": "docs"}, str(bert))
    workspace, model = Workspace.open(tmp_path), load_tiny(bert)
    with files_no_larger_than(4096), pytest.raises(ModelError, match=r"the disk of .*models takes no more \(File too"):
        register(workspace, model, {}, {})
    assert list_versions(workspace) == [] and list(workspace.models_dir.iterdir()) == []
    require_room(workspace, model)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    with pytest.raises(ModelError, match="has 5 MB free, and a version of this model takes 9; make room"):
        require_room(workspace, SimpleNamespace(state_dict=lambda: {"weights": torch.zeros(9 << 18)}))


def test_a_disk_that_is_full_is_told_once_and_the_last_good_checkpoint_is_kept(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, checkpoint_every=1, looks=6)
    model, unbroken = load_tiny(bert), load_tiny(bert)
    room = iter([10**9, 10**9, 10_000, 10_000, 10_000, 10_000])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def look() -> NDArray[np.float64]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (next(room), limits[1]))
        return of_dev(0.5)

    try:
        log = tune(model, recipe, dev_scores=look, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.steps == 6 and caplog.text.count("no checkpoint could be written") == 1
    assert "the last good one is kept" in caplog.text and "File too large" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["checkpoint.pt", "train-log.jsonl"]
    again = load_tiny(bert)
    resumed = tune(again, recipe, dev_scores=lambda: of_dev(0.5), folder=tmp_path)
    assert "went on from a checkpoint after step 2" in resumed.choices
    tune(unbroken, recipe, dev_scores=lambda: of_dev(0.5))
    assert moved(again, copy_weights(unbroken)) == 0.0 == moved(model, copy_weights(unbroken))


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with StepLog(tmp_path, 0) as lines, files_no_larger_than(100):
        for step in range(1, 20):
            lines.write(step, loss=0.5)
    assert caplog.text.count("the training log could not be written (File too large)") == 1


def test_the_logs_of_a_run_are_kept_as_curves_too_and_its_checkpoint_is_not(bert: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tune(load_tiny(bert), replace(RECIPE, looks=2), dev_scores=lambda: of_dev(0.5), folder=tmp_path / "run")
    keep_logs(tmp_path / "run", tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["tensorboard", "train-log.jsonl"]
    curves = EventAccumulator(str(tmp_path / "kept" / "tensorboard"))
    curves.Reload()
    assert [event.step for event in curves.Scalars("dev_ndcg@10")] == [3, 6]
    assert len(curves.Scalars("loss")) == 6


def test_a_log_that_a_power_cut_has_left_anything_in_is_written_on_from_there(tmp_path: Path) -> None:
    file = tmp_path / "train-log.jsonl"
    for left in (b"\0\0\xff\n", b"[]\n", b'{"loss": 1}\n'):
        file.write_bytes(b'{"step": 1}\n' + left + b'{"step": 3}\n')
        with StepLog(tmp_path, 3) as lines:
            lines.write(4, loss=0.5)
        assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 4]


def test_a_checkpoint_that_is_damaged_or_of_another_run_is_not_gone_on_from(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recipe = replace(RECIPE, checkpoint_every=1, epochs=1)
    tune(load_tiny(bert), recipe, folder=tmp_path)
    other = tune(load_tiny(bert), replace(recipe, learning_rate=2e-3), folder=tmp_path)
    assert len(other.losses) == 3 and "is of another run" in caplog.text
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    log = tune(load_tiny(bert), replace(recipe, learning_rate=2e-3), folder=tmp_path)
    assert len(log.losses) == 3 and "cannot be read" in caplog.text


def test_adapters_are_merged_into_the_weights_and_leave_no_trace(bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = load_tiny(bert)
    before = copy_weights(model)
    recipe = replace(RECIPE, lora_rank=4, epochs=4, learning_rate=5e-3)
    log = tune(model, recipe, folder=tmp_path)
    after = copy_weights(model)
    assert after.keys() == before.keys() and log.losses[-1][1] < log.losses[0][1]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("dense" in name or "query" in name or "key" in name or "value" in name for name in changed)
    assert all(weight.requires_grad for weight in model.parameters())
    again = load_tiny(bert)
    tune(again, recipe, folder=tmp_path)  # finished: its adapters come from the checkpoint
    assert moved(again, after) == 0.0


def test_adapters_need_a_transformer(static_model: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ModelError, match="a static model has no layers to adapt"):
        tune(load_tiny(static_model), replace(RECIPE, lora_rank=4))


def test_what_cannot_be_trained_says_why(bert: Path) -> None:
    model = load_tiny(bert)
    with pytest.raises(SettingsError, match="matryoshka = 64 does not fit vectors of 32 numbers"):
        tune(model, replace(RECIPE, matryoshka=(8, 64)))
    with pytest.raises(QuestionsError, match="triplet needs hard negatives"):
        tune(model, replace(RECIPE, loss="triplet"), pairs=tiny_pairs(negatives=0))
    with pytest.raises(QuestionsError, match="nothing to train on"):
        tune(model, pairs=[])


def test_each_model_and_device_gets_its_precision_with_the_reason(bert: Path, static_model: Path) -> None:
    model = load_tiny(bert)
    able = choose_precision(model, Compute("cpu", True, "this CPU has bfloat16 instructions"))
    assert able.described == "bfloat16 autocast"
    assert able.reason == "this CPU has bfloat16 instructions; attention by PyTorch's fused kernels (sdpa)"
    static = choose_precision(load_tiny(static_model), Compute("cpu", True, "able"))
    assert static.described == "float32" and "no matrix products" in static.reason


def test_each_gpu_gets_its_precision(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny(bert)
    for major, *expected in (
        (9, "bfloat16", True, False),
        (7, "float16", False, True),
        (6, "float32", False, False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, major=major: (major, 0))
        chosen = choose_precision(model, Compute("cuda", True, "CUDA device"))
        assert [chosen.name, chosen.tf32, chosen.scaled] == expected


def test_progress_counts_examples(bert: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    tune(load_tiny(bert), progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert seen[0] == ("training", 16, 96) and seen[-1] == ("training", 96, 96) and len(seen) == 6
