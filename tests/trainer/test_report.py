from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import asdict
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import visit
from test_diagnosis import change, outcome

from trainer.evaluation import METRICS
from trainer.model_card import base_licence, data_hash, model_card
from trainer.outcome import Asked, Example, Found, Row
from trainer.report import judged_lines, report_page, result_lines, result_table
from trainer.report_plots import Interval, before_after, curve, differences, intervals

HOSTILE = '"><script>alert(1)</script><img src=http://example.invalid/x onerror=alert(2)>\u202e\x00'
MEANS = dict.fromkeys(METRICS, 0.5)


def evaluation(text: str = "what is red?") -> dict[str, Any]:
    """A record with every part a page can show, the corpus's texts all ``text``."""
    found = Found(text, text, True)
    judged = outcome(change(0.1), change(0.05))
    record = judged.record() | {
        "rows": [
            asdict(Row("base", "dense", None, MEANS, None)),
            asdict(Row("tuned", "hybrid", 0.3, MEANS, change(0.1))),
        ],
        "changes": {mode: {name: asdict(change(0.1)) for name in MEANS} for mode in ("dense", "hybrid")},
        "likeness": {"unlike any": asdict(change(0.02))},
        "examples": [
            asdict(Example(text, (text,), text, (found,), (), before, after))
            for before, after in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.2))
        ],
        "questions": [
            asdict(Asked(text, "0" * 16, text, before, after, before, after, None, 3, 0.6, 0))
            for before, after in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.2))
        ],
        "diagnosis": [{"cause": text, "sign": text, "advice": text}],
        "pair_signs": {"pairs": 100, "agreement": 0.97, "low_silver": 0.2},
        "forgetting": {"source": text, "texts": 500, "change": asdict(change(-0.01))},
    }
    return record


def training(text: str = "owner/base") -> dict[str, Any]:
    trial = {"name": text, "settings": text, "pairs": 400, "seconds": 3.2, "dev": 0.41, "change": 0.02, "kept": True}
    return {
        "recipe": {"name": text, "description": text, "epochs": 1, "batch_size": 32},
        "corpus": text,
        "seed": 13,
        "base": text,
        "base_dev": 0.4,
        "base_licence": "apache-2.0",
        "prompts": {"query": "query: ", "document": ""},
        "split": text,
        "leaks": 4,
        "data": {"documents": 3, "passages": 9, "sha256": "ab" * 32},
        "choices": [text],
        "pairs": [{"rule": text, "mined": 9, "distinct": 8, "kept": 7}],
        "trials": [trial],
        "log": {
            "steps": 40,
            "seconds": 3.0,
            "pairs": 7,
            "learning_rate": 0.05,
            "precision": "float32",
            "kept_step": 20,
            "losses": [[step, 1.5 - step / 50] for step in range(1, 41)],
            "dev": [[20, 0.45], [40, 0.44]],
        },
    }


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data


SECTIONS = [
    "diagnosis",
    "scores",
    "intervals",
    "questions",
    "learning",
    "pairs",
    "trials",
    "wins",
    "losses",
    "served-losses",
    "choices",
]


def test_the_page_has_every_part_and_five_plots() -> None:
    page = Page(report_page(training(), evaluation()))
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"] == SECTIONS
    assert sum(attributes.get("role") == "img" for _, attributes in page.tags) == 4
    assert page.text.count("+0.100 [") == 14 + 1 + 2 and ("table", {"class": "forest"}) in page.tags
    assert "In dense search 1 of 200 test questions gained, 1 lost, 1 stayed the same." in page.text
    assert "0.400 → 0.500" in page.text and "+25 %" in page.text


