"""The Hugging Face hub: repositories' cached copies, and their download: resumed, checked, a line before it."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import logging
import os
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vace.errors import MissingWeights, OutputError

log = logging.getLogger("vace")

PROBE_SECONDS = 4.0
SILENCE_SECONDS = 20.0  # without a byte, after which a connection is made anew
ATTEMPTS = 3  # of going on after a broken connection that brought nothing
BLOCK = 1 << 20
# Everything a run reads, in either layout; samples, figures and other formats stay on the hub.
WANTED = (
    "*.json",
    "*.model",
    "*.safetensors",
    "models_t5_*.pth",
    "Wan2.1_VAE.pth",
)
TRANSFORMERS = ("*.json", "*.txt", "model*.safetensors")  # what a network in transformers' layout reads


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. sha256: of large files; oid: git's name for the content, which tells small ones."""

    path: str
    size: int
    sha256: str | None = None
    oid: str | None = None


def is_offline(no_download: bool = False) -> bool:
    """True where nothing may be fetched: asked by the caller, or by HF_HUB_OFFLINE."""
    return no_download or os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "TRUE", "YES", "ON"}


def endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def cached_folder(repo_id: str) -> Path | None:
    """The local copy of a hub repository in the hub cache, complete or not; None when there is none. Asks no server.

    Read from the cache's own layout: huggingface_hub calls a copy incomplete that lacks files nobody asked for.
    """
    base = _cached(repo_id)
    reference = base / "refs" / "main"
    if reference.is_file():
        folder = base / "snapshots" / reference.read_text().strip()
        return folder if folder.is_dir() else None
    copies = [folder for folder in (base / "snapshots").glob("*") if folder.is_dir()]
    return max(copies, key=lambda folder: folder.stat().st_mtime, default=None)


def cache() -> Path:
    """The folder of the hub cache, whether it is there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(repo_id: str) -> Path:
    return cache() / f"models--{repo_id.replace('/', '--')}"


@functools.lru_cache(maxsize=4)
def reachable(address: str) -> bool:
    """Whether a server answers at `address` at all. Found out once per process, in at most PROBE_SECONDS."""
    answers: list[bool] = []

    def probe() -> None:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "vace"})
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # it answered, if only to refuse a bare request
        except (OSError, ValueError):
            answers.append(False)

    # A thread, because looking a host name up obeys no timeout.
    worker = threading.Thread(target=probe, daemon=True)
    worker.start()
    worker.join(PROBE_SECONDS)
    return bool(answers and answers[0])


def download(repo_id: str, patterns: Sequence[str] = WANTED, *, folder: Path | None = None, note: str = "") -> Path:
    """Fetches the files of `repo_id` that match `patterns`, after one line with their size and `note`.

    folder: where to put them, under their paths in the repository; None for the hub cache. What an earlier attempt
    brought is gone on from, and every large file is compared with the hub's sha256. Returns the folder that holds them.
    Raises MissingWeights when the hub cannot be reached, lacks the repository or a file, breaks off, or when what came
    is not what it publishes; OutputError when there is no room.
    """
    advice = how_to_get(repo_id, patterns)
    address = endpoint()
    if not reachable(address):
        raise MissingWeights(f"{repo_id}: {address} cannot be reached from here; {advice}")
    from huggingface_hub.utils import filter_repo_objects

    try:
        commit, files = _published(address, repo_id)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise MissingWeights(f"{repo_id}: the download failed ({_reason(error)}); {advice}") from error
    wanted = list(filter_repo_objects(files, allow_patterns=list(patterns), key=lambda file: file.path))
    absent = sorted(set(_literal(patterns)) - {file.path for file in wanted})
    if absent or not wanted:
        raise MissingWeights(f"{repo_id}: the hub holds no {', '.join(absent or patterns)} there; {advice}")
    total = sum(file.size for file in wanted)
    count = f"{len(wanted)} file{'s' * (len(wanted) != 1)}"
    log.info("downloading %s: %s, %s%s", repo_id, count, size_text(total), f"; {note}" if note else "")
    return _fetch_all(address, repo_id, commit, wanted, patterns, folder)


def size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def command(repo_id: str, names: str = "") -> str:
    """The command line that gets a repository, or the files `names` of it, to where it is looked for."""
    return f"hf download {repo_id} {names}--local-dir models/{repo_id.partition('/')[2]}"


def how_to_get(repo_id: str, patterns: Sequence[str] = ()) -> str:
    """The end of a message about absent weights: the command that gets them, only the files that `patterns` name."""
    names = "".join(f"{path} " for path in _literal(patterns)) if not set(patterns) & set(WANTED) else ""
    return f"get it with: {command(repo_id, names)}"


def _literal(patterns: Iterable[str]) -> list[str]:
    """The patterns that name one file; those of WANTED fit layouts that a repository need not have."""
    return [pattern for pattern in patterns if not set(pattern) & set("*?[") and pattern not in WANTED]


def _published(address: str, repo_id: str) -> tuple[str, list[HubFile]]:
    """The newest commit of a repository and its files, as the hub tells them."""
    with _opened(f"{address}/api/models/{repo_id}?blobs=true", timeout=PROBE_SECONDS) as answer:
        told = json.load(answer)
    files = []
    for entry in told["siblings"]:
        path = PurePosixPath(entry["rfilename"])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"a file called {path}")
        sha256 = (entry.get("lfs") or {}).get("sha256")
        files.append(HubFile(str(path), int(entry.get("size") or 0), sha256, entry.get("blobId")))
    return told["sha"], files


def _opened(address: str, start: int = 0, timeout: float = SILENCE_SECONDS):
    from huggingface_hub import get_token

    request = urllib.request.Request(address, headers={"User-Agent": "vace"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    token = get_token()
    if token:  # for the hub itself only: the server it sends us on to must not see it
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return urllib.request.urlopen(request, timeout=timeout)


def _fetch_all(
    address: str, repo_id: str, commit: str, files: list[HubFile], patterns: Sequence[str], folder: Path | None
) -> Path:
    advice = how_to_get(repo_id, patterns)
    blobs = _cached(repo_id) / "blobs"
    # In the cache a large file is named by its sha256; the library then finds it there and makes the snapshot of it.
    targets = {file: folder / file.path if folder else blobs / str(file.sha256) for file in files}
    large = [file for file in files if folder or file.sha256]
    try:
        _check_space(sum(_to_come(targets[file], file) for file in large), folder or blobs)
        for file in large:
            url = f"{address}/{repo_id}/resolve/{commit}/{urllib.parse.quote(file.path)}"
            _fetch(url, targets[file], file)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MissingWeights(
            f"{repo_id}: the download failed ({_reason(error)}); run it again to go on, or {advice}"
        ) from error
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(patterns), endpoint=address))
    except Exception as error:  # by version, the library's transport raises classes of one package or another
        raise MissingWeights(f"{repo_id}: the download failed ({_reason(error)}); {advice}") from error


def _check_space(size: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OutputError(
            f"{folder}: {size_text(size)} to come and {size_text(free)} free; make room, or set VACE_MODELS"
        )


def _part(target: Path, file: HubFile) -> Path:
    """What has come of a file so far lies here; another version's part must not be gone on from."""
    return target.with_name(f"{target.name}.{(file.sha256 or file.oid or 'new')[:8]}.part")


