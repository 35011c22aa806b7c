"""What should not be learned by heart: keys to programs, and what belongs to a person. Pure; what is found is never shown.

A model says what it has learned to whoever asks. Numbers count only where their own check digits say what they are.
"""

import re

KEY, EMAIL, PHONE, CARD, ACCOUNT, IDENTITY = "keys", "email", "phone", "card", "iban", "identity"

_KEYS = re.compile(
    r"""-----BEGIN[ ](?:[A-Z0-9]+[ ])*PRIVATE[ ]KEY(?:[ ]BLOCK)?-----
    |\b(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b               # Amazon, whose own documents write EXAMPLE
    |\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{50,}|\bglpat-[\w-]{20,}
    |\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|\b[sr]k_live_[0-9A-Za-z]{20,}   # OpenAI, Anthropic and others; Stripe
    |\bAIza[\w-]{35}|\bxox[abeprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{36}\b
    |\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}                        # a token that signs somebody in (JWT)
    """,
    re.VERBOSE,
)
_EMAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@((?:[\w-]+\.)+[A-Za-z]{2,})(?![\w@])")
_OF_NOBODY = re.compile(r"(?:.*\.)?example\.(?:com|net|org)|.*\.(?:example|test|invalid|localhost)|example\.\w+", re.IGNORECASE)  # RFC 2606
_OFFICE_NAMES = (
    "info support contact help hello hi service services sales office mail post admin team press jobs career careers hr kontakt "
    "kundenservice kundendienst noreply no-reply donotreply webmaster postmaster abuse security privacy datenschutz legal billing orders "
    "order shop bestellung feedback newsletter marketing media booking reservations reception contacto soporte ventas"
)
_OFFICES = frozenset(_OFFICE_NAMES.split())
_PHONE = re.compile(r"(?<![\w+.,/-])(?:\+\d{1,3}|\(\d{2,5}\)|0\d{1,4}|\d{3}(?=[-.]\d{3}[-.]\d{4}))[ \d()./-]{5,16}\d(?![\w-]|[.,]\d)")
# Free of charge, or kept for films.
_OF_ALL = re.compile(r"\+?1?8(?:00|88|77|66|55|44|33)|0800|00800|0180|0900|\+\d{2}800|1?\d{3}55501\d\d|\+?1?\d{3}55501\d\d")
_MOBILE_IN_CHINA = re.compile(r"(?<![\d.,+-])1[3-9]\d(?:[ -]?\d{4}){2}(?![\d.,-]\d|\d)")  # unmarked, so told beside Chinese letters only
_CHINESE = re.compile("[\u4e00-\u9fff]")
_IDENTITY = re.compile(r"(?<!\d)\d{6}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)")  # GB 11643
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SOCIAL_SECURITY = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_ACCOUNT_LENGTHS = {
    code: int(size)
    for code, size in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28"
        "IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31"
        "SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20",
    )
}


def find_private(text: str) -> set[str]:
    """Which of KEY, EMAIL, PHONE, CARD, ACCOUNT and IDENTITY are in a text."""
    found = {KEY} if _KEYS.search(text) else set()
    if "@" in text and any(_is_somebody(*match.groups()) for match in _EMAIL.finditer(text)):
        found.add(EMAIL)
    told = {
        ACCOUNT: [match.span() for match in _ACCOUNT.finditer(text) if _is_account(match.group())],
        CARD: [match.span() for match in _CARD.finditer(text) if _is_card(match.group())],
        IDENTITY: [match.span() for match in _IDENTITY.finditer(text) if _is_identity(match.group())],
    }
    told[IDENTITY] += [match.span() for match in _SOCIAL_SECURITY.finditer(text)]
    found |= {kind for kind, spans in told.items() if spans}
    others = [span for spans in told.values() for span in spans]
    numbers = (match for match in _PHONE.finditer(text) if not any(begin <= match.start() < end for begin, end in others))
    if any(_is_phone(match.group()) for match in numbers) or _MOBILE_IN_CHINA.search(text) and _CHINESE.search(text):
        found.add(PHONE)
    return found


def _is_somebody(name: str, place: str) -> bool:
    """Not an office's address, nor one that is there for examples."""
    return name.casefold() not in _OFFICES and not _OF_NOBODY.fullmatch(place)


def _is_phone(text: str) -> bool:
    """Parted as people part such numbers, and not free of charge: those are an office's."""
    digits = "".join(sign for sign in text if sign.isdigit())
    written = f"+{digits}" if text.startswith("+") else digits
    if not 9 <= len(digits) <= 15 or _OF_ALL.match(written) or re.fullmatch(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}", text):
        return False
    if len(set(digits)) < 4:  # such as 000 000 000
        return False
    return text.startswith(("+", "(")) or bool(re.fullmatch(r"0\d{1,4}[ /-]\d[ \d-]{4,}|\d{3}[-.]\d{3}[-.]\d{4}", text))


def _is_identity(text: str) -> bool:
    """A Chinese citizen's number, by its check digit (ISO 7064, modulo 11)."""
    total = sum(int(digit) * weight for digit, weight in zip(text, _IDENTITY_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == text[-1].upper()


def _is_card(text: str) -> bool:
    """By its first digits, its length and Luhn's check digit (ISO/IEC 7812-1); what payment services give for tests is none."""
    digits = "".join(sign for sign in text if sign.isdigit())
    if not re.fullmatch(r"4\d{12}(\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(011|5\d\d)\d{12}|3(0[0-5]|[68]\d)\d{11}", digits):
        return False
    if len(set(digits)) < 4 or digits in ("4242424242424242", "4012888888881881", "5555555555554444", "378282246310005"):
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_account(text: str) -> bool:
    """By its country's length and check digits (ISO 13616: modulo 97)."""
    plain = text.replace(" ", "")
    if len(plain) > _ACCOUNT_LENGTHS.get(plain[:2], 0):
        plain = plain[: _ACCOUNT_LENGTHS.get(plain[:2], 0)]  # a word in capitals behind it
    if len(plain) != _ACCOUNT_LENGTHS.get(plain[:2], -1):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1
