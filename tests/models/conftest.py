"""Toy checkpoints on disk and engines over them, made once per session."""

from __future__ import annotations

import pytest
from wan_folders import write_diffusers, write_original


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Toy sizes gain nothing from a second thread, and lose much where the machine is shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def original_folder(tmp_path_factory):
    """The golden weights in the original's layout, with pickled T5 and VAE."""
    return write_original(tmp_path_factory.mktemp("wan") / "golden")


@pytest.fixture(scope="session")
def diffusers_folder(tmp_path_factory):
    """The golden weights in diffusers' layout."""
    return write_diffusers(tmp_path_factory.mktemp("wan") / "golden-diffusers")


@pytest.fixture(scope="session")
def golden_engine(original_folder):
    """An engine over the golden weights: float32, CPU."""
    from vace.models.checkpoints import open_checkpoint
    from vace.models.wan.engine import load_engine

    return load_engine(open_checkpoint(original_folder))


@pytest.fixture(scope="session")
def golden_models(original_folder):
    """The three golden components by name: float32, CPU."""
    import torch

    from vace.models.checkpoints import open_checkpoint
    from vace.models.loading import build
    from vace.models.parts import COMPONENTS, read_part

    checkpoint = open_checkpoint(original_folder)
    return {name: build(read_part(checkpoint, name), torch.float32) for name in COMPONENTS}


@pytest.fixture(scope="session")
def tiny_engine():
    """An engine over the embedded model: float32, CPU."""
    from vace.models.checkpoints import find_checkpoint
    from vace.models.wan.engine import load_engine

    return load_engine(find_checkpoint("tiny", None))
