"""How much a text looks like one that somebody wrote: whether its letters belong together in some language.

Made for telling apart readings of the same bytes, of which all but one are nonsense; says nothing about good or bad texts. Pure.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

# Letters beyond a to z, the commonest first; and, of Latin ones, small words that are written without them.
_LATIN = {
    "English": ("éèïêëöüçñàâáôæœ", "the of and to is in you that it for are with be your how what can i we"),
    "German": ("üäößéèàáêç", "der die das und ist nicht ein eine zu den sie wir es mit wie was kann ich auf von im in"),
    "French": ("éàèêçùûôîïâëœæüÿ", "le la les des est une un pour dans et de que vous nous pas avec qui je sur du en"),
    "Spanish": ("óáíéñúüçº", "el la los de que en por con una un es para se las como del al no su lo"),
    "Portuguese": ("ãçáéíóêõâàúôüº", "o a os as de que para com uma um se do da no na em por mais"),
    "Italian": ("àèéìíîòóùúº", "il di che la per non una un con sono del le si in da come e i gli"),
    "Catalan": ("àçèéíïòóúü·", "el la els de que per amb una un no les del es i en"),
    "Dutch": ("ëéïóöüèêáà", "de het een van is en dat niet voor zijn met op ik je wij in te"),
    "Swedish": ("äåöéüà", "och att det som en av den inte till med vi har du jag kan i"),
    "Danish": ("åøæéöäüà", "og det er at en til af ikke der med vi har du jeg kan i"),
    "Finnish": ("äöåšžé", "ja on ei se olen tai kun niin mutta ovat"),
    "Icelandic": ("áðéíóúýþæö", "og er ekki til sem um hann en vi"),
    "Polish": ("łęąóśżćńź", "nie na to jest do w z co jak o po za od i tak"),
    "Czech": ("íáéěřýčšžůúťďňó", "je na se to v a ne jak do za z od pro po k"),
    "Slovak": ("áíéýčšžľúťďôňóäŕĺ", "je na sa to v a nie ako do za z od pre po k"),
    "Hungarian": ("áéöóőíüúű", "a az nem hogy van egy de is ez ha meg csak mint"),
    "Romanian": ("ăâîşţșț", "de la nu este pe cu un o si se din care mai ce"),
    "Croatian": ("čćđšž", "je i u na se da od za su s ne kako to kada"),
    "Slovene": ("čšžćđ", "je in na se da v za so s ne kako to pri ki"),
    "Albanian": ("ëç", "dhe i e nga me per ne nuk eshte"),
    "Turkish": ("ıüşğçöâîû", "bir ve bu da de ne mi icin var ile o ben sen gibi saat"),
    "Lithuanian": ("ėšųįžąūčę", "ir yra kad tai su ne kaip bet o i per"),
    "Latvian": ("āīēšņūļžķģč", "un ir ka no ar tas par uz ne kas es kad"),
    "Estonian": ("äöõüšž", "ja on ei see et ta kui ma oma ka te"),
    "Vietnamese": ("àáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵ", "cho trong khi hay bao xin anh chi em"),
}
SMALL_WORDS = frozenset(word for _, words in _LATIN.values() for word in words.split())
_OTHER = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "Ukrainian": "оаинвеітрсклумдпьязгбйчхшїєжюцщфґ'",
    "Bulgarian": "аоиетнрсвлкдпмзъугбящчцжхйшюфь",
    "Serbian": "аоиенстрјкдувлмпзгбчхцшљжњћђфџ",
    "Greek": "αοιετσνηυρπκμλςωδγχθφβξζψάέήίόύώϊϋΐΰ",
    "Hebrew": "יוהלאמרבתשנדעפקחסכגצטזםןךףץ",
    "Arabic": "ايلمنرتبةعدفهوسكقحجأشصطخضذزثغئىإءظآؤ",
    "Persian": "ایرندمهتسبشوکلخزفگعقپجحطصغژذضثئظآ",
    "Thai": "านรอกเงมยลวดทสตบปคจพหชขแใไโผธณศซภฟถฐฎญฉษฆฬฮ" + "ะาำิีึืุูๆ็่้๊๋์ั",
}
_USUAL = set("“”„‘’‚–—…€«»‹›°§£©®™·•¿¡½¼¾²³×±´`¨ªº¥¢¦¶†‡‰÷µ№\u00a0\u00ad\u200e\u200f\u200c\u200d؟،؛฿₪₫₽")
_BORROWED, _BORROWED_WORTH = frozenset("éèêëïöüçñàâáôßäå"), 0.6  # in foreign words and names everywhere
_USUAL_LETTERS, _TELLING_LETTERS = 3, 15  # a language's commonest letters beyond a to z are a third of such, where there are enough
_INSIDE = re.compile(r"(?<=[^\W\d_])[^\w\s\x00-\x7f’‘·–—…“”„«»•|](?=[^\W\d_])")  # signs that stand within words
_BESIDE_NUMBER = re.compile(r"(?<![^\W\d_])[^\x00-\x7f](?=\d)|(?<=\d)[^\x00-\x7f](?![^\W\d_])")  # a letter alone
_WORD = re.compile(r"[^\W\d_]+")


def judge_text(text: str, codec: str) -> float:
    """Between 0 and about 1; sound texts of some hundred letters have more than 0.9. ``codec``: what it was read with."""
    if codec in _EAST_ASIAN:
        return _judge_east_asian(text, codec)
    letters = Counter(letter for letter in text if not letter.isascii() and letter not in _USUAL)
    letters.update(sign for sign in _INSIDE.findall(text) if sign in _USUAL)  # `by³o`
    letters.update("\0" for sign in _BESIDE_NUMBER.findall(text) if sign.isalpha() and sign not in _USUAL)  # `Ł5` for `£5`
    if not letters:
        return 0.9  # punctuation alone: whoever reads it as that reads it well
    words = _WORD.findall(text)
    mixed = sum(_mixes_scripts(word) for word in words) / max(1, sum(not word.isascii() for word in words))
    lower: Counter[str] = Counter()
    for letter, count in letters.items():
        lower["ı" if letter == "İ" else letter.lower()[0]] += count
    best = max(*_judge_latin(lower, words).values(), *_judge_alphabets(lower).values())
    return best - 0.5 * mixed - 0.5 * _shouting(words)


def _judge_latin(letters: Mapping[str, int], words: list[str]) -> dict[str, float]:
    """By language: the share of the letters that it has, and a little for words of it."""
    count = sum(letters.values())
    plain = Counter(word.lower() for word in words if word.isascii())
    known = {name: sum(plain[word] for word in small) for name, (_, small) in _small_words().items()}
    most = max(known.values()) or 1
    trust = min(1.0, most / 6)  # a word or two is no witness
    scores = {}
    for name, (alphabet, _) in _small_words().items():
        usual = sum(letters.get(letter, 0) for letter in _LATIN[name][0][:_USUAL_LETTERS]) / count
        share = sum(n * (1 if letter in alphabet else _BORROWED_WORTH * (letter in _BORROWED)) for letter, n in letters.items()) / count
        if count >= _TELLING_LETTERS:  # French without an é is none
            share *= min(1.0, 0.7 + usual)
        scores[name] = share * (0.85 + 0.15 * (known[name] / most if trust == 1.0 else 1 - trust * (1 - known[name] / most)))
    return scores


@functools.cache
def _small_words() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    return {name: (frozenset(letters), tuple(words.split())) for name, (letters, words) in _LATIN.items()}


def _judge_alphabets(letters: Mapping[str, int]) -> dict[str, float]:
    """By language: the share of its letters, and whether its commonest ones are common: in sound texts the mean letter is in the
    first third of its alphabet, so ordered, in nonsense in the middle."""
    count, scores = sum(letters.values()), {}
    for name, alphabet in _OTHER.items():
        places = {letter: place for place, letter in enumerate(alphabet)}
        inside = {letter: number for letter, number in letters.items() if letter in places}
        share = sum(inside.values()) / count
        mean = sum(places[letter] * number for letter, number in inside.items()) / max(1, sum(inside.values())) / len(places)
        scores[name] = share * max(0.0, min(1.0, 1.0 - 2.5 * (mean - 0.35))) * (1 - 0.5 / count)  # a single letter is anything
    return scores


def _mixes_scripts(word: str) -> bool:
    """A word of Latin and other letters, or with a capital inside: `cafй`, `großЯ`."""
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word if letter not in "ªºµ"}
    return len(scripts & {"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI"}) > 1


def _shouting(words: list[str]) -> float:
    """The share of the not plain words that turn from small to capital letters, and a part of the share of those all in capitals: how
    KOI8 looks in Windows-1251, and Hebrew in KOI8."""
    telling = [word for word in words if not word.isascii() and len(word) > 2 and word.lower() != word.upper()]
    odd = sum(0.3 if word == word.upper() else word[1:] != word[1:].lower() for word in telling)
    return odd / max(1, len(telling))


# -- East Asia -----------------------------------------------------------------------------------------------------------

_COMMON_HAN = set(  # about 400 characters, and how they are written in Taiwan; two fifths of what is written in Chinese
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现"
    "当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物"
    "手应向头文体美相见被利什二等产新己制身果加西月话合回特代内信表化老给世位次度门任常先通教儿原东声提立及比员解水名真处走各入几口认条平系气题活更"
    "别打女变四总何电数安少报才结反受目太量再感建务做接必场件计管期市直资金指许统区保至便空决科司五基书非则听白光放强即难且权完设式色路记品住告类求"
    "据程北边该交规万取望术领共确传师清今切院让识候带导请您吗呢吧货单付款退订购店客服务时早晚午九六七八号码网页"
    "這個們來為國說時會對過發後裡經麼學當沒動還進樣開無與長機關點業將兩間問應頭體見產話給門兒東聲員處條氣題別變總電數報結務場計資許統區決書則聽強難權"
    "設記類據邊該規萬術領確傳師讓識帶導請嗎貨單訂購號碼網頁"
)
_COMMON_SHARE = 0.45  # few Chinese texts have less, and what only looks like one has half of it

_EAST_ASIAN = ("gb18030", "big5hkscs", "cp949", "cp932", "euc_jp")


def _judge_east_asian(text: str, codec: str) -> float:
    """The share of characters that are everyday ones of the codec's language."""
    letters = [letter for letter in text if not letter.isascii() and unicodedata.category(letter)[0] in "LMNC"]
    if not letters:
        return 0.0
    if codec in ("cp932", "euc_jp"):
        return _judge_japanese(letters)
    everyday = {"gb18030": _is_everyday_simplified, "big5hkscs": _is_everyday_traditional, "cp949": _is_everyday_korean}[codec]
    share = sum(everyday(letter) for letter in letters) / len(letters)
    if codec != "cp949":
        common = sum(letter in _COMMON_HAN for letter in letters) / len(letters)
        share *= 0.7 + 0.3 * min(1.0, common / _COMMON_SHARE)
    return share


