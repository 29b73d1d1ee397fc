"""What a training run is: a named, complete set-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from retrieval.errors import SettingsError
from retrieval.workspace import RecipeSettings

__all__ = ["ARMS", "AUTO", "RECIPES", "NegativeSource", "Recipe", "find_recipe", "own_recipes"]

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
    intact: float = 0.0
    """The share of pairs whose positive keeps what gives the anchor away."""
    static_intact: float = 0.0
    """For a model of static token embeddings, which has little else to go by than words that two texts share."""
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
    looks: int = 0
    """How often dev questions are looked at while training, and the best state kept; 0 looks when it is over."""
    gentler: float = 1.0
    """What the rate is multiplied by where the first look finds the base better; training begins again then."""
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
    """How many rankings of what hybrid search finds for made-up queries are learned beside the pairs."""
    teacher: str = ""
    """The cross-encoder that ranks them; "" leaves them as hybrid search ranks them."""
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

    def settings(self, static: bool, beside: Recipe | None = None) -> str:
        """What it is, in a line, or what it has other than ``beside``; the rate is a static model's, or another's."""
        parts = self._parts(static)
        if beside is None:
            return ", ".join([" ".join(self.rules), *parts.values()])
        theirs = beside._parts(static)
        changed = [f"+ {rule}" for rule in self.rules if rule not in beside.rules]
        changed += [f"- {rule}" for rule in beside.rules if rule not in self.rules]
        for kind in dict.fromkeys((*parts, *theirs)):
            if parts.get(kind) != theirs.get(kind):
                changed.append(parts.get(kind) or f"without {theirs[kind]}")
        return ", ".join([*changed, *self._by_name(beside)])

    def _by_name(self, beside: Recipe) -> list[str]:
        """What differs of that which is seldom set, by the settings' names."""
        told = []
        for name in _SELDOM:
            value = getattr(self, name)
            if value != getattr(beside, name):
                told.append(f"{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
        return told

    def _parts(self, static: bool) -> dict[str, str]:
        rate = self.static_learning_rate if static else self.learning_rate
        parts = {"rate": f"rate {rate:g}", "batches": f"{self.epochs} x {self.batch_size}"}
        if self.hard_negatives:
            whose = "" if self.negatives_from == "model" else f" by {self.negatives_from}"
            parts["hard"] = f"{self.hard_negatives} hard{whose}{', chosen again' if self.refresh_negatives else ''}"
        if share := self.static_intact if static else self.intact:
            parts["intact"] = f"{share:g} intact"
        if self.alike > 1:
            parts["alike"] = f"{self.alike} alike a batch"
        if self.loss != "ranking":
            parts["loss"] = f"{self.loss} loss"
        if self.lessons:
            parts["lessons"] = f"{self.lessons} lessons{self.teacher and f' by {self.teacher}'}"
        if self.lora_rank:
            parts["adapters"] = f"adapters of rank {self.lora_rank}"
        if self.matryoshka:
            parts["cut"] = f"also at {', '.join(map(str, self.matryoshka))} dimensions"
        return parts


_SELDOM = (
    "fill_up_to",
    "warmup",
    "false_negative_mask",
    "max_tokens",
    "gentler",
    "averages",
    "mini_batch",
    "teacher_temperature",
    "patience",
)
"""Of what ``Recipe._parts`` does not tell, that which makes another training."""

AUTO = "auto"

_SEED = Recipe(
    name="seed",
    description="the tutorial's: adjacent 256-word chunks and # headers, in-batch negatives, 3 epochs",
    rules=("seed_adjacent", "seed_header"),
    epochs=3,
    looks=4,
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
        "listed",
        "code_symbol",
        "table_row",
        "heading",
        "detail",
        "synthetic",
    ),
    filler_rules=("cloze",),
    max_pairs=10_000,
    static_intact=0.5,
    batch_size=32,
    alike=16,
    learning_rate=1e-4,
    hard_negatives=1,
    false_negative_mask=True,
    max_tokens=64,
    looks=4,
    gentler=0.2,
    averages=(1.0, 0.7, 0.5, 0.3),
)

ARMS: tuple[Recipe, ...] = (
    _STRUCTURE,
    replace(
        _STRUCTURE,
        name="structure at a fifth of the rate",
        learning_rate=_STRUCTURE.learning_rate / 5,
        static_learning_rate=_STRUCTURE.static_learning_rate / 5,
    ),
    replace(_STRUCTURE, name="structure without hard negatives", hard_negatives=0),
    replace(_STRUCTURE, name="structure in batches of chance", alike=1),
    replace(_STRUCTURE, name="structure with negatives by words too", negatives_from="both"),
    replace(_STRUCTURE, name="structure with triplet loss", loss="triplet"),
    replace(_STRUCTURE, name="structure and titles", rules=(*_STRUCTURE.rules, "heading_path", "title")),
    replace(_STRUCTURE, name="prose", rules=("title", "cloze", "keyphrase"), filler_rules=()),
    replace(_STRUCTURE, name="structure and prose", rules=(*_STRUCTURE.rules, "cloze", "keyphrase"), filler_rules=()),
    replace(_STRUCTURE, name="taught by hybrid search", learning_rate=5e-5, lessons=1_000),
    replace(_SEED, name="the tutorial's", max_pairs=2_500, averages=(1.0, 0.5)),
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


def find_recipe(name: str, own: Mapping[str, RecipeSettings] = {}) -> Recipe:
    """Return the recipe called ``name``, one of ``auto``'s arms too; ``own`` are the workspace's, which it tries too.

    Raises:
        SettingsError: there is none, and the message lists those there are but for arms; or one of the workspace's own
            has the name of another.
    """
    mine = own_recipes(own)
    known = {**RECIPES, **{recipe.name: recipe for recipe in mine}}
    found = known.get(name) or next((arm for arm in ARMS if arm.name == name), None)
    if found is None:
        raise SettingsError(
            f"unknown recipe {name!r} (--recipe, or trainer.recipe in shoptalk.toml); known: {', '.join(known)}, and "
            f"what {AUTO} tries, by its name"
        )
    if name == AUTO:
        rules = dict.fromkeys([*found.rules, *(rule for recipe in mine for rule in recipe.every_rule)])
        found = replace(found, rules=tuple(rules))
    return found


def own_recipes(settings: Mapping[str, RecipeSettings]) -> tuple[Recipe, ...]:
    """The workspace's own recipes, in the order of its settings.

    Raises:
        SettingsError: one has the name of a recipe that there is already, a teacher and nothing for it to teach, or
            patience and no looks to count.
    """
    recipes = []
    for name, own in settings.items():
        if name in (*RECIPES, *(arm.name for arm in ARMS)):
            raise SettingsError(f"trainer.recipes.{name}: there is a recipe of that name; choose another")
        changes = own.model_dump(exclude_none=True, exclude={"based_on"})
        if own.rules is not None:
            changes["filler_rules"] = ()
        if own.learning_rate is not None:
            changes["static_learning_rate"] = own.learning_rate
        if own.intact is not None:
            changes["static_intact"] = own.intact
        based_on = RECIPES[own.based_on]
        recipe = replace(based_on, name=name, description=f"{own.based_on} with settings of yours", **changes)
        if recipe.teacher and not recipe.lessons:
            raise SettingsError(
                f"trainer.recipes.{name}: a teacher scores lessons, and there are none; set lessons too, say to 1000"
            )
        if recipe.patience and not recipe.looks:
            raise SettingsError(
                f"trainer.recipes.{name}: patience counts looks at dev, and there are none; set looks too, say to 8"
            )
        recipes.append(recipe)
    return tuple(recipes)
