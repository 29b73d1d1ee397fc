"""Fine-tune an embedder on pairs with the SentenceTransformerTrainer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retrieval.console import Progress, silent
from retrieval.embedders import Compute
from retrieval.errors import ShoptalkError
from trainer.material import Material
from trainer.mining import Pair
from trainer.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["TrainingLog", "average_weights", "copy_weights", "is_static", "load_weights", "train"]

# Cosines times 20: the temperature of 0.05 that sentence embeddings are usually tuned at.
SCALE = 20.0
PART = 16

Weights = dict[str, "torch.Tensor"]
DevScore = Callable[[], float]


@dataclass
class TrainingLog:
    """What a run did: its loss by step, its dev NDCG@10 by step, and the set-up that was chosen."""

    steps: int = 0
    seconds: float = 0.0
    pairs: int = 0
    learning_rate: float = 0.0
    precision: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    dev: list[tuple[int, float]] = field(default_factory=list)
    kept_step: int = 0


def train(
    model: SentenceTransformer,
    pairs: Sequence[Pair],
    recipe: Recipe,
    material: Material,
    compute: Compute,
    *,
    seed: int,
    dev_score: DevScore | None = None,
    progress: Progress = silent,
) -> TrainingLog:
    """Tune ``model`` in place and return the log.

    Raises:
        ShoptalkError: the loss was not finite; the model is left as it was before.
    """
    import time

    from sentence_transformers import SentenceTransformerTrainer
    from transformers import set_seed

    before = copy_weights(model)
    log = TrainingLog(pairs=len(pairs), learning_rate=_learning_rate(model, recipe))
    log.precision = "bfloat16 autocast" if compute.bfloat16 and not is_static(model) else "float32"
    log.steps = math.ceil(len(pairs) / recipe.batch_size) * recipe.epochs
    set_seed(seed)
    # The card is ours. Theirs, unless it has examples, draws a progress bar while it looks for some.
    model.model_card_data.widget = [{}]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shoptalk-train-") as folder, _token_limit(model, recipe.max_tokens):
        watcher = _watcher(log, recipe, model, dev_score, progress)
        trainer = SentenceTransformerTrainer(
            model=model,
            args=_arguments(folder, recipe, log, compute, model, seed),
            train_dataset=_dataset(pairs),
            loss=_loss(model, pairs, recipe, material),
            callbacks=[watcher],
        )
        _silence(trainer)
        trainer.train()
    model.eval()
    log.seconds = time.monotonic() - started
    if not math.isfinite(watcher.last_loss):
        load_weights(model, before)
        raise ShoptalkError(
            f"training went astray: the loss was {watcher.last_loss} by step {watcher.last_step}; "
            f"a lower learning rate than {log.learning_rate:g} may mend it; the base model is unchanged"
        )
    watcher.restore_best()
    return log


def is_static(model: SentenceTransformer) -> bool:
    """Whether the model is a table of token embeddings, with nothing on top that attends."""
    return any(type(module).__name__ == "StaticEmbedding" for module in model)


def copy_weights(model: SentenceTransformer) -> Weights:
    """A copy of the model's weights, apart from it."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load_weights(model: SentenceTransformer, weights: Weights) -> None:
    """Put ``weights`` into the model."""
    model.load_state_dict(weights)


def average_weights(base: Weights, tuned: Weights, share: float) -> Weights:
    """``share`` of the tuned weights and the rest of the base's (Wortsman et al., WiSE-FT, CVPR 2022)."""
    return {
        name: tensor + share * (tuned[name] - tensor) if tensor.is_floating_point() else tuned[name]
        for name, tensor in base.items()
    }


def _learning_rate(model: SentenceTransformer, recipe: Recipe) -> float:
    return recipe.static_learning_rate if is_static(model) else recipe.learning_rate


def _dataset(pairs: Sequence[Pair]) -> Any:
    from datasets import Dataset

    columns: dict[str, list[Any]] = {
        "anchor": [pair.anchor for pair in pairs],
        "positive": [pair.positive for pair in pairs],
    }
    for number in range(min((len(pair.negatives) for pair in pairs), default=0)):
        columns[f"negative_{number + 1}"] = [pair.negatives[number] for pair in pairs]
    # The loss is handed each row's place here, and with it what else may answer that row's anchor.
    columns["label"] = list(range(len(pairs)))
    return Dataset.from_dict(columns)


def _arguments(
    folder: str, recipe: Recipe, log: TrainingLog, compute: Compute, model: SentenceTransformer, seed: int
) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    query, document = model.prompts.get("query", ""), model.prompts.get("document") or model.prompts.get("passage", "")
    return SentenceTransformerTrainingArguments(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=log.learning_rate,
        warmup_steps=recipe.warmup,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        prompts={"anchor": query, "positive": document, "negative_1": document} if query or document else None,
        use_cpu=compute.device == "cpu",
        bf16=log.precision.startswith("bfloat16"),
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=compute.device.startswith("cuda"),
    )