@pytest.mark.parametrize(
    ("verdict", "dense", "served", "unmasked", "said"),
    [
        ("WIN", 0.1, 0.1, None, "better beyond doubt by meaning alone (dense search), and better beyond doubt in"),
        ("WIN", 0.1, 0.001, None, "better beyond doubt by meaning alone (dense search), but not shown to differ in"),
        ("TIE", 0.1, -0.1, None, "better beyond doubt by meaning alone (dense search), but worse beyond doubt in"),
        ("TIE", 0.1, 0.1, -0.1, "served (hybrid), but worse beyond doubt there with nothing masked in the passages."),
        ("TIE", 0.001, 0.001, None, "not shown to differ by meaning alone (dense search), and not shown to differ in"),
        ("REGRESSION", -0.1, 0.1, None, "worse beyond doubt by meaning alone (dense search), but better beyond doubt"),
    ],
)
def test_the_report_says_what_is_shown_of_dense_search_and_of_what_is_served(
    verdict: str, dense: float, served: float, unmasked: float | None, said: str
) -> None:
    judged = outcome(change(dense), change(served), unmasked=None if unmasked is None else change(unmasked)).record()
    assert judged["verdict"] == verdict
    text = Page(report_page(training(), evaluation() | judged | {"examples": []})).text
    assert said in text


@pytest.mark.parametrize(
    ("dense", "command"), [(0.1, "models rollback"), (0.001, "models promote VERSION --force"), (-0.1, "models prune")]
)
def test_the_report_explains_its_words_and_what_to_do_now(dense: float, command: str) -> None:
    judged = outcome(change(dense)).record() | {"examples": []}
    text = " ".join(Page(report_page(training(), evaluation() | judged)).text.split())
    assert "What now?" in text and f"shoptalk {command}" in text and "`" not in text
    explained = text[text.index("How to read this") : text.index("What it looks like", text.index("How to read this"))]
    for word in ("NDCG@10", "MRR@10", "R@k", "Dense", "BM25", "hybrid", "95 % interval", "p is", "dev", "anchor"):
        assert word in explained


def test_whatever_the_corpus_holds_is_shown_as_text() -> None:
    text = report_page(training(HOSTILE), evaluation(HOSTILE))
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag == "img" or any(name.startswith("on") for name in attributes) for tag, attributes in page.tags)
    assert "\u202e" not in text and "\x00" not in text
    # Everything the corpus can reach shows it: question, answer, hits, cause, rule, trial, recipe.
    assert page.text.count("<script>alert(1)</script>") > 15


def test_the_page_refers_to_nothing_outside_itself() -> None:
    page = Page(report_page(training(), evaluation()))
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert links == ["data:,"]


def test_mined_questions_are_called_so_and_real_ones_too() -> None:
    from trainer.questions import MINED_EVIDENCE

    real, mined = evaluation(), evaluation() | {"evidence": MINED_EVIDENCE}
    assert "Real questions." in Page(report_page(training(), real)).text
    text = Page(report_page(training(), mined)).text
    assert "Mined questions." in text and "they flatter" in " ".join(text.split())


def test_what_could_be_found_is_left_out_where_nothing_tells_it() -> None:
    record = evaluation()
    # As of questions that all have one answer, of scores that are all the same, and of old records.
    one = record | {"dense": record["dense"] | {"detectable": 0.0}}
    assert "four times" in report_page(training(), record) and "four times" not in report_page(training(), one)


def test_fewer_answers_than_questions_are_told_by_report_card_and_terminal() -> None:
    record, few = evaluation(), evaluation()
    few["dense"] |= {"answers": few["test_questions"] - 1}
    for shown in (lambda it: Page(report_page(training(), it)).text, lambda it: model_card(training(), it), judged):
        assert "different answers" in shown(few) and "different answers" not in shown(record)


def judged(record: dict[str, Any]) -> str:
    return "\n".join(judged_lines(record))


@pytest.mark.parametrize("verdict", ["TIE", "REGRESSION"])
def test_a_refused_model_is_told_plainly_and_what_is_not_recorded_is_left_out(verdict: str) -> None:
    bare = outcome(change(0.0)).record() | {"verdict": verdict}
    record = {
        name: bare[name] for name in ("verdict", "evidence", "dev_questions", "test_questions", "rows", "examples")
    }
    record |= {name: asdict(change(0.0)) for name in ("dense", "product", "dev")}
    made = training()
    for name in ("trials", "data", "split", "leaks", "base_dev"):
        del made[name]
    made["log"] = made["log"] | {"losses": [], "dev": []}
    text = Page(report_page(made, record)).text
    assert "It is kept, and not put to use by itself." in text
    assert "Nothing was logged." in text and "None gained." in text and "from a teacher" not in text


