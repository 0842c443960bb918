"""A labelled corpus of personal data and secrets as people write them, made anew from a seed: (text, [(type, value)]).

Values are valid where the type has a check digit, and belong to nobody: reserved domains, example number ranges, documented
test numbers, random keys. The other half are look-alikes that must stay: order numbers, versions, times, prices, hashes.
"""
# ruff: noqa: E501 (tables of shapes, one line a group)

from __future__ import annotations

import base64
import hashlib
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass

from stdnum import luhn
from stdnum.br import cpf
from stdnum.es import dni
from stdnum.iso7064 import mod_97_10

HEX = "0123456789abcdef"
NAMES = ("kim", "ana.souza", "j.o-brien", "li_wei", "müller", "o'neil", "anna+orders", "x", "first.middle.last", "info")
DOMAINS = ("example.org", "mail.example.com", "example.co.uk", "sub.sub2.example.net", "exämple.org", "example.museum")
CARRIERS = {
    "EMAIL": ("write to {}", "My mail is {}.", "<{}>", "Contact:{};", "{} hat geschrieben", "mailto:{}", "(cc {})", "{}"),
    "PHONE": ("call me at {}", "Tel. {}", "my number is {}", "ruf {} an", "WhatsApp {} please", "phone: {}", "({})"),
    "IBAN": ("IBAN {}", "refund it to {} please", "meine IBAN ist {}.", "account {}, thanks", "{}"),
    "CARD": ("the card was {}", "charged {} twice", "Kartennummer: {}", "{} exp 12/29", "card no. {}."),
    "IP": ("from {} it failed", "client={}", "host {} refused", "[{}]", "ping {}"),
    "ID": ("my SSN is {}", "tax id {}", "it is {}.", "number {} on the form", "ID: {}"),
    "JWT": ("token {}", "eyJ? {}", "sent {} in the header", "{}"),
    "KEY": ("key {}", "OPENAI_API_KEY={}", "it says {} is invalid", "{}", "use `{}`"),
    "SECRET": ("{}", "curl -H '{}'", "error: {} was refused", "I typed {}"),
}


@dataclass(frozen=True)
class Labelled:
    """A text, and what in it must not be kept. `kind` is '' for a look-alike."""

    text: str
    kind: str
    value: str


def corpus(seed: int = 1, of_each: int = 300) -> Iterator[Labelled]:
    rng = random.Random(seed)
    for kind, make in MAKERS.items():
        for _ in range(of_each):
            shown, value = _shown(make(rng))
            yield Labelled(rng.choice(CARRIERS[kind]).replace("{}", shown), kind, value)
    for _ in range(of_each * 3):
        yield Labelled(look_alike(rng), "", "")


def _shown(made: str | tuple[str, str]) -> tuple[str, str]:
    """What is written, and what of it must not be kept."""
    return made if isinstance(made, tuple) else (made, made)


def _digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(n))


def _token(rng: random.Random, n: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choice(alphabet) for _ in range(n))


def email(rng: random.Random) -> str:
    name, domain = rng.choice(NAMES) + rng.choice(("", str(rng.randrange(1000)))), rng.choice(DOMAINS)
    shape = rng.random()
    if shape < 0.05:
        return f"{name} [at] {domain.replace('.', ' [dot] ')}" if domain.isascii() and "'" not in name else f"{name}@{domain}"
    if shape < 0.1:
        return f"{name}%40{domain}"
    return (f"{name}@{domain}").upper() if shape < 0.15 else f"{name}@{domain}"


def phone(rng: random.Random) -> str:
    d = lambda n: _digits(rng, n)  # noqa: E731
    return rng.choice((
        f"+49 30 {rng.randrange(2, 9)}{d(6)}", f"+4917{rng.randrange(0, 9)}{d(7)}", f"+1 212 555 01{d(2)}", f"(415) 555-01{d(2)}",
        f"+1-650-555-01{d(2)}", f"212-555-01{d(2)}", f"+44 20 7946 0{d(3)}", f"+44 (0)20 7946 0{d(3)}", f"020 7946 0{d(3)}",
        f"030/{rng.randrange(2, 9)}{d(6)}", f"0171 {rng.randrange(2, 9)}{d(6)}", f"0151-{rng.randrange(2, 9)}{d(7)}",
        f"01 23 45 {d(2)} {d(2)}", f"+33 1 23 45 {d(2)} {d(2)}", f"+55 11 9{d(4)}-{d(4)}", f"+91 98{d(3)} {d(5)}", f"+81-3-1234-{d(4)}",
        f"0049 89 {rng.randrange(2, 9)}{d(6)}", f"+34 6{d(2)} {d(3)} {d(3)}", f"+86 138 {d(4)} {d(4)}",
    ))  # fmt: skip


def iban(rng: random.Random) -> str:
    country, length = rng.choice((("DE", 18), ("GB", 0), ("FR", 23), ("ES", 20), ("NL", 0), ("AT", 16), ("CH", 17), ("PL", 24)))
    body = {"GB": "WEST" + _digits(rng, 14), "NL": "ABNA" + _digits(rng, 10)}.get(country) or _digits(rng, length)
    if country == "ES":  # it has check digits of its own, which some validators compute
        from stdnum.es import ccc

        account = _digits(rng, 4) + _digits(rng, 4) + "00" + _digits(rng, 10)
        body = account[:8] + ccc.calc_check_digits(account) + account[10:]
    number = country + mod_97_10.calc_check_digits(body + country) + body
    spaced = " ".join(number[n : n + 4] for n in range(0, len(number), 4))
    return rng.choice((number, spaced, spaced, number.lower()))


