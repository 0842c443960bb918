"""One table's folder, on the disk or in a bucket: its files, and the Delta log that says which of them count. The door to Delta.

A file is written once, under a name of its own, and never changed. A commit is one object of the log, put only if nobody else put
it first (a link on the disk, a conditional PUT in a bucket): of two writers one repeats, and neither loses a commit.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote, urlencode

import orjson
import pyarrow as pa
import pyarrow.fs as pf
from deltalake import ColumnProperties, DeltaTable, Schema, WriterProperties
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from tasks.errors import Refused
from tasks.live.lake.tables import LEVEL
from tasks.live.lake.versions import check

S3 = "s3://"
# A store that does not answer must be told of within a minute; the client's own patience is three.
PATIENCE = {"connect_timeout": "10 seconds", "timeout": "60 seconds", "max_retries": "5", "retry_timeout": "60 seconds"}
TRIAL = ".trial-"
JOINED = "part-"  # how Delta names what it writes itself
COMPACTED_BYTES = 256 * 1024 * 1024
ROWS_IN_A_GROUP = 16_384  # as capture writes them, about: whoever streams a table holds a few groups at a time

Made = dict[str, tuple[int, int]]  # name of a file -> its bytes and rows


def is_bucket(lake: Path | str) -> bool:
    return str(lake).startswith(S3)


class Folder:
    """The folder of `table` in the lake at `lake`, a path or s3://BUCKET/PATH. Nothing is created by looking."""

    def __init__(self, lake: Path | str, table: str):
        self.lake, self.table = lake, table
        self.at = f"{lake}/{table}"
        self.bucket = is_bucket(lake)
        self.options = _options() if self.bucket else None

    @cached_property
    def files(self) -> pf.FileSystem:
        """Its files by their names."""
        if self.bucket:
            return pf.SubTreeFileSystem(self.at.removeprefix(S3), _store(*_endpoint()))
        return pf.SubTreeFileSystem(self.at, pf.LocalFileSystem())

    def uri(self, name: str) -> str:
        """The path of a file; of one in a bucket the URI by which Arrow finds the store. Keys are left to the environment."""
        if not self.bucket:
            return f"{self.at}/{name}"
        endpoint, region = _endpoint()
        scheme, _, host = endpoint.rpartition("://")
        store = {"region": region, "scheme": scheme or "https"} | ({"endpoint_override": host} if host else {})
        return f"{self.at}/{name}?{urlencode(store)}"

    def make(self) -> None:
        if not self.bucket:
            Path(self.at).mkdir(parents=True, exist_ok=True)

    def delta(self, of_any_version: bool = False) -> DeltaTable | None:
        """The table as it is now; None where nobody wrote one. Raises Refused where another version of the loop did."""
        with self._answering():
            try:
                table = DeltaTable(self.at, storage_options=self.options)
            except TableNotFoundError:
                return None
        if not of_any_version:
            check(self.table, schema_of(table))
        return table

    def exists(self) -> bool:
        with self._answering():
            return DeltaTable.is_deltatable(self.at, self.options)

    def names(self) -> list[str]:
        """The files that count now."""
        return names_of(self.delta())

    def all_files(self) -> list[pf.FileInfo]:
        """Every file of rows that lies here, whether it counts or not."""
        if not self.bucket and not Path(self.at).is_dir():
            return []
        with self._answering():
            found = self.files.get_file_info(pf.FileSelector("", allow_not_found=True))
        return sorted((f for f in found if f.base_name.endswith(".parquet")), key=lambda f: f.base_name)

    def ever_named(self) -> set[str]:
        """The files that any version names which its log still has: earlier versions stay readable until `vacuum`."""
        named = set(self.names())
        with self._answering():
            logs = self.files.get_file_info(pf.FileSelector("_delta_log", allow_not_found=True))
            for log in (f for f in logs if f.base_name.endswith(".json")):
                for action in map(orjson.loads, filter(None, self.files.open_input_stream(log.path).readall().splitlines())):
                    named |= {unquote(action[kind]["path"]) for kind in ("add", "remove") if kind in action}
        return named

    def commit(self, made: Made, schema: pa.Schema) -> None:
        """Files join the table, all or nothing. Raises OSError."""
        table, adds = self.delta(), _adds(made)
        try:
            if table is None and not self._created(adds, schema):
                table = self.delta()
            if table is not None:
                table.create_write_transaction(adds, mode="append", schema=Schema.from_arrow(schema))
        except DeltaError as e:
            raise OSError(f"{self.at}: {e}") from e

    def _created(self, adds: list[AddAction], schema: pa.Schema) -> bool:
        """False where somebody else created the table at the same moment."""
        self._prove_conditional_puts()
        try:
            create_table_with_add_actions(
                self.at, Schema.from_arrow(schema), adds, mode="append", storage_options=self.options
            )
        except DeltaError:
            if self.delta() is None:
                raise
            return False
        return True

    def exchange(self, table: DeltaTable, gone: set[str], made: Made, schema: pa.Schema) -> None:
        """Files take the place of those of `gone`, as they were read from `table`, in one commit. Raises OSError.

        Whoever appended meanwhile keeps what was appended; where one of `gone` has left meanwhile nothing is done.
        """
        now, before = time.time_ns() // 1_000_000, table.version()
        removes = [RemoveAction(name, True, now, size, {}) for name, size in _named(table) if name in gone]
        try:
            table.create_write_transaction([*removes, *_adds(made)], mode="append", schema=Schema.from_arrow(schema))
        except DeltaError as e:
            raise OSError(f"{self.at}: {e}") from e
        if not self.bucket:
            now_at = self.delta().version()
            self._sync([*made, *(f"_delta_log/{version:020d}.json" for version in range(before + 1, now_at + 1))])

    def replace(self, fresh: Folder, schema: pa.Schema) -> None:
        """The files of another folder in the place of all of these, in one commit."""
        other = fresh.delta()
        actions = other.get_add_actions(flatten=True) if other else None
        rows = dict(zip(_column(actions, "path"), _column(actions, "num_records"), strict=True)) if actions else {}
        table = self.delta()
        if table is None and not rows:
            return
        self.make()
        made = {name: (self._take(fresh, name), rows[name]) for name in sorted(rows)}
        if table is None:
            self.commit(made, schema)
        else:
            self.exchange(table, set(names_of(table)), made, schema)

    def renew(self, table: DeltaTable, made: Made, schema: pa.Schema) -> None:
        """Files take the place of all those of `table`, under another schema, in one commit. For who alone writes it."""
        before = table.version()
        table.create_write_transaction(_adds(made), mode="overwrite", schema=Schema.from_arrow(schema))
        if not self.bucket:
            self._sync([*made, f"_delta_log/{before + 1:020d}.json"])

    def compact(self, unlike: set[str]) -> int:
        """Join small files into large ones, in one commit; returns how many fewer there are. What was read stays where it is. For
        who alone joins files of this table."""
        table = self.delta()
        if table is None:
            return 0
        self._sweep_joined(names_of(table))
        # Without statistics: Delta would copy the least and the greatest text of each column into its log, where no erasure looks.
        how = WriterProperties(
            compression="ZSTD", compression_level=LEVEL, max_row_group_size=ROWS_IN_A_GROUP,
            default_column_properties=ColumnProperties(statistics_enabled="NONE"),
            column_properties={c: ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE") for c in sorted(unlike)},
        )  # fmt: skip
        with self._answering():
            done = table.optimize.compact(target_size=COMPACTED_BYTES, max_concurrent_tasks=1, writer_properties=how)
            if done["numFilesRemoved"]:
                table.create_checkpoint()  # whoever opens the table reads this, and not the log of every append
        return done["numFilesRemoved"] - done["numFilesAdded"]

    def _sweep_joined(self, now: list[str]) -> None:
        """What a process that died had joined and not committed."""
        left = {f.base_name for f in self.all_files() if f.base_name.startswith(JOINED)} - set(now)
        for name in left - self.ever_named() if left else ():
            self.files.delete_file(name)

    def vacuum(self, older_than_s: float = 0) -> int:
        """Delete the files that have not counted for so long; returns how many. With 0, for who alone writes the table, that is
        every other file of rows in the folder."""
        table = self.delta()
        if table is None:
            return 0
        if older_than_s:
            with self._answering():
                hours = math.ceil(older_than_s / 3600)
                gone = table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
            return len(gone)
        named = set(names_of(table))
        gone = [f for f in self.all_files() if f.base_name not in named]
        for file in gone:
            self.files.delete_file(file.path)
        return len(gone)

    def _take(self, fresh: Folder, name: str) -> int:
        """Another folder's file, here; its size."""
        size = fresh.files.get_file_info(name).size
        if not self.bucket and not fresh.bucket:
            Path(fresh.at, name).rename(Path(self.at, name))
        else:
            with fresh.files.open_input_stream(name) as source, self.files.open_output_stream(name) as target:
                shutil.copyfileobj(source, target, 8 << 20)
        return size

    def _sync(self, names: list[str]) -> None:
        """On the disk, before the files that these replace are deleted: Delta itself leaves that to the system."""
        here = Path(self.at)
        for path in [here, here / "_delta_log", *(here / n for n in names if (here / n).exists())]:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _prove_conditional_puts(self) -> None:
        """Before the first table of a lake is made in a bucket: what must not be there yet is not put a second time.

        Where it is, one of two commits at once would be lost, and nobody would ever know. Raises Refused.
        """
        if not self.bucket:
            return
        bucket, _, path = str(self.lake).removeprefix(S3).partition("/")
        beside = _store(*_endpoint()).get_file_info(pf.FileSelector(f"{bucket}/{path}", allow_not_found=True))
        if any(f.base_name != self.table and not f.base_name.startswith(TRIAL) for f in beside):
            return  # proved when that table was made
        try:
            import boto3
            from botocore.exceptions import ClientError
        except ImportError:
            raise Refused(f"a lake at {S3} needs boto3, to try the store", 'pip install "flywheel[servers]"') from None
        # Not by Delta's client: it looks first whether somebody was faster, and so would not try.
        client, key = boto3.client("s3", region_name=_endpoint()[1]), f"{path}/{TRIAL}{uuid.uuid4()}"
        try:
            for _ in range(2):
                client.put_object(Bucket=bucket, Key=key, Body=b"may be deleted", IfNoneMatch="*")
        except ClientError as e:
            if e.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return  # it refused the second, as it should
            raise Refused(f"the lake at {self.lake} takes no object: {e}", _look_at(self.lake), 1) from None
        finally:
            client.delete_object(Bucket=bucket, Key=key)
        raise Refused(
            f"the store of {self.lake} takes two objects of one name (it ignores If-None-Match): of two writers one would lose its"
            " rows",
            "use a store with conditional writes (AWS S3, MinIO, Ceph from Squid on, R2), or a folder (unset FLYWHEEL_LAKE)",
        )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """What a store says, in a word; the disk speaks for itself."""
        try:
            yield
        except (OSError, DeltaError) as e:
            if not self.bucket or isinstance(e, TableNotFoundError):
                raise
            raise Refused(f"the lake at {self.lake} does not answer: {_in_a_word(e)}", _look_at(self.lake), 1) from e


def names_of(table: DeltaTable | None) -> list[str]:
    return [unquote(uri).rpartition("/")[2] for uri in table.file_uris()] if table else []


def schema_of(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def _options() -> dict[str, str]:
    """Keys and region come from AWS_* by themselves. An address without TLS must be allowed, and is meant where it is given."""
    endpoint, _ = _endpoint()
    found = {"endpoint_url": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()} if endpoint else {}
    return PATIENCE | {"conditional_put": "etag"} | found


def _endpoint() -> tuple[str, str]:
    """The address of the store ('' is Amazon's own) and the region, as every client of Amazon's takes them."""
    given = os.environ.get
    return (
        given("AWS_ENDPOINT_URL_S3") or given("AWS_ENDPOINT_URL") or "",
        given("AWS_REGION") or given("AWS_DEFAULT_REGION") or "us-east-1",
    )


@cache
def _store(endpoint: str, region: str) -> pf.FileSystem:
    """Arrow's own client, for the files: Delta's takes only some of what Arrow writes, and is for the log."""
    scheme, _, host = endpoint.rpartition("://")
    return pf.S3FileSystem(
        endpoint_override=host or None, scheme=scheme or "https", region=region, connect_timeout=10, request_timeout=60
    )


def _adds(made: Made) -> list[AddAction]:
    now = time.time_ns() // 1_000_000
    return [
        AddAction(name, size, {}, now, data_change=True, stats=orjson.dumps({"numRecords": rows}).decode())
        for name, (size, rows) in made.items()
    ]


def _named(table: DeltaTable) -> list[tuple[str, int]]:
    actions = table.get_add_actions(flatten=True)
    return list(zip(_column(actions, "path"), _column(actions, "size_bytes"), strict=True))


def _column(actions: object, name: str) -> list:
    return pa.table(actions)[name].to_pylist()


def _in_a_word(error: Exception) -> str:
    """The last line of a chain of causes that is a sentence, without the arrows and colours that it is drawn with."""
    lines = [re.sub(r"\x1b\[[0-9;]*m|↳", "", line).strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if len(line) > 8), type(error).__name__)[:300]


def _look_at(lake: Path | str) -> str:
    bucket = str(lake).removeprefix(S3).partition("/")[0]
    return (
        f"aws s3 ls s3://{bucket} (with the same AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) must list it; what"
        " was stored so far is kept"
    )