def test_the_loss_of_lessons_has_a_plot_of_its_own() -> None:
    made = training()
    made["log"] = made["log"] | {"lesson_losses": [[step, 3 / step] for step in range(1, 20)]}
    page = report_page(made, evaluation())
    assert "Loss of lessons by step" in page and "learn rankings from a teacher" in Page(page).text


def test_the_page_opens_in_a_browser_without_errors_or_requests_and_every_plot_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_page(training(HOSTILE), evaluation(HOSTILE)), encoding="utf-8")
    seen = visit(file, tmp_path)
    assert seen.console == []
    assert [address for address in seen.requests if not address.startswith("data:")] == []
    plots = re.findall(r"<svg .*?</svg>", seen.document, re.DOTALL)
    for plot in plots:
        assert re.search(r"<(polyline|circle|path|line|text) ", plot), plot[:200]
        assert "NaN" not in plot and "undefined" not in plot


def at_width(page: str, width: int, script: str, folder: Path) -> Any:
    """What ``script`` returns, which is given the document of ``page`` in a frame of a width of its own."""
    file = folder / "frame.html"
    inner = json.dumps(page).replace("</", "<\\/")
    file.write_text(
        f"""<iframe style="width: {width}px; height: 900px; border: 0"></iframe><pre></pre><script>
        const frame = document.querySelector("iframe");
        frame.onload = () => {{
          const look = page => {{ {script} }};
          document.querySelector("pre").textContent = JSON.stringify(look(frame.contentDocument));
        }};
        frame.srcdoc = {inner};
        </script>""",
        encoding="utf-8",
    )
    found = re.search(r"<pre>(.*?)</pre>", visit(file, folder).document, re.DOTALL)
    assert found and found[1], "the script threw"
    return json.loads(unescape(found[1]))


def test_on_a_phone_nothing_is_wider_than_the_page_and_the_words_in_plots_are_readable(tmp_path: Path) -> None:
    name = "anamewithoutablank" * 9
    too_wide, smallest = at_width(
        report_page(training(name), evaluation(name)),
        390,
        """
        const scale = ({a, b}) => Math.hypot(a, b);
        const sizes = [...page.querySelectorAll("svg text")].map(
          text => parseFloat(getComputedStyle(text).fontSize) * scale(text.getScreenCTM()));
        const all = page.documentElement;
        return [all.scrollWidth - all.clientWidth, Math.min(...sizes)];
        """,
        tmp_path,
    )
    assert too_wide == 0 and smallest > 9


def test_the_table_of_all_questions_is_sorted_by_its_headings_buttons_and_beyond_the_ranking_is_last(
    tmp_path: Path,
) -> None:
    record = evaluation()
    asked = ("lost", 0.2, 0.9, 0.1, None, 3), ("same", 0.5, 0.5, 0.5, 7, None), ("gained", 0.1, 0.2, 0.9, 12, 1)
    record["questions"] = [
        asdict(Asked(name, "0" * 16, name, 0.2, dense, before, after, rank_before, rank_after, 0.0, 0))
        for name, dense, before, after, rank_before, rank_after in asked
    ]
    found = at_width(
        report_page(training(), record),
        1400,
        """
        const heads = [...page.querySelectorAll("#all th")], rows = () => [...page.querySelectorAll("#all tbody tr")];
        const names = () => rows().map(row => row.cells[0].textContent);
        const sorted = [names(), heads.map(head => head.ariaSort)];
        for (const name of ["dense change", "answer's rank before", "answer's rank before"]) {
          const button = [...page.querySelectorAll("#all button")].find(one => one.textContent === name);
          button.click();
          sorted.push([...names(), button.parentElement.ariaSort]);
        }
        return sorted;
        """,
        tmp_path,
    )
    assert found[0] == ["lost", "same", "gained"]
    assert found[1][6] == "ascending" and set(found[1]) == {None, "ascending"}
    assert found[2:] == [
        ["gained", "lost", "same", "ascending"],
        ["same", "gained", "lost", "ascending"],
        ["lost", "gained", "same", "descending"],
    ]


