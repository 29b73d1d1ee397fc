from __future__ import annotations

import pytest

from retrieval.decoding import NotTextError, decode

FRENCH = "Le café du théâtre, à côté de l’hôtel, est déjà fermé à Noël — dommage, ça m’aurait plu : 5 € l’entrée !"
POLISH = "Zażółć gęślą jaźń, a potem pójdź do sklepu po świeże bułki i chleb, bo będą goście już o piątej."
HUNGARIAN = (
    "Az ügyfélszolgálat hétfőtől péntekig nyolctól ötig érhető el, a hosszú sorok elkerülhetők időpontfoglalással."
)
TURKISH = "Müşteri hizmetleri hafta içi açıktır; ışık görünmüyorsa lütfen düğmeye basın ve şifrenizi yazın."
RUSSIAN = "Служба поддержки работает с понедельника по пятницу. Если заказ не пришёл вовремя, напишите нам письмо. " * 3
GREEK = "Το κατάστημα είναι ανοιχτό από τις εννέα το πρωί μέχρι τις πέντε το απόγευμα κάθε εργάσιμη ημέρα. " * 3
JAPANESE = "お問い合わせは平日の午前九時から午後五時まで受け付けております。返品は三十日以内にお願いします。" * 3
CHINESE = "客户服务的工作时间是星期一至星期五上午九点到下午五点。如果您的订单没有按时送达，请与我们联系。" * 3
KOREAN = "고객 서비스는 월요일부터 금요일까지 오전 아홉 시부터 오후 다섯 시까지 이용하실 수 있습니다. " * 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"),
        (FRENCH, "mac_roman"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (HUNGARIAN, "cp1250"),
        (TURKISH, "cp1254"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "cp866"),
        (GREEK, "cp1253"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "gb18030"),
        (CHINESE.replace("务", "務"), "gb18030"),
        (KOREAN, "cp949"),
        (f"{CHINESE}\n", "utf-16-le"),
        (FRENCH, "utf-16-be"),
        (FRENCH, "utf-16"),
        (FRENCH, "utf-32"),
        (FRENCH, "utf-8-sig"),
    ],
)
def test_text_reads_the_same_in_any_encoding(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"caf\xe9 au lait", "café au lait"),
        (b"a room of 5 m\xb2", "a room of 5 m²"),
        ("“Quotes” – it’s only these…".encode("cp1252"), "“Quotes” – it’s only these…"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
    ],
)
def test_little_is_enough_where_it_can_be_little_else(data: bytes, text: str) -> None:
    assert decode(data)[0] == text


def test_what_is_utf_8_is_utf_8_whatever_it_declares() -> None:
    page = '<meta charset="iso-8859-1"><p>Käse'
    assert decode(page.encode(), markup=True) == (page, "utf-8")


@pytest.mark.parametrize(
    "declaration",
    [
        '<meta charset="windows-1251">',
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">',
        '<?xml version="1.0" encoding="windows-1251"?>',
    ],
)
def test_markup_may_declare_its_encoding(declaration: str) -> None:
    page = f"{declaration}<p>да"
    assert decode(page.encode("cp1251"), markup=True) == (page, "cp1251")
    with pytest.raises(NotTextError):
        decode(page.encode("cp1251"))


@pytest.mark.parametrize("label", ["no-such-encoding", "hex", "unicode_escape", "utf-8", "ascii"])
def test_a_declaration_that_does_not_fit_is_passed_over(label: str) -> None:
    page = f'<meta charset="{label}"><p>Ein Stück Käse, bitte'
    assert decode(page.encode("cp1252"), markup=True)[0] == page


def test_a_few_stray_bytes_do_not_make_a_page_illegible() -> None:
    text = "Ein Stück Käse – und 漢字. " * 60
    assert decode(text.encode() + b"J\xfcrgen") == (f"{text}Jürgen", "utf-8 with stray bytes")
    with pytest.raises(NotTextError):
        decode("漢字".encode() + b"\xfc\xff\xc3")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x7fELF\0\0\x01", "binary file"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x81", "not UTF-8 (byte 0), and no other encoding fits; save it as UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8 (byte 3), though so marked; save it as UTF-8"),
        (b"\xff\xfea\x00b", "not UTF-16 (byte 4), though so marked; save it as UTF-8"),
        (bytes(range(256)), "binary file"),
        (bytes(range(128, 256)) * 4, "not UTF-8 (byte 0), and no other encoding fits; save it as UTF-8"),
    ],
)
def test_what_is_no_text_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(NotTextError) as error:
        decode(data)
    assert str(error.value) == reason
