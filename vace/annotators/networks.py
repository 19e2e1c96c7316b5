"""THE NETWORK TABLE, and the networks of one run: one row per network, two backends behind one interface.

neural: trained weights, the original's own files or the same weights in transformers' layout. embedded: works with what
set-up installs. Which of them serves is decided here, once per run and network, and noted for the plan line and the
manifest. What a network of a name can do (its methods) is said in `vace.annotators.nets`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace import hub
from vace.errors import InputError, MissingWeights, nearest
from vace.hf_loading import COLLECTION, collection_folders, roots

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vace")

BACKENDS = ("auto", "neural", "embedded")


@dataclass(frozen=True)
class WeightFile:
    """path: below the collection's folder. size: bytes, 0 where unknown."""

    path: str
    size: int = 0


@dataclass(frozen=True)
class Network:
    """One network.

    neural, embedded: "module:Class" of the two backends. files: the original's, all of them needed. hub: repositories
    that hold the same weights in transformers' layout, best first. is_fetched: False where a licence forbids to fetch
    it unasked. is_approximate: True where the embedded one must not stand in silently. stand_in: what the embedded is.
    """

    name: str
    help: str
    neural: str
    embedded: str
    stand_in: str
    licence: str
    files: tuple[WeightFile, ...] = ()
    hub: tuple[str, ...] = ()
    is_fetched: bool = True
    is_approximate: bool = False


_NETS = "vace.annotators.nets"
_ROWS = (
    Network("depth", "depth of every pixel (MiDaS DPT-hybrid)", f"{_NETS}.midas:Midas",
            f"{_NETS}.cue_depth:CueDepth", "approximate depth from place, focus and motion", "MIT",
            (WeightFile("depth/dpt_hybrid-midas-501f0c75.pt", 492_757_791),), ("Intel/dpt-hybrid-midas",),
            is_approximate=True),
    Network("depthv2", "depth of every pixel (Depth Anything V2)", f"{_NETS}.depth_anything:DepthAnything",
            f"{_NETS}.cue_depth:CueDepth", "approximate depth from place, focus and motion",
            "CC-BY-NC-4.0 (Large, Base), Apache-2.0 (Small)",
            (WeightFile("depth/depth_anything_v2_vitl.pth", 1_341_395_338),),
            ("depth-anything/Depth-Anything-V2-Large-hf", "depth-anything/Depth-Anything-V2-Base-hf",
             "depth-anything/Depth-Anything-V2-Small-hf"), is_approximate=True),
    Network("flow", "motion between frames (RAFT)", f"{_NETS}.raft:Raft", f"{_NETS}.dis_flow:DisFlow",
            "OpenCV's DIS optical flow", "BSD-3-Clause", (WeightFile("flow/raft-things.pth", 21_108_000),)),
    Network("pose", "bodies, faces and hands as points (DWPose)", f"{_NETS}.dwpose:DwPose",
            f"{_NETS}.mediapipe_pose:MediapipePose", "MediaPipe's pose, hand and face networks", "Apache-2.0",
            (WeightFile("pose/yolox_l.onnx", 216_746_733), WeightFile("pose/dw-ll_ucoco_384.onnx", 134_399_116))),
    Network("scribble", "line drawings (informative drawings, anime style)", f"{_NETS}.contour:Contour",
            f"{_NETS}.dog_lines:DogLines", "lines by difference of Gaussians", "MIT",
            (WeightFile("scribble/anime_style/netG_A_latest.pth", 17_173_511),)),
    Network("salient", "what a picture is of (U2Net)", f"{_NETS}.u2net:U2Net",
            f"{_NETS}.border_salient:BorderSalient",
            "MediaPipe's person matte, else GrabCut from foreground or border colours",
            "Apache-2.0", (WeightFile("salient/u2net.pt", 176_300_000),)),
    Network("segment", "one thing cut out of a picture or followed through a clip (SAM 2.1)", f"{_NETS}.sam2:Sam2",
            f"{_NETS}.flow_tracker:FlowTracker", "GrabCut, carried with flow and found again by its colours",
            "Apache-2.0", (WeightFile("sam2/sam2.1_hiera_large.pt", 898_083_611),),
            ("facebook/sam2.1-hiera-large", "facebook/sam2.1-hiera-base-plus", "facebook/sam2.1-hiera-small",
             "facebook/sam2.1-hiera-tiny")),
    Network("detect", "things found by their names (Grounding DINO)", f"{_NETS}.grounding_dino:GroundingDino",
            f"{_NETS}.person_words:PersonWords", "persons only, by MediaPipe's matte", "Apache-2.0",
            (WeightFile("gdino/groundingdino_swint_ogc.pth", 693_997_677),), ("IDEA-Research/grounding-dino-tiny",)),
    Network("face", "faces as boxes (insightface antelopev2)", f"{_NETS}.scrfd:Scrfd",
            f"{_NETS}.mediapipe_face:MediapipeFace", "MediaPipe's face networks",
            "non-commercial research (insightface model pack)",
            (WeightFile("face/models/antelopev2/scrfd_10g_bnkps.onnx", 16_923_827),), is_fetched=False),
)  # fmt: skip
NETWORKS = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class Weights:
    """Trained weights on this machine. layout: "original" (files, in the row's order) or "transformers" (folder)."""

    layout: str
    files: tuple[Path, ...] = ()
    folder: Path | None = None

    @property
    def where(self) -> str:
        return str(self.folder or self.files[0])