def _to_come(target: Path, file: HubFile) -> int:
    part = _part(target, file)
    return 0 if target.is_file() else file.size - (part.stat().st_size if part.is_file() else 0)


def _fetch(url: str, target: Path, file: HubFile) -> None:
    """One file to `target`, by way of a part beside it that a later attempt goes on from."""
    from filelock import FileLock

    part = _part(target, file)
    lock = part.with_name(part.name + ".lock")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(lock)):  # two processes must not write one part
        if not target.is_file():
            _fill(url, part, file.size)
            if not _is_published(part, file):
                part.unlink()
                raise MissingWeights(
                    f"{target}: what came is not what the hub publishes (its checksum differs) and was removed; "
                    "run it again"
                )
            part.replace(target)
        elif not _is_published(target, file):
            raise MissingWeights(f"{target}: not the file that the hub publishes; move it away and run it again")
    lock.unlink(missing_ok=True)


def _fill(url: str, part: Path, size: int) -> None:
    """Bytes of `url` into `part` until it has `size`, from where it stands; a broken connection is made anew."""
    from tqdm import tqdm

    is_silent = not log.isEnabledFor(logging.INFO) or None  # None: no bar where stderr is no terminal
    failures = 0
    with part.open("ab") as out, tqdm(total=size, unit="B", unit_scale=True, disable=is_silent, leave=False) as bar:
        while out.tell() < size:
            before = out.tell()
            try:
                _append(url, out, bar)
            except (TimeoutError, ConnectionError, urllib.error.URLError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError):  # an answer, not a broken connection
                    raise
            failures = failures + 1 if out.tell() == before else 0
            if failures >= ATTEMPTS:
                raise OSError(f"broken off at {size_text(before)} of {size_text(size)}")


def _append(url: str, out, bar) -> None:
    with _opened(url, out.tell()) as answer:
        if answer.status != 206:  # the whole file: a server that knows no ranges begins anew
            out.seek(0)
            out.truncate()
        bar.reset()
        bar.update(out.tell())
        while block := answer.read(BLOCK):
            out.write(block)
            bar.update(len(block))


def _is_published(path: Path, file: HubFile) -> bool:
    """Whether `path` holds what the hub says of `file`: its sha256 or git's name of it, in any case its size."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return _digest(path, hashlib.sha256()) == file.sha256
    if file.oid:
        return _digest(path, hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)) == file.oid
    return True


def _digest(path: Path, hasher) -> str:
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404):
        return f"HTTP {error.code}: no such repository, or one that asks for a login: hf auth login"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