def _judge_japanese(letters: list[str]) -> float:
    """Everyday signs with kana among them; half-width kana are what other bytes look like."""
    kana = sum("\u3040" <= letter <= "\u30ff" for letter in letters) / len(letters)
    everyday = sum(_lead(letter, "euc_jp") in range(0xA4, 0xD0) for letter in letters) / len(letters)
    return everyday * min(1.0, 0.6 + 2 * kana)


def _is_everyday_simplified(letter: str) -> bool:
    """The first level of GB 2312: 3,755 characters in the order of their sounds."""
    return _lead(letter, "gb2312") in range(0xB0, 0xD8)


def _is_everyday_traditional(letter: str) -> bool:
    """The first level of Big5: 5,401 characters."""
    return _lead(letter, "big5") in range(0xA4, 0xC7)


def _is_everyday_korean(letter: str) -> bool:
    return _lead(letter, "euc_kr") in range(0xB0, 0xC9)


@functools.lru_cache(maxsize=65536)
def _lead(letter: str, codec: str) -> int:
    """The first byte; 0 where the codec has no such character."""
    try:
        return letter.encode(codec)[0]
    except UnicodeEncodeError:
        return 0


# -- which language ------------------------------------------------------------------------------------------------------

_FURTHER_WORDS = {  # of few letters, which the lists above leave out because they say nothing of an encoding
    "English": "a an as at by do does from has have if my no not on or our so they this up was were when where which who will would",
    "German": "als am an auch aus bei bin bis dem den des durch er haben hat ich ihr kein man mich nach noch oder sich sind so um uns was "
    "wenn wird zum zur",
    "French": "au aux avez ce cette elle il ils je ma mon ne nos on ou par plus se si sont tu votre",
    "Spanish": "cuando donde este esta hay ha mi muy nos o pero puede puedo si sin sobre su tiene y ya yo",
    "Italian": "al alla anche che ci cosa dal della essere ha ho mi ma nel o perche puo se si su tu un",
    "Portuguese": "ao aos das dos ele em esta eu foi isso mas meu nao nos ou pela pelo por seu sua voce",
    "Dutch": "aan als bij dan die door er hebben heeft hoe kan maar mijn naar nog of om ook uw van waar wat we worden",
}
_SCRIPTS = {"CYRILLIC": "Cyrillic letters", "GREEK": "Greek", "HEBREW": "Hebrew", "ARABIC": "Arabic letters", "THAI": "Thai"}
_SCRIPTS |= {"HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "DEVANAGARI": "Devanagari letters"}
_LEAST_LETTERS, _LEAST_WORDS, _READ_LETTERS = 8, 4, 1000


def guess_language(text: str) -> str:
    """The language, or for some the script, that a text is written in; empty where that is not certain: short, or mixed."""
    text = text[:_READ_LETTERS]
    letters = [letter for letter in text if letter.isalpha()]
    if len(letters) < _LEAST_LETTERS:
        return ""
    scripts = Counter(_script(letter) for letter in letters)
    han = scripts["CJK"]
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * len(letters):
        scripts = Counter({"HIRAGANA": scripts["HIRAGANA"] + scripts["KATAKANA"] + han, "LATIN": scripts["LATIN"]})
    elif han > 0.6 * len(letters):
        return "Chinese"
    script, count = scripts.most_common(1)[0]
    if count < 0.8 * len(letters):
        return ""
    return _guess_latin(text) if script == "LATIN" else _SCRIPTS.get(script, "")


@functools.lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0].split("-")[0]


def _guess_latin(text: str) -> str:
    """By small words: several of one language, and few of any other that are not the same ones."""
    words = Counter(_WORD.findall(_drop_accents(text.lower())))
    hits: Counter[str] = Counter()
    kinds, own = Counter[str](), Counter[str]()
    for word, count in words.items():
        languages = _known_words().get(word, ())
        for language in languages:
            hits[language] += count
            kinds[language] += 1
            own[language] += count if len(languages) == 1 else 0
    (best, known), (_, next_best) = [*hits.most_common(2), ("", 0), ("", 0)][:2]
    certain = known >= max(_LEAST_WORDS, 1.5 * next_best, 0.2 * sum(words.values())) and kinds[best] > 2 and own[best] >= 2
    return best if certain else ""


@functools.cache
def _known_words() -> dict[str, tuple[str, ...]]:
    """Small words, each with the languages that have it."""
    known: dict[str, list[str]] = {}
    for name, (_, small) in _LATIN.items():
        for word in set(f"{small} {_FURTHER_WORDS.get(name, '')}".split()):
            known.setdefault(word, []).append(name)
    return {word: tuple(names) for word, names in known.items()}


def _drop_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
