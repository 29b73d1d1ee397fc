from __future__ import annotations

from unicodedata import normalize

import pytest

from retrieval.passages import Passage
from retrieval.words import SENTENCE_END, count_words, fold, words_of
from trainer.pairs import masked_text


@pytest.mark.parametrize(
    ("text", "said", "left"),
    [
        ("İzmir körfezi: derin bir koy", "körfezi", "İzmir : derin bir koy"),
        ("糖尿病又称消渴症是一种代谢病", "消渴症", "糖尿病又称 是一种代谢病"),
        ("मैं दिल्ली गया", "दिल", "मैं दिल्ली गया"),
        ("the vibriones of cholera, cholerae", "cholera", "the vibriones of cholerae"),
    ],
)
def test_what_is_asked_is_left_out_in_any_script(text: str, said: str, left: str) -> None:
    assert masked_text(Passage("p", "a.md", "", (), text, 1, 1), [said]) == left


def test_places_in_a_text_in_small_letters_are_those_in_the_text() -> None:
    text = "Diyarbakır, İSTANBUL, STRASSE, ΑΣ"
    assert len(fold(text)) == len(text) and fold(text).startswith("diyarbakır, istanbul, strasse")


def test_texts_without_blanks_have_as_many_words_as_characters() -> None:
    assert words_of("糖尿病 and Straße") == ["糖", "尿", "病", "and", "strasse"]
    assert count_words("糖尿病, a well-known one") == 7


@pytest.mark.parametrize("text", ["दिल्ली में पानी का समय", "தமிழ் மொழி", "cafe\u0301 noir"])
def test_the_marks_of_a_script_are_part_of_its_words(text: str) -> None:
    assert words_of(text) == normalize("NFC", text).split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It stops. Then it starts! (Nobody knows.)", ["It stops.", "Then it starts!", "(Nobody knows.)"]),
        ("approx. five, i.e. few", ["approx. five, i.e. few"]),
        ("Насос стоит. Клапан закрыт.", ["Насос стоит.", "Клапан закрыт."]),
        ("Été sec. À suivre.", ["Été sec.", "À suivre."]),
        ("水泵停止。阀门关闭。", ["水泵停止。", "阀门关闭。"]),
        ("「止まる。」閉じる。", ["「止まる。」", "閉じる。"]),
        ("पंप रुकता है। वाल्व बंद है।", ["पंप रुकता है।", "वाल्व बंद है।"]),
        ("هل توقفت؟ نعم.", ["هل توقفت؟", "نعم."]),
        ("¿Para? ¡Sí! *Bold* is.", ["¿Para?", "¡Sí!", "*Bold* is."]),
        ("Nach § 440 Abs. 1 Satz 2 und Art. IV. Es gilt.", ["Nach § 440 Abs. 1 Satz 2 und Art. IV.", "Es gilt."]),
        ("Hr. Meier, z. B. Wasser bzw. Öl, d. h. Nr. 5.", ["Hr. Meier, z. B. Wasser bzw. Öl, d. h. Nr. 5."]),
        ("La Sra. Paz, pág. 3, p. ex. Pau. Sí.", ["La Sra. Paz, pág. 3, p. ex. Pau.", "Sí."]),
        ("A work of art. They said no. Then Dr. Who came.", ["A work of art.", "They said no.", "Then Dr. Who came."]),
        ("Take 5. Then 20 mg. Stop.", ["Take 5.", "Then 20 mg.", "Stop."]),
    ],
)
def test_sentences_end_in_any_script(text: str, sentences: list[str]) -> None:
    assert SENTENCE_END.split(text) == sentences
