"""What a training run is: a named, complete set-up."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.errors import SettingsError

__all__ = ["RECIPES", "Recipe", "find_recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run is made of, but the documents, the base model and the seed."""

    name: str
    description: str
    rules: tuple[str, ...]
    """Mining rules, by name; "seed_chunks" stands for the tutorial's own cutting."""
    filler_rules: tuple[str, ...] = ()
    """Rules that only fill up what ``rules`` leave of ``max_pairs``."""
    max_pairs: int = 20_000
    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 2e-5
    static_learning_rate: float = 5e-2
    """For a model of static token embeddings, whose rows are touched too seldom for small steps."""
    warmup: float = 0.1
    hard_negatives: int = 0
    false_negative_mask: bool = False
    max_tokens: int | None = None
    """Longer texts are cut for training only; None leaves the model's own limit."""
    evaluate_every: int | None = None
    """Steps between looks at the dev questions; the best state is kept. None looks only at the end."""
    averages: tuple[float, ...] = (1.0,)
    """Shares of the tuned weights in a mix with the base's, one of which is chosen on dev questions."""


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="seed",
            description="the tutorial's: adjacent 256-word chunks and # headers, in-batch negatives, 3 epochs",
            rules=("seed_chunks",),
            epochs=3,
            evaluate_every=200,
        ),
        Recipe(
            name="structure",
            description="pairs from the documents' own structure, hard negatives, false negatives masked",
            rules=("question", "alias", "cross_reference", "heading"),
            filler_rules=("cloze",),
            max_pairs=2_500,
            batch_size=32,
            learning_rate=1e-4,
            hard_negatives=1,
            false_negative_mask=True,
            max_tokens=64,
            averages=(1.0, 0.5),
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