def test_what_lost_as_served_is_shown_beside_what_lost_in_dense_search_with_ranks_before_and_after() -> None:
    record = evaluation()
    lost, won = dict(record["questions"][2]), dict(record["questions"][0])
    lost |= {"text": "gastric bleeding", "dense_before": 0.4, "dense_after": 0.4}
    record["questions"] = [won | {"text": "what is red?"}, lost]
    text = " ".join(Page(report_page(training(), record)).text.split())
    assert "first answer at rank beyond 100 → 3 · as served 0.10 → 0.90" in text
    served = text[text.index("Questions that lost most as served") : text.rindex("How it was made")]
    assert "gastric bleeding0.900 0.200-0.700+0.000" in served and "what is red?" not in served


def test_every_table_has_a_caption_and_its_headings_a_scope_and_no_level_of_headings_is_skipped() -> None:
    tags = Page(report_page(training(), evaluation())).tags
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags) == 6
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_what_auto_tried_is_told_by_round_with_the_one_that_was_chosen() -> None:
    made = training()
    first = made["trials"][0] | {"name": "structure", "round": 1, "chosen": False}
    made["trials"] = [first, first | {"name": "other", "round": 2, "chosen": True}]
    page = report_page(made, evaluation())
    tried = page[page.index('<section id="trials">') :]
    assert re.search(r'<tr><td>1</td><td class="name">structure</td>.*?<td>yes</td></tr>', tried, re.DOTALL)
    chosen = r'<tr class="tuned"><td>2</td><td class="name">other</td>.*?<td>chosen</td></tr>'
    assert re.search(chosen, tried, re.DOTALL)


