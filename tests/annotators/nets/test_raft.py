"""RAFT with weights made by the goldens' rule, and what surrounds it: padding, shared frames, damaged files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from goldens_io import annotator_document, comparable_cases, equal_within, rule_weights

from vace.annotators.nets.raft import LEAST, Raft, RaftModule, _Pairs, distinct
from vace.annotators.networks import Weights
from vace.errors import CheckpointError

ROUNDS = 2  # in tests of what surrounds the network: the goldens go through all twenty
UNUSED = "num_batches_tracked"


def golden_keys() -> dict[str, tuple[int, ...]]:
    (listed,) = (case["keys"] for case in annotator_document("raft")["cases"] if "keys" in case)
    return {key: tuple(shape) for key, shape in listed}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file as the original's: names with a leading `module.`, counters of training among them."""
    path = tmp_path_factory.mktemp("flow") / "raft-things.pth"
    table = {f"module.{key}": tensor for key, tensor in rule_weights("raft").items()}
    torch.save(table | {f"module.cnet.norm1.{UNUSED}": torch.tensor(7)}, path)
    return path


def made(path, batch_size=None) -> Raft:
    raft = Raft(Weights("original", (path,)), device=torch.device("cpu"), batch_size=batch_size)
    raft._run.module.rounds = ROUNDS
    return raft


@pytest.fixture(scope="module")
def raft(stored):
    return made(stored)


def module_of(raft: Raft) -> RaftModule:
    return raft._run.module.raft


def clip(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A soft texture that moves two pixels to the right in every frame: RGB uint8 [count,height,width,3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, (width + 2 * count, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([ground[:, 2 * (count - i) :][:, :width] for i in range(count)])


@pytest.mark.parity
def test_tensor_names():
    module = RaftModule()
    found = {key: tuple(value.shape) for key, value in module.state_dict().items() if not key.endswith(UNUSED)}
    assert found == golden_keys()
    (counted,) = (case.get("n_params") for case in annotator_document("raft")["cases"] if "keys" in case)
    assert counted in (None, sum(parameter.numel() for parameter in module.parameters()))


@pytest.mark.parity
def test_flow_as_the_original(raft):
    cases = [case for case in comparable_cases("raft") if "inputs" in case]
    assert cases
    for case in cases:
        first, second = (
            torch.from_numpy(case["inputs"][name]).permute(2, 0, 1)[None].float() for name in ("image1", "image2")
        )
        module = module_of(raft)
        with torch.inference_mode():
            ends = module.features(first), module.features(second)
            low, full = module.flow(first, *ends, case["params"]["iters"])
        assert equal_within("RAFT", low, case["output"]["flow_low"], 1e-4), case["id"]
        assert equal_within("RAFT", full[:, :, ::2, ::2], case["output"]["flow_up_s2"], 1e-4), case["id"]


@pytest.mark.parametrize("size", [(128, 136), (131, 141), (70, 150)])
def test_frames_are_padded_by_their_edges_and_cut_back(raft, size):
    frames = clip(2, *size)
    whole = [max(LEAST, -(-side // 8) * 8) - side for side in size]
    edges = [(extra // 2, extra - extra // 2) for extra in whole]
    padded = np.pad(frames, ((0, 0), *edges, (0, 0)), mode="edge")
    first, second = torch.from_numpy(padded).permute(0, 3, 1, 2)[:, None].float()
    module = module_of(raft)
    with torch.inference_mode():
        _, full = module.flow(first, module.features(first), module.features(second), ROUNDS)
    expected = full[0].permute(1, 2, 0).numpy()[edges[0][0] :, edges[1][0] :][: size[0], : size[1]]
    found = raft.flows(frames[:1], frames[1:])
    assert found.shape == (1, *size, 2) and found.dtype == np.float32
    assert equal_within("RAFT's padding", found[0], expected, 1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_small_frames_have_a_flow(raft, size):
    found = raft.flows(*clip(2, *size)[:, None])
    assert found.shape == (1, *size, 2) and np.isfinite(found).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_frame_is_looked_at_once(stored, batch_size):
    frames = clip(4, 128, 128)
    plain = made(stored)
    apart = np.concatenate([plain.flows(frames[i : i + 1], frames[i + 1 : i + 2]) for i in (2, 0, 1)])[[1, 2, 0]]
    raft, seen = made(stored, batch_size), []
    module_of(raft).fnet.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    together = np.concatenate([raft.flows(frames[:2], frames[1:3]), raft.flows(frames[2:3], frames[3:])])
    assert sum(seen) == len(frames), "the last frame of one call begins the next"
    assert equal_within("RAFT in batches", together, apart, 1e-4)


def test_as_many_rounds_as_the_original(stored):
    raft = Raft(Weights("original", (stored,)), device=torch.device("cpu"))
    assert raft._run.module.rounds == 20


def test_pairs_that_do_not_follow_each_other():
    frames = clip(6, 8, 8)
    found, starts, ends = distinct(frames[[0, 1, 4]], frames[[1, 2, 5]])
    assert (starts, ends) == ([0, 1, 3], [1, 2, 4])
    assert np.array_equal(found, frames[[0, 1, 2, 4, 5]])


def test_precisions_do_not_mix(stored):
    """Half precision is tried beside full precision on the same frames: neither may read the other's features."""
    frames = torch.from_numpy(clip(3, 128, 128)).permute(0, 3, 1, 2).float()
    pairs = _Pairs(module_of(made(stored)))
    pairs.rounds = ROUNDS
    one, two = torch.tensor([0]), torch.tensor([1])
    with torch.inference_mode():
        expected = pairs(frames[1:], one, two)
        pairs(frames[:2], one, two)
        with torch.autocast("cpu", torch.bfloat16):
            half = pairs(frames[:2], one, two)
            half_again = pairs(frames[1:], one, two)
        found = pairs(frames[1:], one, two)
    assert half.dtype == half_again.dtype == torch.float32
    assert torch.equal(found, expected) and not torch.equal(half_again, expected)


FAULTS = {
    "missing": (lambda table: table.pop("module.fnet.conv1.bias"), "1 missing: fnet.conv1.bias"),
    "unknown": (lambda table: table.update({"module.extra": torch.zeros(2)}), "1 unknown: extra"),
    "shape": (lambda table: table.update({"module.cnet.conv2.bias": torch.zeros(3)}), r"cnet.conv2.bias \(3,\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_other_files_are_refused(fault, stored, tmp_path):
    table = torch.load(stored, weights_only=True)
    spoil, said = FAULTS[fault]
    spoil(table)
    torch.save(table, tmp_path / "raft-things.pth")
    with pytest.raises(CheckpointError, match=said):
        made(tmp_path / "raft-things.pth")
