"""Personal data and secrets in a text -> what replaces them.

"call +49 30 1234567 or kim@example.org"  ->  replace("PHONE", "+49301234567"), replace("EMAIL", "kim@example.org")

In three steps, because most texts hold nothing: RE2 tells in one pass which families of patterns may find anything; the
patterns of those find candidates; libraries decide (stdnum for check digits, phonenumbers for numbering plans).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import re2

# type, start, end, and the value in the one way of writing it that all its spellings share.
Replace = Callable[[str, str], str]
Apply = Callable[[str, Replace], str]

INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
WIDE = "\uff00-\uffef"
_HIDDEN = re.compile(f"[{INVISIBLE}]")

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
_SIGNED = re.compile(  # a link that is a credential itself
    r"(?i)(?P<label>[?&](?:x-(?:amz|goog)-(?:signature|security-token)|sig|signature|key)=)(?P<value>[^\s\"'&<>#\[\]{}]{8,})"
)
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

# National ids: what RE2 looks for, the shape, and who decides (a module of stdnum; none for the British, which has no check
# digit). Where the shape alone is not telling, a word near it must say what it is.
_NEAR = r"(?i:{words})[^\d\n]{{0,30}}?(?P<value>{shape})(?![\w-])"
_NATIONAL: tuple[tuple[str, str, str], ...] = (
    (r"\d{3}-\d{2}-\d{4}", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", "us.ssn"),
    (
        r"[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
        r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![A-Za-z0-9])",
        "",
    ),
    (r"[0-9XYZ]\d{7}-?[A-Z]", r"(?<![\w-])[0-9XYZ]\d{7}-?[A-HJ-NP-TV-Z](?![\w-])", "es.nif"),
    (
        r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
        r"(?<![\w-])[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-])",
        "fr.nir",
    ),
    (
        r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]",
        r"(?<![\w-])[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?![\w-])",
        "it.codicefiscale",
    ),
    (r"\d{3}\.\d{3}\.\d{3}-\d{2}", r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])", "br.cpf"),
    (
        r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}",
        r"(?<![\w.-])756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}(?![\w-])",
        "ch.ssn",
    ),
    (r"[2-9]\d{3} \d{4} \d{4}", r"(?<![\w.-])[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d)", "in_.aadhaar"),
    (r"[A-Z]{5}\d{4}[A-Z]", r"(?<![\w-])[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z](?![\w-])", "in_.pan"),
    *(
        (rf"(?i:{words})[^0-9\n]{{0,30}}\d(?:[ +-]?\d){{7}}", _NEAR.format(words=words, shape=shape), authority)
        for words, shape, authority in (
            ("steuer|tax|idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "de.idnr"),
            ("bsn|burgerservice", r"\d{8,9}", "nl.bsn"),
            ("pesel", r"\d{11}", "pl.pesel"),
            ("personnummer", r"(?:\d{2})?\d{6}[-+]?\d{4}", "se.personnummer"),
            ("aadhaar", r"[2-9]\d{11}", "in_.aadhaar"),
            ("ssn|social security", r"\d{3}[ -]?\d{2}[ -]?\d{4}", "us.ssn"),
        )
    ),
)


def _substitute(pattern: str | re.Pattern[str], found: Callable[[re.Match[str], Replace], str]) -> Apply:
    """`found` says what stands in the place of each match."""
    compiled = re.compile(pattern)
    return lambda text, replace: compiled.sub(lambda m: found(m, replace), text)


class _Family(NamedTuple):
    """Patterns of one kind. Whatever `apply` changes matches `trigger`, in RE2's syntax (no lookaround, ASCII classes)."""

    trigger: str
    apply: Apply


