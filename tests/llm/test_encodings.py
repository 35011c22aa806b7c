"""Files as programs of many countries write them: read as their owners see them, or refused; never learned as mojibake."""

import json
import sys

import pytest
from hotlora.engine.errors import UserError
from hotlora.llm.encodings import check_encoding, find_encoding
from hotlora.llm.errors import RowError
from hotlora.llm.formats import read_texts
from small_text import text_config

SPOKEN = {  # question, answer
    "cp1252 German": ("Wie groß ist die Wohnung für Gäste?", "Sie hat 80 m², natürlich möbliert – schön."),
    "cp1252 French": ("À quelle heure ouvrez-vous ?", "Nous ouvrons à neuf heures, même l’été. Ça dépend du café."),
    "cp1252 Spanish": ("¿Cuándo abren mañana?", "Abrimos a las nueve, señor. ¡Qué bien! Atención al niño."),
    "cp1252 Portuguese": ("Vocês abrem amanhã?", "Não, só à tarde. A informação está correta."),
    "cp1252 English": ("Is the café open on the 1st?", "It is open from nine – it’s £5 for the “à la carte” menu."),
    "cp1252 Danish": ("Hvornår åbner I på lørdag?", "Vi åbner klokken ni, og det koster ikke noget særligt."),
    "cp1250 Polish": ("Kiedy otwieracie w poniedziałek?", "Otwieramy o dziewiątej, proszę zadzwonić później. Łódź, gęś."),
    "cp1250 Czech": ("Kdy otevíráte v pondělí?", "Otevíráme v devět hodin. Příliš žluťoučký kůň úpěl."),
    "cp1250 Hungarian": ("Mikor nyitnak hétfőn?", "Kilenckor nyitunk. Árvíztűrő tükörfúrógép, őszi erdő."),
    "cp1251 Russian": ("Когда вы открыты?", "С девяти до шести, кроме воскресенья."),
    "cp1251 Ukrainian": ("Коли ви відкриті?", "З дев'ятої до шостої, крім неділі. Її їжа тут є."),
    "koi8_r Russian": ("Когда вы открыты?", "С девяти до шести, кроме воскресенья."),
    "cp866 Russian": ("Когда вы открыты?", "С девяти до шести, кроме воскресенья."),
    "cp1253 Greek": ("Πότε ανοίγετε αύριο;", "Στις εννέα το πρωί, εκτός Κυριακής."),
    "cp1254 Turkish": ("Yarın saat kaçta açılıyorsunuz?", "Sabah dokuzda açıyoruz, pazar günü kapalıyız. Işık, şeker, ağaç."),
    "cp1255 Hebrew": ("מתי אתם פתוחים?", "מתשע עד שש, חוץ מיום שבת."),
    "cp1256 Arabic": ("متى تفتحون غدا؟", "نفتح في الساعة التاسعة صباحا ما عدا يوم الجمعة."),
    "cp1257 Lithuanian": ("Kada atidarote rytoj?", "Atidarome devintą valandą, išskyrus sekmadienį. Ačiū, žmonės."),
    "cp874 Thai": ("พรุ่งนี้เปิดกี่โมง", "เปิดเก้าโมงเช้า ยกเว้นวันอาทิตย์"),
    "gbk Chinese": ("公司的营业时间是什么?", "周一至周五上午九点到下午六点。"),
    "gb18030 Chinese": ("发票怎么开？", "登录后在个人中心申请电子发票，𠀀字也可以。"),
    "big5 Chinese": ("公司的營業時間是什麼?", "週一至週五上午九點到下午六點。"),
    "euc_kr Korean": ("환불은 어떻게 신청하나요?", "주문 페이지에서 환불 버튼을 누르세요."),
    "cp949 Korean": ("영업 시간이 어떻게 되나요?", "월요일부터 금요일까지 오전 아홉 시부터 오후 여섯 시까지입니다."),
    "shift_jis Japanese": ("営業時間は何時ですか?", "月曜日から金曜日の午前九時から午後六時までです。"),
    "euc_jp Japanese": ("返金はどのように申請しますか?", "注文ページで返金ボタンを押してください。"),
}