def test_a_page_that_asks_the_network_and_throws_is_caught_by_the_same_look(tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text('<img src="http://example.invalid/x.png"><script>console.error("no"); undefined.x</script>')
    seen = visit(file, tmp_path)
    assert "http://example.invalid/x.png" in seen.requests
    assert len(seen.console) >= 2


def test_a_point_stands_where_its_value_says_and_intervals_show_their_verdict() -> None:
    plot = str(intervals([Interval("g", "<label>", change(0.1)), Interval("g", "other", change(-0.1))], "t"))
    assert "&lt;label&gt;" in plot and plot.count('scope="colgroup"') == 1
    better, worse = (float(x) for x in re.findall(r'class="point" cx="([\d.]+)%"', plot))
    zero = float(re.search(r'class="zero" x1="([\d.]+)%"', plot)[1])  # type: ignore[index]
    assert worse < zero < better
    assert '<svg class="WIN"' in plot and '<svg class="REGRESSION"' in plot


def test_plots_of_one_point_of_none_and_of_equal_values_are_drawn_all_the_same() -> None:
    from trainer.report_plots import Line

    for plot in (
        curve([Line([(56.0, 0.5)], "smooth", dots=True)], "one"),
        curve([Line([(1.0, 0.5), (2.0, 0.5)], "smooth")], "flat", level=0.5),
        intervals([Interval("g", "none", change(0.0, 0.0))], "flat"),
        intervals([], "none"),
        before_after([], "none"),
        before_after([(0.0, 0.0)] * 3, "corner"),
        differences([], "none"),
        differences([0.0, 0.0], "flat"),
    ):
        assert plot.startswith(("<svg", "<table")) and "nan" not in plot.lower()
    assert "Nothing was logged" in curve([], "none")


def test_questions_that_fared_alike_are_one_circle_whose_area_is_their_number() -> None:
    plot = str(before_after([(0.0, 1.0)] * 90 + [(1.0, 0.0)] * 10, "t"))
    assert re.findall(r'class="bubble (\w+)"', plot) == ["gain", "loss"]
    assert "<title>90 questions, about 0.00 → 1.00</title>" in plot
    many, few = (float(radius) for radius in re.findall(r' r="([\d.]+)"', plot))
    assert (many / few) ** 2 == pytest.approx(9, rel=0.01)


def test_a_gain_too_small_to_show_is_green_all_the_same() -> None:
    plot = str(before_after([(0.5, 0.51), (0.5, 0.5), (0.5, 0.49)], "t"))
    assert sorted(re.findall(r'class="bubble (\w+)"', plot)) == ["gain", "loss", "same"]


def test_a_moving_mean_is_drawn_and_named_only_where_there_are_steps_enough_for_one() -> None:
    long, short = training(), training()
    short["log"]["losses"] = short["log"]["losses"][:39]
    for made, smoothed in ((long, True), (short, False)):
        page = report_page(made, evaluation())
        assert ("its moving mean" in page) == smoothed and ('<polyline class="raw"' in page) == smoothed


def test_what_is_served_with_nothing_masked_has_a_headline_and_an_interval() -> None:
    record = evaluation() | {"unmasked": asdict(change(-0.03))}
    text = Page(report_page(training(), record)).text
    assert "As served, with nothing masked" in text and "0.400 → 0.370" in text
    assert "As served (hybrid), nothing masked in the passages" in text


def test_a_table_of_an_older_record_leaves_blank_what_was_not_measured_then() -> None:
    row = {"system": "base", "mode": "dense", "lexical_weight": None, "means": {"ndcg@10": 0.5}, "change": None}
    assert result_table([row])[0][:5] == ("base", "dense", "", "0.500", "")
    assert result_lines([row])[1].split() == ["base", "dense", "0.500"]


def test_a_table_names_what_its_changes_are_against_and_its_p_is_written_as_in_the_reasons() -> None:
    rows = [asdict(Row("tuned", "hybrid", 0.3, MEANS, change(0.1)))]
    assert "against base dense [95 %]" in result_lines(rows)[0] and result_lines(rows)[1].endswith("  < .001")
    assert "against the first row [95 %]" in result_lines(rows, "the first row")[0]
    card = model_card(training(), evaluation())
    assert card.index("| tuned | hybrid |") < card.index("against the base model's dense search")


def test_the_card_has_the_same_table_the_split_the_data_the_licence_and_the_prompts() -> None:
    card = model_card(training('owner/"base'), evaluation())
    head, body = card.split("---\n", 2)[1:]
    assert 'base_model: "owner/\\"base"' in head and 'license: "apache-2.0"' in head
    assert "| tuned | hybrid | 0.3 | 0.500 |" in body
    assert "3 documents, 9 passages; sha256 over their hashes `abab" in body
    assert "Prompt of a query: `query:`" in body and "Prompt of a document: none" in body
    assert "- Split: owner/" in body


def test_a_hostile_name_cannot_break_out_of_the_cards_head() -> None:
    card = model_card(training("a\n---\nlicense: none"), evaluation())
    assert card.split("\n---\n")[0].count("\n") == 5


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# A model\n", "mit"),
        ("---\nlicense: other\nlicense_name: my-licence\n---\n", "my-licence"),
        ("# No front matter\n", ""),
    ],
)
def test_the_licence_is_the_one_the_bases_card_names(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert base_licence(tmp_path) == licence
    assert base_licence(tmp_path / "nowhere") == "" and base_licence(None) == ""


def test_the_data_hash_tells_other_documents_and_not_another_order() -> None:
    from retrieval.documents import Document

    documents = [Document(f"{n}.md", f"{n}.md", "t", f"text {n}", "markdown") for n in range(3)]
    assert data_hash(documents) == data_hash(documents[::-1])
    assert data_hash(documents) != data_hash(documents[:2])


def test_making_a_page_leaves_the_records_alone() -> None:
    record, made = evaluation(), training()
    before = deepcopy((record, made))
    report_page(made, record)
    assert (record, made) == before
