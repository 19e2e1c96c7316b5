"""The parts of RAFT: two encoders, the correlation of all pairs of places, the recurrent update.

Sizes and tensor names are those of the published network (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms
for Optical Flow", ECCV 2020); feature maps are at 1/8 of the picture's size, vectors are (x, y).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN = 128  # channels of the recurrent state, and of the context beside it
LEVELS, RADIUS = 4, 4  # of the correlation pyramid, and of the window looked at in each level
WINDOW = (2 * RADIUS + 1) ** 2
DOWN = 8  # the picture's side over the feature map's


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the stride is 2."""

    def __init__(self, before: int, after: int, norm: type[nn.Module], stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm1, self.norm2 = norm(after), norm(after)
        self.downsample = None
        if stride != 1:
            self.norm3 = norm(after)  # known to the file under both names
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride), self.norm3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """Pictures [n,3,H,W], -1..1 -> feature maps [n,256,H/8,W/8]."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.norm1 = norm(64)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3)
        before = 64
        for number, (width, stride) in enumerate(((64, 1), (96, 2), (128, 2)), 1):
            blocks = _Residual(before, width, norm, stride), _Residual(width, width, norm, 1)
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            before = width
        self.conv2 = nn.Conv2d(before, 2 * HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class Correlation:
    """How alike every place of one map is to every place of another, at four scales of the second.

    first, second: float32 [n,c,h,w]. It holds 4/3 (h w)^2 numbers for each pair.
    """

    def __init__(self, first: torch.Tensor, second: torch.Tensor) -> None:
        count, channels, height, width = first.shape
        alike = torch.matmul(first.flatten(2).transpose(1, 2), second.flatten(2)) / channels**0.5
        levels = [alike.view(count * height * width, 1, height, width)]
        while len(levels) < LEVELS:
            levels.append(F.avg_pool2d(levels[-1], 2))
        last = [torch.tensor([level.shape[-1] - 1, level.shape[-2] - 1]) for level in levels]
        self._levels = [(level, ends.to(first.device)) for level, ends in zip(levels, last, strict=True)]
        step = torch.arange(-RADIUS, RADIUS + 1, dtype=first.dtype, device=first.device)
        # The first index of the window moves x: the trained weights expect it so.
        self._window = torch.stack(torch.meshgrid(step, step, indexing="ij"), dim=-1)

    def at(self, places: torch.Tensor) -> torch.Tensor:
        """The windows around `places` (float32 [n,2,h,w], x and y in the second map) -> [n,324,h,w]."""
        count, _, height, width = places.shape
        centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for level, (alike, ends) in enumerate(self._levels):
            grid = 2 * (centres / 2**level + self._window) / ends - 1
            seen = F.grid_sample(alike, grid, align_corners=True)
            found.append(seen.view(count, height, width, WINDOW))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


class _MotionEncoder(nn.Module):
    """Correlation windows and the flow so far -> [n,128,h,w], the flow itself in the last two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * WINDOW, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(192 + 64, HIDDEN - 2, 3, padding=1)

    def forward(self, flow: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
        alike = F.relu(self.convc2(F.relu(self.convc1(alike))))
        seen = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([alike, seen], dim=1))), flow], dim=1)


class _Gru(nn.Module):
    """A recurrent unit with gates z, r and q whose convolutions run first along rows (1), then along columns (2).

    What the gates take from the context is the same in every round: `prepare` works it out once, which saves a third
    of the unit's work.
    """

    def __init__(self) -> None:
        super().__init__()
        for number, kernel in ((1, (1, 5)), (2, (5, 1))):
            for gate in "zrq":
                padding = (kernel[0] // 2, kernel[1] // 2)
                setattr(self, f"conv{gate}{number}", nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=padding))

    def prepare(self, context: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """For rows and for columns: weights and the context's part, for the gates z and r together, and for q."""
        prepared = []
        for number in "12":
            z, r, q = (getattr(self, f"conv{gate}{number}") for gate in "zrq")
            parts = []
            for gates in ((z, r), (q,)):
                state, given, motion = torch.cat([gate.weight for gate in gates]).split(HIDDEN, dim=1)
                bias = torch.cat([gate.bias for gate in gates])
                parts += [torch.cat([state, motion], dim=1), F.conv2d(context, given, bias, padding=z.padding)]
            prepared.append((*parts, z.padding))
        return prepared

    @staticmethod
    def step(state: torch.Tensor, motion: torch.Tensor, prepared: list[tuple[torch.Tensor, ...]]) -> torch.Tensor:
        for gates, given_gates, fresh, given_fresh, padding in prepared:
            both = F.conv2d(torch.cat([state, motion], dim=1), gates, padding=padding) + given_gates
            z, r = torch.sigmoid(both).split(HIDDEN, dim=1)
            q = F.conv2d(torch.cat([r * state, motion], dim=1), fresh, padding=padding) + given_fresh
            state = (1 - z) * state + z * torch.tanh(q)
        return state


class _FlowHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu(self.conv1(state)))


class Update(nn.Module):
    """One round: what is seen at the present flow moves the state, the state moves the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.gru, self.flow_head = _MotionEncoder(), _Gru(), _FlowHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * DOWN**2, 1))
        self.to(memory_format=torch.channels_last)  # as the windows come: a sixth faster on the CPU

    def enlarge(self, flow: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Flow [n,2,h,w] -> [n,2,8h,8w]: every fine vector a mean of the nine coarse ones around it, as `mask` says."""
        count, _, height, width = flow.shape
        shares = (0.25 * self.mask(state)).float().view(count, 1, 9, DOWN, DOWN, height, width).softmax(dim=2)
        around = F.unfold(DOWN * flow, 3, padding=1).view(count, 2, 9, 1, 1, height, width)
        fine = (shares * around).sum(dim=2)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(count, 2, DOWN * height, DOWN * width)
