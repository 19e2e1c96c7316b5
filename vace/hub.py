"""Base models on the Hugging Face hub: their names, their cached copies, their download."""

from __future__ import annotations

import functools
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from vace.errors import MissingWeights

log = logging.getLogger("vace")

PROBE_SECONDS = 4.0
# Everything a run reads, in either layout; samples, figures and other formats stay on the hub.
WANTED = (
    "*.json",
    "*.model",
    "*.safetensors",
    "models_t5_*.pth",
    "Wan2.1_VAE.pth",
)


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
    from huggingface_hub import constants

    base = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    reference = base / "refs" / "main"
    if reference.is_file():
        folder = base / "snapshots" / reference.read_text().strip()
        return folder if folder.is_dir() else None
    copies = [folder for folder in (base / "snapshots").glob("*") if folder.is_dir()]
    return max(copies, key=lambda folder: folder.stat().st_mtime, default=None)


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


def download(repo_id: str, patterns: Sequence[str] = WANTED) -> Path:
    """Fetches the files of `repo_id` that match `patterns` into the hub cache, after one line with their size.

    Raises MissingWeights when the hub cannot be reached, has no such repository or breaks off.
    """
    address = endpoint()
    if not reachable(address):
        raise MissingWeights(f"{repo_id}: {address} cannot be reached from here; {how_to_get(repo_id)}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import filter_repo_objects

    try:
        files = HfApi(endpoint=address).model_info(repo_id, files_metadata=True, timeout=PROBE_SECONDS).siblings or []
        wanted = list(filter_repo_objects(files, allow_patterns=list(patterns), key=lambda file: file.rfilename))
        size = sum(file.size or 0 for file in wanted)
        log.info("downloading %s: %d files, %.1f GB", repo_id, len(wanted), size / 1e9)
        return Path(snapshot_download(repo_id, allow_patterns=list(patterns), endpoint=address))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingWeights(f"{repo_id}: the download failed ({reason}); {how_to_get(repo_id)}") from error


def how_to_get(repo_id: str) -> str:
    """The end of a message about absent weights: the command that gets them."""
    return f"get it with: hf download {repo_id} --local-dir models/{repo_id.partition('/')[2]}"
