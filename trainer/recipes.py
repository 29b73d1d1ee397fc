"""What a training run is: a named, complete set-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from retrieval.errors import SettingsError

__all__ = ["ARMS", "AUTO", "RECIPES", "NegativeSource", "Recipe", "find_recipe"]

NegativeSource = Literal["model", "lexical", "both"]
"""Whose best passages may be hard negatives: the base's, BM25's, or both in turns."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run is made of, but the documents, the base model and the seed."""

    name: str
    description: str
    rules: tuple[str, ...]
    """Mining rules, by name."""
    filler_rules: tuple[str, ...] = ()
    """Rules that only fill up what ``rules`` leave of ``fill_up_to``."""
    max_pairs: int = 20_000
    fill_up_to: int = 2_500
    """Pairs in all that filler rules may bring a dose to."""
    epochs: int = 1
    batch_size: int = 64
    alike: int = 1
    """Pairs whose anchors are alike share a batch, so many at a time; 1 leaves batches to chance."""
    learning_rate: float = 2e-5
    static_learning_rate: float = 5e-2
    """For a model of static token embeddings, whose rows are touched too seldom for small steps."""
    warmup: float = 0.1
    hard_negatives: int = 0
    negatives_from: NegativeSource = "model"
    refresh_negatives: bool = False
    """Have the model that the first half made choose the second half's; costs another encoding of the corpus."""
    false_negative_mask: bool = False
    max_tokens: int | None = None
    """Longer texts are cut for training only; None leaves the model's own limit."""
    evaluate_every: int | None = None
    """Steps between looks at the dev questions; the best state is kept. None looks only at the end."""
    averages: tuple[float, ...] = (1.0,)
    """Shares of the tuned weights in a mix with the base's, one of which is chosen on dev questions."""
    loss: Literal["ranking", "triplet"] = "ranking"
    """Each anchor's positive among all documents of the batch, or against its own hard negatives alone."""
    mini_batch: int | None = None
    """How many texts' activations are held at once, where ``batch_size`` is more than memory takes; None: all."""
    matryoshka: tuple[int, ...] = ()
    """Lengths that vectors may be cut to later; the loss is taken at each of them too."""
    lora_rank: int = 0
    """Train adapters of this rank and merge them at the end; 0 trains the weights themselves."""
    lessons: int = 0
    """How many rankings of hybrid search for made-up queries are learned beside the pairs."""
    teacher_temperature: float = 1.0
    """Divides a teacher's scores before they are made shares; lower follows its first places more closely."""
    patience: int | None = None
    """Looks at dev without a rise before training stops."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None: five minutes."""

    @property
    def every_rule(self) -> tuple[str, ...]:
        """All rules it takes pairs of."""
        return (*self.rules, *self.filler_rules)

    @property
    def settings(self) -> str:
        """What sets it apart, in a line."""
        parts = [" ".join(self.rules), f"rate {self.learning_rate:g}", f"{self.epochs} x {self.batch_size}"]
        if self.hard_negatives:
            whose = "" if self.negatives_from == "model" else f" by {self.negatives_from}"
            parts.append(f"{self.hard_negatives} hard{whose}{', chosen again' if self.refresh_negatives else ''}")
        if self.alike > 1:
            parts.append(f"{self.alike} alike a batch")
        if self.loss != "ranking":
            parts.append(f"{self.loss} loss")
        if self.lessons:
            parts.append(f"{self.lessons} lessons")
        return ", ".join(parts)


AUTO = "auto"

_SEED = Recipe(
    name="seed",
    description="the tutorial's: adjacent 256-word chunks and # headers, in-batch negatives, 3 epochs",
    rules=("seed_adjacent", "seed_header"),
    epochs=3,
    evaluate_every=200,
)
_STRUCTURE = Recipe(
    name="structure",
    description="pairs from the documents' own structure, hard negatives, false negatives masked",
    rules=(
        "question",
        "ticket",
        "alias",
        "cross_reference",
        "definition",
        "code_symbol",
        "table_row",
        "heading",
        "synthetic",
    ),
    filler_rules=("cloze",),
    max_pairs=5_000,
    batch_size=32,
    alike=16,
    learning_rate=1e-4,
    hard_negatives=1,
    false_negative_mask=True,
    max_tokens=64,
    averages=(1.0, 0.7, 0.5),
)

ARMS: tuple[Recipe, ...] = (
    _STRUCTURE,
    replace(_STRUCTURE, name="structure without hard negatives", hard_negatives=0),
    replace(_STRUCTURE, name="structure in batches of chance", alike=1),
    replace(_STRUCTURE, name="structure with negatives by words too", negatives_from="both"),
    replace(_STRUCTURE, name="structure with triplet loss", loss="triplet"),
    replace(_STRUCTURE, name="structure and titles", rules=(*_STRUCTURE.rules, "heading_path", "title")),
    replace(_STRUCTURE, name="prose", rules=("title", "cloze", "keyphrase"), filler_rules=()),
    replace(_STRUCTURE, name="structure and prose", rules=(*_STRUCTURE.rules, "cloze", "keyphrase"), filler_rules=()),
    replace(_STRUCTURE, name="taught by hybrid search", learning_rate=5e-5, lessons=1_000),
    replace(_SEED, name="the tutorial's", max_pairs=2_500, evaluate_every=None, averages=(1.0, 0.5)),
)
"""What ``auto`` tries first, the plainest first."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _SEED,
        _STRUCTURE,
        replace(
            _STRUCTURE,
            name=AUTO,
            description="what did best on samples, judged on dev questions",
            rules=tuple(dict.fromkeys(rule for arm in ARMS for rule in arm.every_rule)),
            filler_rules=(),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise SettingsError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