def card(rng: random.Random) -> str:
    prefix, length = rng.choice((("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16)))
    number = prefix + _digits(rng, length - len(prefix) - 1)
    number += luhn.calc_check_digit(number)
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return rng.choice((number, " ".join(parts), "-".join(parts)))


def ip(rng: random.Random) -> str:
    four = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    six = rng.choice((f"2001:db8:{_token(rng, 4, HEX)}::{_token(rng, 4, HEX)}", f"fe80::{_token(rng, 4, HEX)}:{_token(rng, 4, HEX)}",
                      ":".join(["2001", "db8", *[_token(rng, 4, HEX) for _ in range(6)]])))  # fmt: skip
    return rng.choice((four, four, six))


def national(rng: random.Random) -> str:
    d = lambda n: _digits(rng, n)  # noqa: E731
    nine = d(9)
    first = next(f"{nine}{n:02}" for n in range(100) if cpf.is_valid(f"{nine}{n:02}"))
    number = d(8)
    return rng.choice((
        f"{rng.randrange(1, 665):03}-{rng.randrange(1, 99):02}-{rng.randrange(1, 9999):04}",
        f"{first[:3]}.{first[3:6]}.{first[6:9]}-{first[9:]}",
        number + dni.calc_check_digit(number),
        f"AB {d(2)} {d(2)} {d(2)} C",
        "RSSMRA85T10A562S",
        f"ABCPE{d(4)}F",
    ))  # fmt: skip


def jwt(rng: random.Random) -> str:
    pack = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()  # noqa: E731
    head, body = b'{"alg":"HS256","typ":"JWT"}', f'{{"sub":"{rng.randrange(10**9)}","iat":1767614400}}'.encode()
    return f"{pack(head)}.{pack(body)}.{pack(hashlib.sha256(body).digest())}"


def key(rng: random.Random) -> str:
    t = lambda n: _token(rng, n)  # noqa: E731
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{t(64)}\n{t(64)}\n{t(20)}==\n-----END RSA PRIVATE KEY-----"
    return rng.choice((
        f"sk-{t(48)}", f"sk-proj-{t(40)}", f"sk-ant-api03-{t(60)}", f"AKIA{_token(rng, 16, string.ascii_uppercase + string.digits)}",
        f"ghp_{t(36)}", f"github_pat_{t(40)}", f"xoxb-{_digits(rng, 12)}-{t(24)}", f"AIza{t(35)}", f"hf_{t(34)}", f"glpat-{t(20)}",
        f"sk_live_{t(24)}", f"npm_{t(36)}", pem, f"sk-lf-{t(8)}-{t(4)}-{t(4)}-{t(12)}", f"SG.{t(22)}.{t(43)}",
    ))  # fmt: skip


def secret(rng: random.Random) -> tuple[str, str]:
    value = _token(rng, rng.randrange(12, 40)) + str(rng.randrange(10))
    if rng.random() < 0.1:
        value = base64.b64encode(f"kim:{value}".encode()).decode()
        return f"authorization: basic {value}", value
    shape = rng.choice((
        "Authorization: Bearer {}", "X-Api-Key: {}", "password={}", '"api_key": "{}"', "client_secret={}", "Cookie: session={}",
        "my password is {}", "https://kim:{}@example.org/x", "AWS_SECRET_ACCESS_KEY={}", "access_token={}", "auth_token: {}",
    ))  # fmt: skip
    return shape.replace("{}", value), value


def look_alike(rng: random.Random) -> str:
    d = lambda n: _digits(rng, n)  # noqa: E731
    return rng.choice((
        f"order {rng.randrange(10, 99)}-{d(3)}", f"invoice 2026-{d(5)}", f"version {rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(9)}",
        f"at 12:{rng.randrange(10, 60)}:{rng.randrange(10, 60)} on 2026-01-{rng.randrange(10, 28)}", f"{d(3)}.{d(2)} EUR", f"commit {_token(rng, 40, HEX)}",
        f"{_token(rng, 8, HEX)}-{_token(rng, 4, HEX)}-4{_token(rng, 3, HEX)}-a{_token(rng, 3, HEX)}-{_token(rng, 12, HEX)}", f"tracking {_token(rng, 10, string.ascii_uppercase)}",
        f"ISBN 978-3-16-{d(6)}-0", f"{rng.randrange(10**6):,} rows", f"section {rng.randrange(9)}.{rng.randrange(9)}.{rng.randrange(9)}", f"@{_token(rng, 6).lower()} said so",
        f"temperature: 0.{d(2)}, top_p: 0.{d(2)}", "the token limit is 4096 tokens", "your password must have 8 characters", f"ticket #{d(7)}",
        f"{d(4)}x{d(4)} px", f"sku {d(3)}-{d(4)}", "std::vector<int> x; a::b()", f"page {d(3)} of {d(3)}", f"error 0x{_token(rng, 8, HEX)}", f"the year {rng.randrange(1900, 2026)} and 1999-2024",
        f"resp-{d(9)}", f"lat 48.{d(6)}, lon 11.{d(6)}", "secret santa is on friday", "reset my password please", f"postcode {d(5)}",
    ))  # fmt: skip


MAKERS = {
    "EMAIL": email, "PHONE": phone, "IBAN": iban, "CARD": card, "IP": ip, "ID": national, "JWT": jwt, "KEY": key, "SECRET": secret,
}  # fmt: skip
