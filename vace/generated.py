"""What a generation leaves: where its videos are, and the manifest that describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vace.runs import outputs_by_role


@dataclass(frozen=True)
class Generated:
    """Where the results are, and the manifest that describes them."""

    folder: Path
    manifest: dict
    out_videos: list[Path]
    src_video: Path | None = None
    src_mask: Path | None = None
    src_ref_images: list[Path] = field(default_factory=list)

    def as_json(self) -> dict:
        answer = {
            "out_video": str(self.out_videos[0]),
            "src_video": str(self.src_video) if self.src_video else None,
            "src_mask": str(self.src_mask) if self.src_mask else None,
            "src_ref_images": [str(path) for path in self.src_ref_images],
            "seed": self.manifest["seed"],
            "manifest": str(self.folder / "manifest.json"),
            "toy": self.manifest["model"]["toy"],
        }
        if len(self.out_videos) > 1:
            answer["out_videos"] = [str(path) for path in self.out_videos]
        return answer


def generated_in(folder: Path, manifest: dict) -> Generated:
    """The `Generated` that a manifest in `folder` describes."""
    named = outputs_by_role(folder, manifest)
    first = {role: paths[0] for role, paths in named.items()}
    return Generated(
        folder, manifest, named["out_video"], first.get("src_video"), first.get("src_mask"),
        named.get("src_ref_images", []),
    )  # fmt: skip
