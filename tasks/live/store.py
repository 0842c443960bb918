"""Where the data of snapshots lies: DVC's cache on this machine and its remote, a folder, an S3-compatible store or a machine
behind SSH.

    configure(workspace, "s3://bucket/flywheel", ["endpointurl=http://minio:9000"])
    push(workspace, "snapshot-3f9c2a1b")      -> "" or why it could not be pushed; then it is tried again at the next snapshot
    files(workspace, commit, "data/dataset")  -> {"parquet/train/sft/….parquet": "9e107d9d…", …}, each to be had by `fetch`
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import yaml

from tasks.errors import Refused
from tasks.live.repository import TAG, dvc, git
from tasks.live.workspace import Workspace, write_durably

NAME = "store"
# What DVC needs for an address, and the extra that brings it.
PACKAGES = {"s3": ("dvc_s3", "s3"), "ssh": ("dvc_ssh", "ssh")}
# These never come into .dvc/config, which is committed.
SECRET = {"access_key_id", "secret_access_key", "session_token", "password", "passphrase", "sse_customer_key"}
# A store that doesn't answer must not hold a turn up for the half hour that is the default of some.
PATIENCE = {"s3": {"connect_timeout": 10, "read_timeout": 60}, "ssh": {"timeout": 30}}
ERASED = "its data is gone from the cache and from the remote: erased at a person's request, or collected as garbage"


def check(url: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The remote's section of DVC's configuration. Raises Refused where it names a secret or needs what is not installed."""
    parts = urlsplit(url)
    if not parts.scheme and url:
        url = str(Path(url).resolve())  # DVC would take it from its own folder on
    if parts.scheme in PACKAGES:
        package, extra = PACKAGES[parts.scheme]
        if importlib.util.find_spec(package) is None:
            raise Refused(f"a remote at {parts.scheme}:// needs {package.replace('_', '-')}", f'pip install "flywheel[{extra}]"')
    if parts.password:
        raise Refused("the address of the remote holds a password, and would be committed", _keep_secret("password"))
    section: dict[str, Any] = {"url": url, **PATIENCE.get(parts.scheme, {})}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise Refused(f"{setting!r} is no setting of a remote", "write KEY=VALUE, as endpointurl=http://127.0.0.1:9000")
        if key in SECRET:
            raise Refused(f"{key} is a secret, and .dvc/config is committed", _keep_secret(key))
        section[key] = value
    return section


def configure(workspace: Workspace, url: str, settings: Sequence[str] = ()) -> None:
    """Make the remote at `url` the one that snapshots are pushed to; the caller commits .dvc/config."""
    from dvc.config import ConfigError

    section = check(url, settings)
    try:
        with dvc(workspace) as repo, repo.config.edit("repo") as config:
            config["remote"] = {NAME: section}
            config["core"]["remote"] = NAME
    except ConfigError as e:
        raise Refused(f"DVC takes no such remote: {e}", "dvc remote modify --help lists the settings") from None


def push(workspace: Workspace, tag: str) -> str:
    """Push what the work tree pins, of the snapshot to be called `tag`, and what earlier ones still owe.

    Returns '' or why the remote did not take it. Until it did, the tag stays among `pending`, also where this process dies.
    """
    owed = pending(workspace)
    owe(workspace, [*owed, *([tag] if tag not in owed else [])])
    return _push(workspace, owed, work_tree=True)


def push_pending(workspace: Workspace) -> str:
    """Push what earlier snapshots owe the remote; '' where nothing is left."""
    owed = pending(workspace)
    return _push(workspace, owed, work_tree=False) if owed else ""


def pending(workspace: Workspace) -> list[str]:
    """The snapshots of which the remote may not hold everything."""
    note = _note(workspace)
    return orjson.loads(note.read_bytes()) if note.is_file() else []


def files(workspace: Workspace, commit: str, folder: str) -> dict[str, str]:
    """The files that a commit pins in an output of a stage, by their path in it, with the digest that `fetch` takes."""
    pinned = outputs(git(workspace.root, "show", f"{commit}:dvc.lock"))
    if folder not in pinned:
        return {}
    listing = pinned[folder]
    fetch(workspace, [listing])
    return {entry["relpath"]: entry["md5"] for entry in orjson.loads(cached(workspace, listing).read_bytes())}


def outputs(lock: str) -> dict[str, str]:
    """What a dvc.lock says of each output: its path and its digest."""
    stages = yaml.safe_load(lock)["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}


def fetch(workspace: Workspace, digests: Collection[str]) -> None:
    """Bring objects from the remote into the cache, where they are not there yet. Raises Refused where they are nowhere."""
    missing = [d for d in digests if not cached(workspace, d).is_file()]
    if not missing:
        return
    from dvc_data.hashfile.hash_info import HashInfo

    try:
        with dvc(workspace) as repo:
            repo.cloud.pull([HashInfo("md5", d) for d in missing])
    except Exception as e:  # whatever library speaks to the remote has its own errors
        raise Refused(f"the remote did not give {len(missing)} files: {_first_line(e)}", REACH) from None
    if gone := [d for d in missing if not cached(workspace, d).is_file()]:
        raise Refused(f"{len(gone)} of its files are missing, as {gone[0]}: {ERASED}", "compare with another snapshot")


def cached(workspace: Workspace, digest: str) -> Path:
    """Where an object lies in the cache of this machine."""
    return _cache(workspace) / digest[:2] / digest[2:]


@functools.cache
def _cache(workspace: Workspace) -> Path:
    with dvc(workspace) as repo:
        return Path(repo.cache.local.path)


REACH = "see that the remote (.dvc/config) can be reached and that the credentials are in the environment or .dvc/config.local"


def _push(workspace: Workspace, owed: Iterable[str], *, work_tree: bool) -> str:
    known = set(git(workspace.root, "tag", "--list", f"{TAG}*").split())
    revs = [t for t in owed if t in known]  # a turn may have died between its note and its tag
    try:
        with dvc(workspace) as repo:
            repo.push(revs=revs or None, workspace=work_tree)
    except Exception as e:  # whatever library speaks to the remote has its own errors, and none of them may cost the snapshot
        return _first_line(e)
    owe(workspace, [])
    return ""


def owe(workspace: Workspace, tags: list[str]) -> None:
    """Note which snapshots the remote is to be given yet."""
    note = _note(workspace)
    if tags:
        write_durably(note, orjson.dumps(tags))
    else:
        note.unlink(missing_ok=True)


def _note(workspace: Workspace) -> Path:
    return workspace.state / "unpushed.json"


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _keep_secret(key: str) -> str:
    return f"dvc remote modify --local {NAME} {key} …, which writes .dvc/config.local, or the environment (AWS_…, an SSH agent)"
