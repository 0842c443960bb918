"""Versions that are known to break the loop, or to be open to an attack, each as measured or published.

Bad("fastapi", ">=0.155", "<0.151", "Prefect's server does not start …", breaks=True)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Bad:
    """`versions` are bad, `wanted` is what to install instead; `breaks`: the loop does not work with it."""

    name: str
    versions: str
    wanted: str
    why: str
    breaks: bool = False


KNOWN_BAD = (
    Bad("fastapi", ">=0.151", "<0.151", "from 0.155 on no flow and no server of Prefect starts", True),
    Bad("sqlalchemy", ">=2.1", "<2.1", "Prefect's schedules create no runs, and nothing says so", True),
    Bad("duckdb", ">=2", "<2", "results have other methods, and ~ and division by zero mean something else", True),
    Bad("prefect", "<3.8.8", ">=3.8.8,<4", "older than what is tested", True),
    Bad("mlflow", "<3.17", ">=3.17,<4", "older than what is tested", True),
    Bad("dvc", "<3.67", ">=3.67,<4", "older than what is tested", True),
    Bad("mlflow", "<3.8", ">=3.17,<4", "CVE-2026-2033: whoever reaches its server runs code on it"),
    Bad("mlflow", "<3.9", ">=3.17,<4", "CVE-2025-15031: an archive of an artifact writes where it likes"),
    Bad("mlflow", "<3.10", ">=3.17,<4", "CVE-2026-2614: whoever reaches its server reads any file of it"),
    Bad("prefect", "<=3.6.13", ">=3.8.8,<4", "CVE-2026-7723: events are taken without a password"),
    Bad("prefect", "<3.6.22", ">=3.8.8,<4", "CVE-2026-3514: a path that ends in `health` needs no password"),
    Bad("pyarrow", "<14.0.1", ">=16", "CVE-2023-47248: a Parquet file runs code"),
    Bad("duckdb", "<1.1", ">=1.5.4,<2", "CVE-2024-41672: a query reads files that it must not"),
    Bad("label-studio", "<1.8.2", ">=1.23", "CVE-2023-43791: its sessions are signed with a key that everybody knows"),
    Bad("label-studio", "<1.11", ">=1.23", "CVE-2024-26152: a text that is shown to people runs as a script"),
    Bad("langsmith", "<0.6.3", ">=0.6.3", "CVE-2026-25528: an address in a log is called"),
)  # fmt: skip


def known_bad(here: Mapping[str, str]) -> Iterator[tuple[Bad, str]]:
    """Which of these versions are, by name."""
    from packaging.specifiers import SpecifierSet

    for bad in KNOWN_BAD:
        version = here.get(bad.name)
        if version and SpecifierSet(bad.versions).contains(version, prereleases=True):
            yield bad, version


def installed() -> dict[str, str]:
    """What is installed of the packages of this list, read from their metadata without importing any."""
    found = {}
    for name in sorted({bad.name for bad in KNOWN_BAD}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