@dataclass(frozen=True)
class Choice:
    """What serves as network `name`: backend "neural" or "embedded"; weights: what it is, without directories."""

    name: str
    backend: str
    weights: str

    def as_dict(self) -> dict:
        return asdict(self)


def find_weights(row: Network) -> Weights | None:
    """The network's trained weights on this machine, the original's files first; None where they are not."""
    for folder in collection_folders():
        files = tuple(folder / file.path for file in row.files)
        if files and all(path.is_file() for path in files):
            return Weights("original", files)
    for repository in row.hub:
        name = repository.partition("/")[2]
        cached = hub.cached_folder(repository)
        for folder in [*(root / name for root in roots()), *([cached] if cached else [])]:
            if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
                return Weights("transformers", folder=folder)
    return None


def fetch_weights(row: Network) -> Weights:
    """The network's weights from the hub, after one line with their size. Raises MissingWeights where it cannot."""
    note = f"licence: {row.licence}"
    if row.hub:
        hub.download(row.hub[0], hub.TRANSFORMERS, note=note)
    else:
        hub.download(COLLECTION, tuple(file.path for file in row.files), note=note)
    found = find_weights(row)
    if found is None:
        raise MissingWeights(f"{row.name}: its files did not arrive whole; run: vace models pull {row.name}")
    return found


