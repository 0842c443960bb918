"""Personal data and secrets in a text -> what replaces them. Patterns find candidates, libraries decide (stdnum, phonenumbers).

"call +49 30 1234567 or kim@example.org"  ->  [("PHONE", "+49301234567", 5, 19), ("EMAIL", "kim@example.org", 23, 38)]
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
from collections.abc import Callable

# type, start, end, and the value in the one way of writing it that all its spellings share.
Replace = Callable[[str, str], str]
Check = Callable[[re.Match[str]], str | None]

INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
WIDE = "\uff00-\uffef"
_UNUSUAL = re.compile(f"[{INVISIBLE}{WIDE}]")
_HIDDEN = re.compile(f"[{INVISIBLE}]")

KEY_PREFIXES = (
    r"sk-[A-Za-z0-9]|sk-(?:ant|proj|or|lf|svcacct)-|pk-lf-|AKIA[0-9A-Z]|ASIA[0-9A-Z]|gh[pousr]_|github_pat_|xox[abeoprs]-|AIza"
    r"|hf_[A-Za-z]|glpat-|npm_[A-Za-z0-9]|ya29\.|SG\.[\w-]|[sr]k_(?:live|test)_|dop_v1_|shpat_"
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9_])(?:sk-(?:ant-|proj-|or-|lf-|svcacct-)?[\w-]{16,}|pk-lf-[\w-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}"
    r"|github_pat_\w{20,}|xox[abeoprs]-[\w-]{10,}|AIza[\w-]{30,}|hf_\w{20,}|glpat-[\w-]{16,}|npm_\w{30,}|ya29\.[\w-]{20,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|[sr]k_(?:live|test)_\w{16,}|dop_v1_\w{20,}|shpat_\w{20,})"
)
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*(?:KEY|CERTIFICATE|MESSAGE)[A-Z0-9 ]*-----(?:(?:(?!-----BEGIN).)*?-----END [A-Z0-9 ]+-----|[A-Za-z0-9+/=\s\\]*)",
    re.DOTALL,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
_HEADER = re.compile(
    r"(?i)(?P<label>\b(?:(?:proxy-)?authorization|x-api-key|api-key|x-auth-token)[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?)"
    r"(?P<value>(?!(?:bearer|basic|token|digest)\b)[^\s\"',;\[\]]{6,})"
)
_COOKIE = re.compile(r"(?i)(?P<label>\b(?:set-)?cookie[\"']?\s*:\s*[\"']?)(?P<value>[^\s=\"'\[]+=[^\r\n\"']+)")
_BEARER = re.compile(r"(?i)(?P<label>\b(?:bearer|basic)\s+)(?P<value>[A-Za-z0-9._~+/=-]{12,})")
_ASSIGNED = re.compile(
    r"(?i)(?P<label>(?:api[_-]?key|(?:client[_-]?|app[_-]?)?secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?(?:key|token)|auth[_-]?token"
    r"|passw(?:or)?d|passwort|pwd|pass(?:phrase|code)|token|contraseña|mot de passe)[\"']?\s*(?:[:=]+>?|\bis\b|\bist\b|\bes\b|\best\b)\s*[\"']?)"
    r"(?P<value>[^\s\"',;&<>\[\]{}()]{6,})"
)
_USERINFO = re.compile(r"(?P<label>[a-z][a-z0-9+.-]*://)(?P<value>[^\s/@:\[\]]+:[^\s/@\[\]]+)(?=@)")
_EMAIL = re.compile(r"[\w.+'%-]*[\w+-](?:@|%40)(?:[^\W_](?:[\w-]*[^\W_])?\.)+(?:xn--[\w-]+|[^\W\d_]{2,24})(?![\w-]*@)")
_SPELT_EMAIL = re.compile(
    r"(?i)[\w.+-]+\s{0,2}[(\[{<]\s?(?:at|@|ät)\s?[)\]}>]\s{0,2}[\w-]+(?:\s{0,2}(?:[(\[{<]\s?(?:dot|punkt|\.)\s?[)\]}>]|\.)\s{0,2}[\w-]+)+"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_CARD = re.compile(r"(?<![\w.,-])(?:\d[ -]?){12,18}\d(?![\w-]|[.,]\d)")
_PHONE = re.compile(r"(?<![\w.@/=#-])(?:\+|00(?=[1-9]))\s?\(?\d(?:[\s().\-/\u00a0\u2011]{0,3}\d){6,14}(?![\w@]|[.-]\d)")
_PHONE_SHAPE = re.compile(
    r"(?<![\w.,/#:=+-])(?:\(\d{2,5}\)[ \-/]?\d(?:[ .\-/]?\d){4,9}|(?:1[-. ])?[2-9]\d{2}[-. ]\d{3}[-. ]\d{4}"
    r"|0\d{1,4}[ /-]\d(?:[ /-]?\d){4,9}|0[1-9](?:[ .]\d\d){4}|0\d{9,10})(?![\w@-]|[.,]\d)"
)
PHONE_WORDS = r"phone|tel|call|mobil|cell|whatsapp|sms|handy|ruf|número|numéro|numero|móvil|fax|電話|电话|телефон"
_PHONE_NEAR = re.compile(
    rf"(?i)(?P<label>(?:{PHONE_WORDS})[^\d\n+@\[]{{0,24}}?)(?P<value>\d(?:[ .()/-]?\d){{6,13}})(?![\w@-]|[.,:]\d)"
)
_IP4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)")
_VERSION = re.compile(r"(?i)(?:\bv|ver|version|release|build|firmware|section|§)[\s.:=]*$")
_IP6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:)(?:[0-9A-Fa-f]{0,4}:){1,6}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"
)
_BLOB = re.compile(
    r"(?<![A-Za-z0-9+/=_-])(?:[A-Za-z0-9+/]{4}){6,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?(?![A-Za-z0-9+/=_-])"
)

# National ids: shape, and who decides. Where the shape alone is not telling, a word near it must say what it is.
_NEAR = r"(?i:{words})[^\d\n]{{0,30}}?(?P<value>{shape})(?![\w-])"
ID_WORDS = "steuer|tax|bsn|burgerservice|pesel|personnummer|aadhaar|ssn|social"
_NATIONAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), "us.ssn"),
    (
        re.compile(r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![A-Za-z0-9])"),
        "gb.nino",
    ),
    (re.compile(r"(?<![\w-])[0-9XYZ]\d{7}-?[A-HJ-NP-TV-Z](?![\w-])"), "es.nif"),
    (
        re.compile(r"(?<![\w-])[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-])"),
        "fr.nir",
    ),
    (re.compile(r"(?<![\w-])[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?![\w-])"), "it.codicefiscale"),
    (re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"), "br.cpf"),
    (re.compile(r"(?<![\w.-])756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}(?![\w-])"), "ch.ssn"),
    (re.compile(r"(?<![\w.-])[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d)"), "in_.aadhaar"),
    (re.compile(r"(?<![\w-])[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z](?![\w-])"), "in_.pan"),
    (re.compile(_NEAR.format(words="steuer|tax|idnr", shape=r"\d{2} ?\d{3} ?\d{3} ?\d{3}")), "de.idnr"),
    (re.compile(_NEAR.format(words="bsn|burgerservice", shape=r"\d{8,9}")), "nl.bsn"),
    (re.compile(_NEAR.format(words="pesel", shape=r"\d{11}")), "pl.pesel"),
    (re.compile(_NEAR.format(words="personnummer", shape=r"(?:\d{2})?\d{6}[-+]?\d{4}")), "se.personnummer"),
    (re.compile(_NEAR.format(words="aadhaar", shape=r"[2-9]\d{11}")), "in_.aadhaar"),
    (re.compile(_NEAR.format(words="ssn|social security", shape=r"\d{3}[ -]?\d{2}[ -]?\d{4}")), "us.ssn"),
)

# Whatever `redacted` changes matches this. It has neither lookaround nor backreference, so RE2 runs it over a whole column.
SCREEN = (
    r"@|%40|[(\[{<] ?(?i:at|ät) ?[)\]}>]|-----BEGIN|eyJ[\w-]{8}|(?:" + KEY_PREFIXES + r")"
    r"|(?i:bearer|basic|cookie|authorization|api[_-]?key|auth-token|secret|access[_-]?key|token|passw|pwd|passphrase|passcode|contrase|mot de passe)"
    r"|[A-Za-z]{2}\d{2}[ -]?[A-Za-z0-9]{2}|\d(?:[\s().\-/\x{a0}\x{2011}]{0,3}\d){8}|\+\s?\(?\d|\(\d{2,5}\)|(?i:"
    + PHONE_WORDS
    + r")[^\d\n]{0,24}\d"
    r"|\d{3}-\d{2}-\d{4}|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]:[0-9A-Fa-f:]{0,6}:|::|[A-Z0-9]{5} ?\d{2} ?\d|[0-9XYZ]\d{7}-?[A-Z]"
    r"|0\d{1,4}[ /-]\d|[A-Za-z0-9+/]{24}|[\x{ad}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2064}\x{feff}\x{ff00}-\x{ffef}]"
)
_SCREEN = re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: f"\\u{int(m[1], 16):04x}", SCREEN))


def suspicious(text: str) -> bool:
    """Whether a closer look may find anything: SCREEN, on one text."""
    return _SCREEN.search(text) is not None


def redacted(text: str, replace: Replace, deep: bool = True) -> str:
    """The text with each finding replaced by `replace(type, value)`; the same object where there is none.

    A text that hides characters (zero width, full width) is looked at without them, and stays without them if that finds any.
    """
    if not suspicious(text):
        return text
    plain = text
    if _UNUSUAL.search(text):
        plain = _HIDDEN.sub("", unicodedata.normalize("NFKC", text))
    found = _patterns(plain, replace)
    if deep and len(plain) >= 24:
        found = _BLOB.sub(lambda m: _blob(m, replace), found)
    return text if found == plain else found


def _patterns(text: str, replace: Replace) -> str:
    if "-----BEGIN" in text:
        text = _PEM.sub(lambda m: replace("KEY", m[0]), text)
    if "eyJ" in text:
        text = _JWT.sub(lambda m: replace("JWT", m[0]), text)
    text = _KEY.sub(lambda m: replace("KEY", m[0]), text)
    for pattern in (_HEADER, _COOKIE, _BEARER):
        text = pattern.sub(lambda m: m["label"] + replace("SECRET", m["value"]), text)
    text = _ASSIGNED.sub(lambda m: _assigned(m, replace), text)
    if "@" in text or "%40" in text:
        text = _USERINFO.sub(lambda m: m["label"] + replace("SECRET", m["value"]), text)
        text = _EMAIL.sub(lambda m: replace("EMAIL", m[0].replace("%40", "@").lower()), text)
    if "(" in text or "[" in text or "{" in text or "<" in text:
        text = _SPELT_EMAIL.sub(lambda m: _spelt(m, replace), text)
    if _has_digits(text):
        text = _IBAN.sub(lambda m: _iban(m, replace), text)
        text = _CARD.sub(lambda m: _card(m, replace), text)
        for pattern, authority in _NATIONAL:
            text = pattern.sub(lambda m, a=authority: _national(m, a, replace), text)
        text = _PHONE.sub(lambda m: _phone(m, replace), text)
        text = _PHONE_SHAPE.sub(lambda m: _phone_shape(m, replace), text)
        text = _PHONE_NEAR.sub(lambda m: m["label"] + _phone_shape(m, replace, m["value"]), text)
        text = _IP4.sub(lambda m: m[0] if _VERSION.search(m.string, 0, m.start()) else replace("IP", m[0]), text)
    if ":" in text:
        text = _IP6.sub(lambda m: _ip6(m, replace), text)
    return text


def _has_digits(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _assigned(m: re.Match[str], replace: Replace) -> str:
    """`token is required` is prose; `token is 9f8a…` and `password=hunter2x` are not."""
    value = m["value"]
    label = m["label"].rstrip("\"' ")
    written = label.endswith(("=", ":", ">"))
    telling = any(c.isdigit() for c in value) or (
        any(c.isupper() for c in value[1:]) and any(c.islower() for c in value)
    )
    secret = telling or (written and re.search(r"(?i)pass|pwd|secret", label) is not None and label.endswith("="))
    numbers_only = value.replace(".", "").isdigit() and "token" in label.lower()  # "max_token: 256000"
    return m["label"] + replace("SECRET", value) if secret and not numbers_only else m[0]


def _spelt(m: re.Match[str], replace: Replace) -> str:
    plain = re.sub(r"(?i)\s*[(\[{<]\s?(?:at|@|ät)\s?[)\]}>]\s*", "@", m[0])
    plain = re.sub(r"(?i)\s*[(\[{<]\s?(?:dot|punkt|\.)\s?[)\]}>]\s*|\s*\.\s*", ".", plain)
    return replace("EMAIL", plain.lower()) if _EMAIL.fullmatch(plain) else m[0]


def _iban(m: re.Match[str], replace: Replace) -> str:
    from stdnum import iban

    # The words after a number look like more of it: the longest beginning that its own check digits confirm is the number.
    text = m[0]
    for end in range(len(text), 14, -1):
        if text[end - 1] not in " -" and iban.is_valid(text[:end]):
            following = m.string[m.start() + end : m.start() + end + 1]
            if end == len(text) and following.isalnum():
                continue
            return replace("IBAN", iban.compact(text[:end])) + text[end:]
    return text


def _card(m: re.Match[str], replace: Replace) -> str:
    from stdnum import luhn

    digits = re.sub(r"\D", "", m[0])
    known = digits[0] in "23456" and len(set(digits)) > 1
    return replace("CARD", digits) if known and 13 <= len(digits) <= 19 and luhn.is_valid(digits) else m[0]


def _national(m: re.Match[str], authority: str, replace: Replace) -> str:
    from importlib import import_module

    value = m.groupdict().get("value") or m[0]
    module = import_module(f"stdnum.{authority}") if authority != "gb.nino" else None
    if module is not None and not module.is_valid(value):
        return m[0]
    compact = re.sub(r"[\s.-]", "", value)
    return m[0][: len(m[0]) - len(value)] + replace("ID", compact)


def _phone(m: re.Match[str], replace: Replace) -> str:
    import phonenumbers

    digits = "+" + re.sub(r"\D", "", m[0]).removeprefix("00" if m[0].startswith("00") else "")
    try:
        known = phonenumbers.is_possible_number(phonenumbers.parse(digits))
    except phonenumbers.NumberParseException:
        known = False
    return replace("PHONE", digits) if known else m[0]


def _phone_shape(m: re.Match[str], replace: Replace, value: str = "") -> str:
    digits = re.sub(r"\D", "", value or m[0])
    return replace("PHONE", digits) if 7 <= len(digits) <= 15 and len(set(digits)) > 1 else value or m[0]


def _ip6(m: re.Match[str], replace: Replace) -> str:
    try:
        address = ipaddress.IPv6Address(m[0])
    except ValueError:
        return m[0]
    return m[0] if len(m[0]) < 4 else replace("IP", str(address))


def _blob(m: re.Match[str], replace: Replace) -> str:
    """Base64 that holds a text with personal data in it goes whole."""
    try:
        decoded = base64.b64decode(m[0] + "=" * (-len(m[0]) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return m[0]
    inner = redacted(decoded, replace, deep=False)
    return m[0] if inner == decoded or not decoded.isprintable() else replace("ENCODED", m[0])