def _loss(model: SentenceTransformer, pairs: Sequence[Pair], recipe: Recipe, material: Material) -> Any:
    """MultipleNegativesRankingLoss, its false negatives masked where the recipe says so."""
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    if not recipe.false_negative_mask:
        return MultipleNegativesRankingLoss(model, scale=SCALE)
    columns = 1 + min((len(pair.negatives) for pair in pairs), default=0)
    candidates = [(pair.section, *pair.negative_sections[: columns - 1]) for pair in pairs]

    class MaskedRankingLoss(torch.nn.Module):
        """In-batch negatives and hard ones, less those that may be answers themselves.

        A candidate of another row counts as no negative where its section is the positive's own, an
        ancestor, a descendant or a copy of it: the document says so, no model has to guess.
        """

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
            embeddings = [
                torch.nn.functional.normalize(column, dim=1) for column in _embed(self.model, list(sentence_features))
            ]
            scores = SCALE * embeddings[0].float() @ torch.cat(embeddings[1:]).float().T
            rows = labels.tolist()
            sections = [candidates[row][column] for column in range(columns) for row in rows]
            masked = torch.tensor(
                [
                    [
                        place != own and material.related(pairs[row].section, section)
                        for place, section in enumerate(sections)
                    ]
                    for own, row in enumerate(rows)
                ],
                device=scores.device,
            )
            scores = scores.masked_fill(masked, -math.inf)
            return torch.nn.functional.cross_entropy(scores, torch.arange(len(rows), device=scores.device))

    return MaskedRankingLoss()


def _embed(model: SentenceTransformer, columns: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    """The embeddings of each column of a batch, computed in small parts of alike lengths.

    A batch is padded to its longest text; anchors of ten tokens and the few long positives beside them
    then cost the same, in time and in memory. Sorted and cut up, only what is there is paid for.
    """
    import torch

    if getattr(model.tokenizer, "padding_side", "") != "right" or any("attention_mask" not in it for it in columns):
        return [model(features)["sentence_embedding"] for features in columns]
    lengths = torch.cat([features["attention_mask"].sum(dim=1) for features in columns]).tolist()
    places = [(column, row) for column, features in enumerate(columns) for row in range(len(features["input_ids"]))]
    order = sorted(range(len(places)), key=lambda place: -lengths[place])
    parts = []
    for start in range(0, len(order), PART):
        some = order[start : start + PART]
        longest = lengths[some[0]]
        rows = {
            # Texts are padded on the right: what is cut off is padding.
            name: torch.nn.utils.rnn.pad_sequence(
                [columns[column][name][row, :longest] for column, row in (places[place] for place in some)],
                batch_first=True,
            )
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in columns[0]
        }
        parts.append(model(rows)["sentence_embedding"])
    embeddings = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return list(
        torch.split(embeddings[back.to(embeddings.device)], [len(features["input_ids"]) for features in columns])
    )


def _watcher(
    log: TrainingLog, recipe: Recipe, model: SentenceTransformer, dev_score: DevScore | None, progress: Progress
) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        """Reports progress, keeps the losses, stops on a loss that is not finite, keeps the best state."""

        last_loss = 0.0
        last_step = 0

        def __init__(self) -> None:
            self.best: Weights | None = None
            self.best_score = -math.inf

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.last_loss, self.last_step = float(logs["loss"]), state.global_step
                log.losses.append((state.global_step, self.last_loss))
                # NaN weights make a loss of 0 or NaN, depending on the trainer's own filter.
                if not math.isfinite(self.last_loss) or not math.isfinite(float(logs.get("grad_norm", 0.0))):
                    self.last_loss = math.nan
                    control.should_training_stop = True

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            log.steps = state.max_steps
            progress("training", state.global_step, state.max_steps)
            every = recipe.evaluate_every
            if every and dev_score and (state.global_step % every == 0 or state.global_step == state.max_steps):
                model.eval()
                score = dev_score()
                model.train()
                log.dev.append((state.global_step, score))
                if score > self.best_score:
                    self.best_score, self.best, log.kept_step = score, copy_weights(model), state.global_step

        def restore_best(self) -> None:
            if self.best is None:
                log.kept_step = log.steps
            else:
                load_weights(model, self.best)

    return Watcher()


def _silence(trainer: Any) -> None:
    """Take out the callbacks that print each log line on stdout."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)


@contextmanager
def _token_limit(model: SentenceTransformer, limit: int | None) -> Iterator[None]:
    original = model.max_seq_length
    bounded = limit is not None and original is not None and math.isfinite(original) and limit < original
    if bounded:
        model.max_seq_length = limit
    try:
        yield
    finally:
        if bounded:
            model.max_seq_length = original
