"""The dataset for catalogues: Croissant 1.0 (docs.mlcommons.org/croissant/docs/croissant-spec.html), over the Parquet shards.

    {"@type": "cr:RecordSet", "@id": "sft-train", "field": [{"@id": "sft-train/weight", "dataType": "sc:Float", …}, …]}
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.card.facts import AboutParams, Dataset, Part
from tasks.records import canonical, digest

TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}
WORDS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
    "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
    "samplingRate", "separator", "source", "subField", "transform",
)
# The context that the specification gives, of which a validator wants every word.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    word: f"cr:{word}"
    for word in WORDS
}


def croissant(dataset: Dataset, about: AboutParams) -> dict[str, Any]:
    """The document, of the parts that hold a row. Its version is that of the content, its date that of the newest row."""
    version = digest(canonical([[p.table, p.side, p.content] for p in dataset.full]))[:12]
    newest = max((p.arrived[1] for p in dataset.full), default=0)
    dated = {"datePublished": datetime.fromtimestamp(newest / 1e6, UTC).date().isoformat()} if newest else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.name,
        "description": about.description or f"Post-training data: {dataset.rows} rows in {len(dataset.full)} tables.",
        "license": about.license_link or about.license,
        "url": about.source or "data/dataset",
        "version": f"1.0.0+{version}",
        "citeAs": f"{about.name}, content {version}",
        **dated,
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"parquet/{p.side}/{p.table}",
                "name": f"parquet/{p.side}/{p.table}",
                "includes": f"parquet/{p.side}/{p.table}/*.parquet",
                "encodingFormat": "application/x-parquet",
            }
            for p in dataset.full
        ],
        "recordSet": [_records(p) for p in dataset.full],
    }


def _records(part: Part) -> dict[str, Any]:
    name = f"{part.table}-{part.side}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/{next(iter(part.columns))}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": TYPES[kind],
                "source": {
                    "fileSet": {"@id": f"parquet/{part.side}/{part.table}"},
                    "extract": {"column": column},
                },
            }
            for column, kind in part.columns.items()
        ],
    }