class Networks:
    """The networks of one run, each made when it is first asked for.

    backend: "auto" (neural where its weights are here or can be fetched, else embedded, said once), "neural" or
    "embedded". device: gives the torch device when one is needed. batch_size: frames at a time, None for as many as fit
    in memory. no_download: never fetch. accept_approximate: False refuses, under "auto", a stand-in for depth.
    """

    def __init__(
        self,
        backend: str = "auto",
        *,
        device: Callable[[], torch.device] | None = None,
        batch_size: int | None = None,
        no_download: bool = False,
        accept_approximate: bool = True,
    ) -> None:
        if backend not in BACKENDS:
            raise InputError(f"--backend {backend}: unknown; {nearest(str(backend), BACKENDS)}")
        self.backend, self.batch_size, self.no_download = backend, batch_size, no_download
        self.accept_approximate = accept_approximate
        self.chosen: dict[str, Choice] = {}  # in the whole run
        self.asked: dict[str, Choice] = {}  # by the task at work
        self._device, self._weights, self._made, self._kept = device, {}, {}, {}

    @property
    def device(self) -> torch.device:
        """Where neural networks run; the first use imports torch."""
        import torch

        return self._device() if self._device else torch.device("cpu")

    def device_in_use(self) -> str:
        """The device by name: "cpu" where no neural network was chosen."""
        is_neural = any(choice.backend == "neural" for choice in self.chosen.values())
        return str(self.device) if is_neural else "cpu"

    def describe(self) -> str:
        """What serves, for the end of a plan line; empty where no network was asked for."""
        parts = [f"{choice.name}: {choice.backend} ({choice.weights})" for choice in self.asked.values()]
        return "; " + ", ".join(parts) if parts else ""

    def once(self, materials: Sequence, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for the very same `materials`: an annotator is called again for other frames."""
        key = tuple(map(id, materials))
        if key not in self._kept:
            self._kept[key] = (materials, make())  # the materials stay alive, so that no other gets their id
        return self._kept[key][1]

    def begin(self) -> None:
        """A task begins: from here on `asked` holds what it asks for."""
        self.asked, self._kept = {}, {}

    def would_serve(self, made_by: Sequence[dict]) -> bool:
        """Whether this run would choose the same again: `made_by` is what a manifest says under `networks`.

        Raises MissingWeights where it may not choose what served then.
        """
        known = [record for record in made_by if record.get("name") in NETWORKS]
        return all(self.choose(record["name"]).as_dict() == record for record in known)

    def choose(self, name: str) -> Choice:
        """What serves as network `name`. Raises MissingWeights where nothing may."""
        if name not in self.chosen:
            row = NETWORKS[name]
            weights = None if self.backend == "embedded" else self._neural(row)
            self._weights[name] = weights
            label = row.stand_in if weights is None else _label(row, weights)
            self.chosen[name] = Choice(name, "embedded" if weights is None else "neural", label)
        self.asked[name] = self.chosen[name]
        return self.chosen[name]

    def get(self, name: str) -> Any:
        """The network `name`, ready for use: an object with the methods that its name stands for."""
        choice, row = self.choose(name), NETWORKS[name]
        if name not in self._made:
            module, _, attribute = (row.neural if choice.backend == "neural" else row.embedded).partition(":")
            make = getattr(importlib.import_module(module), attribute)
            if choice.backend == "neural":
                self._made[name] = make(self._weights[name], device=self.device, batch_size=self.batch_size)
            else:
                self._made[name] = make()
        return self._made[name]

    def _neural(self, row: Network) -> Weights | None:
        found = find_weights(row)
        if found is not None:
            return found
        reason = "downloading is off"
        if row.is_fetched and not hub.is_offline(self.no_download):
            try:
                return fetch_weights(row)
            except MissingWeights as error:
                reason = str(error).partition(";")[0]
        elif not row.is_fetched:
            reason = f"licence: {row.licence}"
        if self.backend == "neural":
            raise MissingWeights(f"--backend neural: no weights of {row.name} here ({reason}); {how_to_get(row)}")
        if row.is_approximate and not self.accept_approximate:
            raise MissingWeights(
                f"{row.name}: no weights here ({reason}), and approximate depth is not fed to a real model unasked; "
                f"{how_to_get(row)}, or say --backend embedded"
            )
        told = (row.name, reason, row.stand_in, how_to_get(row))
        log.warning("%s: the embedded one serves (%s): %s; the trained one, %s", *told)
        return None


def _label(row: Network, weights: Weights) -> str:
    """The weights' name for the manifest: no directory of the user's machine."""
    if weights.folder is None:
        return ", ".join(path.name for path in weights.files)
    name = weights.folder.name
    return next((repository for repository in row.hub if repository.endswith(f"/{name}")), row.hub[0])


def how_to_get(row: Network) -> str:
    """The end of a message about absent weights."""
    if row.is_fetched:
        return f"get it with: vace models pull {row.name}"
    return f"put {', '.join(file.path for file in row.files)} below models/{COLLECTION.partition('/')[2]}"