def read(path, **values):
    return read_texts(path, text_config(**values))


def said(texts):
    return [tuple(message.content for message in example.messages) for example in texts.examples]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("kind", SPOKEN)
def test_what_people_see_in_their_program_is_what_is_learned(tmp_path, kind, count):
    codec, pair = kind.split()[0], SPOKEN[kind]
    table = tmp_path / "faq.csv"
    table.write_bytes("\r\n".join(["question;answer", *[f"{pair[0].replace(';', ',')};{pair[1]}"] * count]).encode(codec))
    texts = read(table)
    assert said(texts) == [(pair[0].replace(";", ","), pair[1])] * count
    assert list(texts.encodings) == ["faq.csv"] and texts.encodings["faq.csv"], "told, so that people can see what was taken for what"
    lines = tmp_path / "faq.jsonl"
    lines.write_bytes(json.dumps({"question": pair[0], "answer": pair[1]}, ensure_ascii=False).encode(codec))
    assert said(read(lines)) == [pair]


@pytest.mark.parametrize(
    "text",
    [
        "foo\u00a0bar",
        "it’s nine",
        "“so” he said",
        "it is 5°C today",
        "it costs £5 and is open",
        "it costs € 10",
        "1½ cups",
        "100 µm",
        "the café",
    ],
)
def test_a_sign_or_two_in_plain_text_are_what_windows_writes(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("cp1252"))
    assert read(path).examples[0].text == text


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("naïve", "cp1252"),
        ("Да", "cp1251"),
        ("你好", "gbk"),
        ("שלום", "cp1255"),
        ("Señor Muñoz", "cp1252"),
        ("ПРИВЕТ", "cp1251"),
        ("Jūs", "cp1257"),
    ],
)
def test_what_may_be_several_things_is_refused_with_both_and_the_way_out(tmp_path, text, codec):
    path = tmp_path / "faq.csv"
    path.write_bytes(f"question;answer\n{text};{text}".encode(codec))
    with pytest.raises(UserError, match="its encoding is not certain: it may be .* or .*encoding:"):
        read(path)
    assert said(read(path, encoding=codec)) == [(text, text)]


def test_a_given_encoding_is_for_files_that_are_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes("question;answer\nЧто?;Мох".encode("cp1251"))
    (tmp_path / "b.csv").write_bytes("question;answer\nWer?;Größe".encode())
    assert said(read(tmp_path, encoding="windows-1251")) == [("Что?", "Мох"), ("Wer?", "Größe")]
    (tmp_path / "c.txt").write_bytes("Größe".encode("utf-16-le"))
    assert read(tmp_path / "c.txt", encoding="utf-16-le").examples[0].text == "Größe"
    with pytest.raises(UserError, match="in 'klingon': there is no such encoding"):
        read(tmp_path, encoding="klingon")
    with pytest.raises(UserError, match="it is not in ascii as encoding: says, first at byte"):
        read(tmp_path / "a.csv", encoding="ascii")
    assert not check_encoding("hex") and check_encoding("gbk")


def test_text_that_is_damaged_in_its_own_encoding_names_the_line(tmp_path):
    lines = [f"{number}, 公司的营业时间是什么, 周一至周五上午九点到下午六点。".encode("gbk") for number in range(3000)]
    lines[2500] = lines[2500][:7] + b"\xff" + lines[2500][8:]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="its GBK/GB18030 text is damaged, first in line 2501"):
        read(tmp_path / "a.txt")


def test_without_the_library_the_owner_is_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    path = tmp_path / "faq.csv"
    path.write_bytes("question;answer\nЧто?;Мох и ещё раз мох".encode("cp1251"))
    with pytest.raises(RowError, match="charset-normalizer.*encoding:"):
        find_encoding(path)
    assert said(read(path, encoding="cp1251"))[0][0] == "Что?"
