"""Real stores on loopback: an S3 API over HTTP (moto's server) and an SSH machine with SFTP (asyncssh)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "of-this-test", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


HEEDLESS = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication as App
heeding = App.__call__
App.__call__ = lambda app, environ, start: heeding(app, {k: v for k, v in environ.items() if k != "HTTP_IF_NONE_MATCH"}, start)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def s3(log: Path, bucket: str = "snapshots", host: str = "127.0.0.1", heedless: bool = False) -> Iterator[str]:
    """The address of a real HTTP server that speaks S3, in a process of its own, with one bucket. One that is `heedless` takes an
    object that must not be there yet all the same, as stores did for twenty years."""
    port = free_port()
    url = f"http://{host}:{port}"
    start = f"from moto.server import main; main(['-H', '{host}', '-p', '{port}'])"
    command = [sys.executable, "-c", HEEDLESS + start if heedless else start]
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(300):
            assert server.poll() is None, log.read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{url}/moto-api/", timeout=2).close()
                break
            time.sleep(0.1)
        client = s3_client(url)
        client.create_bucket(Bucket=bucket)
        yield url
    finally:
        server.terminate()
        server.wait()


def s3_objects(url: str, bucket: str = "snapshots") -> dict[str, int]:
    """The size of every object of the bucket."""
    pages = s3_client(url).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}


def s3_get(place: str) -> dict[str, bytes]:
    """Every object below s3://BUCKET/PATH at AWS_ENDPOINT_URL, with its bytes: an independent look."""
    bucket, _, path = place.removeprefix("s3://").partition("/")
    client = s3_client(os.environ["AWS_ENDPOINT_URL"])
    found = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=path)
    keys = [o["Key"] for page in found for o in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def s3_client(url: str):
    import boto3

    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"], region_name=KEYS["AWS_DEFAULT_REGION"],
    )  # fmt: skip


@contextlib.contextmanager
def ssh(root: Path) -> Iterator[tuple[int, Path]]:
    """The port of an SSH server whose SFTP shows `root` only, and the private key that it lets in."""
    import asyncssh

    keys = root.parent / "keys"
    keys.mkdir()
    for name in ("host", "user"):
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(keys / name))
    (keys / "authorized").write_bytes(asyncssh.read_private_key(str(keys / "user")).export_public_key())
    (keys / "user").chmod(0o600)
    started, ended, port = threading.Event(), threading.Event(), free_port()

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1", port, server_host_keys=[str(keys / "host")], authorized_client_keys=str(keys / "authorized"),
            sftp_factory=lambda chan: asyncssh.SFTPServer(chan, chroot=str(root).encode()), allow_scp=False,
        )  # fmt: skip
        started.set()
        while not ended.is_set():
            await asyncio.sleep(0.05)
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield port, keys / "user"
    finally:
        ended.set()
        thread.join(30)