_SPACE = "[^!-~]"  # RE2's \s knows ASCII only: whatever is no visible ASCII character may be a space
_FAMILIES = (
    _Family(r"-----BEGIN [A-Z0-9 ]*(?:KEY|CERTIFICATE|MESSAGE)", _substitute(_PEM, lambda m, r: r("KEY", m[0]))),
    _Family(r"eyJ", _substitute(_JWT, lambda m, r: r("JWT", m[0]))),
    _Family(
        r"(?:^|[^A-Za-z0-9_])(?:sk-[\w-]|pk-lf-|AKIA[0-9A-Z]|ASIA[0-9A-Z]|gh[pousr]_|github_pat_|xox[abeoprs]-|AIza|hf_[A-Za-z0-9]"
        r"|glpat-|npm_|ya29\.|SG\.|[sr]k_(?:live|test)_|dop_v1_|shpat_)",
        _substitute(_KEY, lambda m, r: r("KEY", m[0])),
    ),
    _Family(
        rf"(?i:authorization|x-api-key|api-key|x-auth-token)[\"']?{_SPACE}*[:=]",
        _substitute(_HEADER, lambda m, r: m["label"] + r("SECRET", m["value"])),
    ),
    _Family(rf"(?i:cookie)[\"']?{_SPACE}*:", _substitute(_COOKIE, lambda m, r: m["label"] + r("SECRET", m["value"]))),
    _Family(
        rf"(?i:bearer|basic){_SPACE}+[A-Za-z0-9._~+/=-]{{12}}",
        _substitute(_BEARER, lambda m, r: m["label"] + r("SECRET", m["value"])),
    ),
    _Family(
        r"(?i:api[_-]?key|secret|secret[_-]?(?:access[_-]?)?key|access[_-]?(?:key|token)|passw(?:or)?d|passwort|pwd"
        rf"|pass(?:phrase|code)|token|contraseña|mot de passe)[\"']?{_SPACE}*(?:[:=]+>?|(?i:is|ist|es|est)){_SPACE}*[\"']?[^\s\"',;&<>\[\]{{}}()]{{6}}",
        _substitute(_ASSIGNED, lambda m, r: _assigned(m, r)),
    ),
    _Family(
        r"://[^\s/@:\[\]]+:[^\s/@\[\]]+@", _substitute(_USERINFO, lambda m, r: m["label"] + r("SECRET", m["value"]))
    ),
    _Family(
        r"[?&](?i:x-(?:amz|goog)-(?:signature|security-token)|sig|signature|key)=",
        _substitute(
            _SIGNED, lambda m, r: m["label"] + r("SECRET", m["value"]) if re.search(r"\d", m["value"]) else m[0]
        ),
    ),
    _Family(r"(?:@|%40)[^\s@]+\.", _substitute(_EMAIL, lambda m, r: r("EMAIL", m[0].replace("%40", "@").lower()))),
    _Family(rf"[(\[{{<]{_SPACE}?(?i:at|@|ät){_SPACE}?[)\]}}>]", _substitute(_SPELT_EMAIL, lambda m, r: _spelt(m, r))),
    _Family(
        r"(?:^|[^A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11}", _substitute(_IBAN, lambda m, r: _iban(m, r))
    ),
    _Family(r"\d(?:[ -]?\d){12}", _substitute(_CARD, lambda m, r: _card(m, r))),
    *(
        _Family(trigger, _substitute(shape, lambda m, r, a=authority: _national(m, a, r)))
        for trigger, shape, authority in _NATIONAL
    ),
    _Family(
        rf"(?:^|[^\w.@/=#-])(?:\+|00){_SPACE}?\(?\d(?:[^A-Za-z0-9]{{0,3}}\d){{6}}",
        _substitute(_PHONE, lambda m, r: _phone(m, r)),
    ),
    _Family(
        r"(?:^|[^\w.,/#:=+-])(?:\(\d{2,5}\)[ \-/]?\d(?:[ .\-/]?\d){4}|(?:1[-. ])?[2-9]\d{2}[-. ]\d{3}[-. ]\d{4}"
        r"|0\d{1,4}[ /-]\d(?:[ /-]?\d){4}|0[1-9](?:[ .]\d\d){4}|0\d{9})",
        _substitute(_PHONE_SHAPE, lambda m, r: _phone_shape(m, r)),
    ),
    _Family(
        rf"(?i:{PHONE_WORDS})[^0-9\n+@\[]{{0,24}}\d(?:[ .()/-]?\d){{6}}",
        _substitute(_PHONE_NEAR, lambda m, r: m["label"] + _phone_shape(m, r, m["value"])),
    ),
    _Family(
        r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d",
        _substitute(_IP4, lambda m, r: m[0] if _VERSION.search(m.string, 0, m.start()) else r("IP", m[0])),
    ),
    _Family(r"::|(?:[0-9A-Fa-f]{1,4}:){6}", _substitute(_IP6, lambda m, r: _ip6(m, r))),
    _Family(r"[A-Za-z0-9+/]{24}", _substitute(_BLOB, lambda m, r: _blob(m, r))),
)
# Characters that hide others, wide ones, and digits that are not ASCII: the triggers can't see what they make of a text.
_UNUSUAL = r"[\x{ad}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2064}\x{feff}\x{ff00}-\x{ffef}]|[^\P{Nd}0-9]"
# Whatever `redacted` changes matches this: for a whole column of texts at once.
SCREEN = "|".join([_UNUSUAL, *(family.trigger for family in _FAMILIES)])


