"""U2Net: the original's tensors, its arithmetic against the goldens, its weight file read and refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from goldens_io import comparable_cases, equal_within

from vace.annotators.nets import u2net
from vace.annotators.nets.loading import load_original
from vace.annotators.networks import Weights
from vace.errors import CheckpointError

CPU = torch.device("cpu")


def post_cases():
    """Cases of which the network's answer is known, each with that answer, float32 [320,320]."""
    for case in comparable_cases("salient"):
        if "grid" in case.get("inputs", {}):
            grid = torch.from_numpy(case["inputs"]["grid"])[None, None]
            yield (
                case,
                torch.nn.functional.interpolate(grid, (320, 320), mode="bilinear", align_corners=True)[0, 0].numpy(),
            )


def net_cases():
    return [case for case in comparable_cases("salient") if "weights" in case.get("params", {})]


def drawn(key: str, shape, gain: float) -> torch.Tensor:
    """A tensor by the rule that the golden states."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        value = 0.5 + noise**2
    elif key.endswith("running_mean"):
        value = 0.1 * noise
    elif len(shape) == 1:
        value = 1 + 0.1 * noise if key.endswith(".weight") else 0.05 * noise
    else:
        value = gain * noise / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, np.float32))


def stored_names(module) -> dict[str, list[int]]:
    table = module.state_dict()
    return {key: list(value.shape) for key, value in table.items() if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """U2Net with the goldens' weights, by way of a file as training code writes them."""
    gain = float(net_cases()[0]["params"]["weights"].split()[-1])
    table = {f"module.{key}": drawn(key, shape, gain) for key, shape in stored_names(u2net.U2NetModule()).items()}
    path = tmp_path_factory.mktemp("weights") / "u2net.pt"
    torch.save(table | {"module.stage1.rebnconvin.bn_s1.num_batches_tracked": torch.tensor(7)}, path)
    made = u2net.U2Net(Weights("original", (path,)), device=CPU)
    path.unlink()  # 176 MB
    return made


@pytest.mark.parity
def test_tensors_are_the_originals():
    (listed,) = [case["keys"] for case in comparable_cases("salient") if "keys" in case]
    assert stored_names(u2net.U2NetModule()) == {key: shape for key, shape, *_ in listed}
    assert len(listed) == 686


@pytest.mark.parity
def test_network_input():
    for case, _ in post_cases():
        found = u2net.prepared(case["inputs"]["image"][None])
        assert equal_within("salient network input", found[..., ::8, ::8], case["output"]["net_input_s8"], 1e-4)


@pytest.mark.parity
def test_maps_from_answers():
    compared = 0
    for case, answer in post_cases():
        if isinstance(case["output"]["out"], np.ndarray):
            found = u2net.enlarged(u2net.levels(answer[None]), *case["inputs"]["image"].shape[:2])[0]
            assert equal_within("salient map", found, case["output"]["out"], 1), case["id"]
            compared += 1
    assert compared


@pytest.mark.parity
def test_whole_network(network):
    for case in net_cases():
        image, expected = case["inputs"]["image"], case["output"]
        answer = network._saliency(image[None])[0]
        assert equal_within("salient network", answer[::4, ::4], expected["d0_s4"], 1e-4)
        assert equal_within(
            "salient network", (answer.min(), answer.max()), (expected["d0_min"], expected["d0_max"]), 1e-4
        )
        found = u2net.enlarged(u2net.levels(answer[None]), *image.shape[:2])[0]
        assert equal_within("salient map", found, expected["out"], 1)


def test_frames_in_batches_of_any_size(network, noise):
    frames = noise(2, 40, 56)
    network._asked = 2
    maps = network.maps(frames)
    assert maps.shape == (2, 40, 56) and maps.dtype == np.uint8
    assert np.abs(maps[1].astype(int) - network.maps(frames[1:])[0]).max() <= 1
    assert not np.array_equal(maps[0], maps[1]) and np.ptp(maps[0]) > 200


def test_a_constant_answer_is_a_black_map():
    answers = np.stack([np.full((4, 5), 0.7, np.float32), np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)])
    found = u2net.levels(answers)
    assert not found[0].any()
    assert (found[1].min(), found[1].max()) == (0, 255)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1)
        self.norm = torch.nn.BatchNorm2d(2)


def saved(path, table):
    torch.save(table, path)
    return path


def test_files_load_with_or_without_prefix_and_counters(tmp_path):
    table = {key: torch.rand(shape) for key, shape in stored_names(Small()).items()}
    for name, prefix, wrapped in (("a.pt", "", False), ("b.pth", "module.", True)):
        stored = {prefix + key: value.half() for key, value in table.items()}
        module = Small()
        load_original(module, [saved(tmp_path / name, {"state_dict": stored} if wrapped else stored)])
        assert all(torch.equal(module.state_dict()[key], value.half().float()) for key, value in table.items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"conv.bias": None}, "1 missing: conv.bias"),
        ({"extra.weight": torch.zeros(3)}, "1 unknown: extra.weight"),
        (
            {"conv.weight": torch.zeros(2, 3, 1, 1)},
            r"1 of another shape: conv.weight \(2, 3, 1, 1\), not \(2, 1, 1, 1\)",
        ),
        (dict.fromkeys(stored_names(Small())), "6 missing: conv.weight, .* and 2 more"),
    ],
)
def test_foreign_files_are_refused_with_the_names(tmp_path, change, told):
    table = {key: torch.rand(shape) for key, shape in stored_names(Small()).items()} | change
    path = saved(tmp_path / "net.pt", {key: value for key, value in table.items() if value is not None})
    with pytest.raises(CheckpointError, match=f"net.pt: not the weights of Small .*{told}.*download the file again"):
        load_original(Small(), [path])


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "u2net.pt"
    path.write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="u2net.pt: truncated, or not a table of tensors"):
        u2net.U2Net(Weights("original", (path,)), device=CPU)
