"""The small networks of MediaPipe for bodies, hands, faces and person mattes: found, fetched and run.

They are the `.tflite` files inside the wheel `mediapipe==0.10.21` (Apache-2.0, see assets/models/NOTICE.md). The wheel
is fetched by pip, checked, and only the files are kept: the package itself is not installed. LiteRT runs them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vace.errors import CheckpointError, MissingDependency, MissingWeights
from vace.hub import is_offline

log = logging.getLogger("vace")

WHEEL = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
# The wheel of one platform, whatever this machine is: the files in it are the same on all.
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
COMMAND = "vace models pull mediapipe"

# name -> (path in the wheel below mediapipe/modules, bytes, first 16 digits of the sha256)
FILES: dict[str, tuple[str, int, str]] = {
    "pose_detection": ("pose_detection", 2959046, "9ba9dd3d42efaaba"),
    "pose_landmark_full": ("pose_landmark", 6440512, "e9a5c5cb17f736fa"),
    "hand_landmark_full": ("hand_landmark", 5478917, "11c272b891e1a99a"),
    "palm_detection_full": ("palm_detection", 2339846, "1b14e9422c6ad006"),
    "face_detection_short_range": ("face_detection", 229714, "bbff11cebd1eb27a"),
    "face_detection_full_range_sparse": ("face_detection", 676746, "2c3728e6da56f21e"),
    "face_landmark": ("face_landmark", 1242398, "1055cb9d4a9ca8b8"),
    "selfie_segmentation": ("selfie_segmentation", 249505, "9ee168ec7c8f2a16"),
    "selfie_segmentation_landscape": ("selfie_segmentation", 250145, "a77d03f4659b9f6b"),
}


def folders() -> list[Path]:
    """Where the files are looked for, in order; `fetch` writes to the last that can be written, first things first."""
    package = Path(__file__).resolve().parents[1]
    roots = [Path(root).expanduser() for root in [os.environ.get("VACE_MODELS")] if root]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vace"
    assets = [root / "assets" / "models" for root in (package.parent, package) if (root / "assets").is_dir()]
    return [root / "mediapipe" for root in (*roots, *assets, cache)]


def find(name: str) -> Path | None:
    """The file of the network called `name` (a key of FILES), None where it is not on this machine."""
    size = FILES[name][1]
    candidates = (folder / f"{name}.tflite" for folder in folders())
    return next((path for path in candidates if path.is_file() and path.stat().st_size == size), None)


def absent() -> list[str]:
    return [name for name in FILES if find(name) is None]


def fetch() -> Path:
    """The folder that holds every file, fetched by pip (35.6 MB) where one is absent; each is checked by its sha256.

    Raises MissingWeights when pip cannot get the wheel, and when what came is not what was asked for.
    """
    if not absent():
        return find(next(iter(FILES))).parent
    target = next((folder for folder in folders() if _writable(folder)), None)
    if target is None:
        places = ", ".join(str(folder) for folder in folders())
        raise MissingWeights(f"{WHEEL}: none of {places} can be written; set VACE_MODELS to a folder of yours")
    log.info("fetching %s (35.6 MB) for the networks of bodies, hands, faces and mattes", WHEEL)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            for name, (folder, _, digest) in FILES.items():
                _keep(archive.read(f"mediapipe/modules/{folder}/{name}.tflite"), digest, target / f"{name}.tflite")
    return target


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--retries", "1", "--timeout", "4",
               "--only-binary=:all:", *WHEEL_TAGS, WHEEL, "-d", str(folder)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise MissingWeights(f"{WHEEL}: pip could not get it ({reason}); go online and run: {COMMAND}")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise MissingWeights(f"{WHEEL}: what pip brought is not the published wheel; run again: {COMMAND}")
    return wheel


def _keep(data: bytes, digest: str, path: Path) -> None:
    if not hashlib.sha256(data).hexdigest().startswith(digest):
        raise MissingWeights(f"{WHEEL}: {path.name} in it is damaged; run again: {COMMAND}")
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Keeps LiteRT's lines that begin with INFO off stderr, to which it writes beneath Python; all others go there."""
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if not line.startswith(b"INFO"):
                    os.write(2, line)


class TfliteModel:
    """One network of FILES: called with its input tensors (float32, batch axis first), it gives its outputs in order.

    Fetches the files when they are absent and fetching is allowed. Raises MissingWeights where they cannot be had,
    MissingDependency without the package ai-edge-litert, CheckpointError for a damaged file.
    """

    def __init__(self, name: str) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependency(f"the network {name} needs ai-edge-litert: pip install ai-edge-litert") from error
        self.name, path = name, find(name)
        if path is None:
            if is_offline():
                raise MissingWeights(f"the network {name} is not on this machine; get it with: {COMMAND}")
            path = fetch() / f"{name}.tflite"
        try:
            with _without_notes():
                self._interpreter = Interpreter(model_path=str(path), num_threads=1)  # so small that threads cost more
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: damaged ({error}); delete it and run: {COMMAND}") from error
        self.inputs = [tuple(int(n) for n in item["shape"]) for item in self._interpreter.get_input_details()]
        self.outputs = [tuple(int(n) for n in item["shape"]) for item in self._interpreter.get_output_details()]

    def __call__(self, *tensors: np.ndarray) -> Sequence[np.ndarray]:
        for item, tensor in zip(self._interpreter.get_input_details(), tensors, strict=True):
            self._interpreter.set_tensor(item["index"], np.ascontiguousarray(tensor, np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(item["index"]) for item in self._interpreter.get_output_details()]


@functools.lru_cache(maxsize=len(FILES))
def model(name: str) -> TfliteModel:
    """The network `name`, loaded once per process. Not for use by several threads at a time."""
    return TfliteModel(name)