# An upper bound, for states that RE2 makes as texts need them. With its own of 8 MB it makes them again and again.
ROOMY = re2.Options()
ROOMY.max_mem = 256 * 1024 * 1024


def _set() -> re2.Set:
    triggers = re2.Set.SearchSet(ROOMY)
    for trigger in (*(family.trigger for family in _FAMILIES), _UNUSUAL):
        triggers.Add(trigger)
    triggers.Compile()
    return triggers


SHORTEST_KEY = 20  # nothing that is looked for has no digit, no sign and fewer letters
_TRIGGERS = _set()
_SCREEN = re2.compile(SCREEN.encode(), ROOMY)


def _hits(text: str) -> set[int]:
    """Which families may find something; the number after the last one stands for unusual characters."""
    if len(text) < SHORTEST_KEY and text.isalpha() and text.isascii():
        return set()  # one plain word
    data = text.encode("utf-8", "replace")
    if not _SCREEN.search(data):
        return set()
    hits = _TRIGGERS.Match(data)
    # None: the set gave up on this text, as it may. Then everything is looked for.
    return set(range(len(_FAMILIES) + 1)) if hits is None else set(hits)


def redacted(text: str, replace: Replace, deep: bool = True) -> str:
    """The text with each finding replaced by `replace(type, value)`; the same object where there is none.

    A text that hides characters (zero width, full width) is looked at without them, and stays without them if that finds any.
    """
    hits = _hits(text)
    if not hits:
        return text
    plain = text
    if unusual := len(_FAMILIES) in hits:
        plain = _HIDDEN.sub("", unicodedata.normalize("NFKC", text))
    found = plain
    for n, family in enumerate(_FAMILIES):
        if (unusual or n in hits) and (deep or family.apply is not _FAMILIES[-1].apply):
            changed = family.apply(found, replace)
            if changed != found:
                # What was taken out may have hidden the beginning of something else.
                found, hits = changed, hits | _hits(changed)
    return text if found == plain else found


def personal(*texts: str) -> tuple[str, ...]:
    """The types of personal data and secrets that stand in the texts; none in those that went through redaction."""
    found: set[str] = set()

    def note(type: str, value: str) -> str:
        found.add(type)
        return f"[{type}_000000]"

    for text in texts:
        redacted(text, note)
    return tuple(sorted(found))


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
        if text[end - 1] not in " -" and _checks(text[:end]) and iban.is_valid(text[:end]):
            following = m.string[m.start() + end : m.start() + end + 1]
            if end == len(text) and following.isalnum():
                continue
            return replace("IBAN", iban.compact(text[:end])) + text[end:]
    return text


def _checks(iban: str) -> bool:
    """Whether its check digits are right: most of what looks like one fails here, at a tenth of the cost."""
    compact = iban.replace(" ", "").replace("-", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _card(m: re.Match[str], replace: Replace) -> str:
    from stdnum import luhn

    digits = re.sub(r"\D", "", m[0])
    known = digits[0] in "23456" and len(set(digits)) > 1
    return replace("CARD", digits) if known and 13 <= len(digits) <= 19 and luhn.is_valid(digits) else m[0]


def _national(m: re.Match[str], authority: str, replace: Replace) -> str:
    from importlib import import_module

    value = m.groupdict().get("value") or m[0]
    module = import_module(f"stdnum.{authority}") if authority else None
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
    # `a::b` is a name in half of the programming languages; an address that people write has a digit or three groups.
    groups = [group for group in m[0].split(":") if group]
    telling = any(c.isdigit() for c in m[0]) or len(groups) > 2
    return replace("IP", str(address)) if len(m[0]) >= 4 and groups and telling else m[0]


def _blob(m: re.Match[str], replace: Replace) -> str:
    """Base64 that holds a text with personal data in it goes whole."""
    try:
        decoded = base64.b64decode(m[0] + "=" * (-len(m[0]) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return m[0]
    inner = redacted(decoded, replace, deep=False)
    return m[0] if inner == decoded or not decoded.isprintable() else replace("ENCODED", m[0])
