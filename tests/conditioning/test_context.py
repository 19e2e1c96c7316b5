import pytest
import torch

from vace.conditioning.context import (
    check_mask,
    check_pair,
    empty_source,
    encode_context,
    fold_mask,
    full_mask,
    neutral_fill,
    trim_refs,
)
from vace.errors import InputError


class BlockVae:
    """Stands in for the VAE: each latent is the mean of its block plus an offset, in 16 channels; counts its videos."""

    def __init__(self):
        self.encoded = 0

    def __call__(self, videos):
        self.encoded += len(videos)
        return [self.encode(video) for video in videos]

    @staticmethod
    def encode(video):
        lead = video[:, :1].expand(-1, 3, -1, -1)  # the first latent frame stands for one frame, the others for four
        blocks = torch.nn.functional.avg_pool3d(torch.cat([lead, video], dim=1), (4, 8, 8))
        return torch.cat([blocks] * 6)[:16] + 0.25


def a_video(count=9, width=48, height=32, seed=0):
    return torch.rand(3, count, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def half_mask(count=9, width=48, height=32):
    mask = torch.zeros(1, count, height, width)
    mask[..., width // 2 :] = 1
    return mask


def test_the_context_is_inactive_reactive_and_mask():
    vae, frames, mask = BlockVae(), a_video(), half_mask()
    context = encode_context(vae, frames, mask)
    assert context.shape == (96, 3, 4, 6)
    assert torch.equal(context[:16], vae.encode(frames * (1 - mask)))
    assert torch.equal(context[16:32], vae.encode(frames * mask))
    assert torch.equal(context[32:], fold_mask(mask))


def test_gray_masks_split_at_half_and_stay_gray_in_their_channels():
    frames = a_video()
    gray = torch.where(half_mask() > 0, 0.6, 0.4)
    context = encode_context(BlockVae(), frames, gray)
    assert torch.equal(context[:32], encode_context(BlockVae(), frames, half_mask())[:32])
    assert context[32:].unique().tolist() == pytest.approx([0.4, 0.6])


def test_references_stand_in_front_in_the_given_order():
    vae, frames, mask = BlockVae(), a_video(), half_mask()
    refs = [a_video(1, seed=1), a_video(1, seed=2)]
    context = encode_context(vae, frames, mask, refs)
    assert context.shape == (96, 5, 4, 6)
    for index, ref in enumerate(refs):
        assert torch.equal(context[:16, index : index + 1], vae.encode(ref))
    assert not context[16:, :2].any()
    assert torch.equal(trim_refs(context, 2), encode_context(vae, frames, mask))


def test_more_references_than_latent_frames():
    refs = [a_video(1, seed=seed) for seed in range(4)]
    context = encode_context(BlockVae(), a_video(1), full_mask(1, 48, 32), refs)
    assert context.shape == (96, 5, 4, 6)
    assert trim_refs(context, 4).shape == (96, 1, 4, 6)


def test_a_neutral_video_is_encoded_once_per_shape():
    vae, zeros = BlockVae(), {}
    frames, mask = empty_source(9, 48, 32)
    assert mask.shape == (1, 9, 32, 48) and mask.eq(1).all() and not frames.any()
    first = encode_context(vae, frames, mask, zero_latents=zeros)
    assert vae.encoded == 1
    again = encode_context(vae, frames, mask, zero_latents=zeros)
    assert vae.encoded == 1 and torch.equal(first, again)
    encode_context(vae, a_video(), mask, zero_latents=zeros)  # all white: only the reactive half is new
    assert vae.encoded == 2
    encode_context(vae, *empty_source(5, 48, 32), zero_latents=zeros)
    assert vae.encoded == 3


def test_a_mask_of_three_channels_counts_by_its_first():
    frames, mask = a_video(), half_mask()
    coloured = torch.cat([mask, 1 - mask, torch.zeros_like(mask)])
    assert torch.equal(encode_context(BlockVae(), frames, coloured), encode_context(BlockVae(), frames, mask))


def test_the_mask_channels_are_its_pixels():
    mask = torch.zeros(1, 1, 32, 48)
    mask[0, 0, 8 * 2 + 3, 8 * 4 + 5] = 1
    folded = fold_mask(mask)
    assert folded.shape == (64, 1, 4, 6)
    assert folded.nonzero().tolist() == [[8 * 3 + 5, 0, 2, 4]]
    assert fold_mask(mask, refs=3).nonzero().tolist() == [[8 * 3 + 5, 3, 2, 4]]


def test_shapes_that_do_not_belong_together_are_refused_with_both():
    with pytest.raises(InputError, match="src_mask is 5 frames of 48x32 and src_video 9 frames of 48x32"):
        encode_context(BlockVae(), a_video(9), half_mask(5))
    with pytest.raises(InputError, match="src_mask is 9 frames of 32x48 and src_video 9 frames of 48x32"):
        encode_context(BlockVae(), a_video(9), half_mask(9, 32, 48))
    with pytest.raises(InputError, match="reference image 1 is 1 frame of 32x32 and src_video 9 frames of 48x32"):
        encode_context(BlockVae(), a_video(9), half_mask(), [a_video(1), a_video(1, 32, 32)])


def test_a_mask_belongs_to_a_video_by_aspect_and_length():
    check_pair((1920, 1080), 81, (853, 480), 81)
    check_pair((1920, 1080), 81, (1920, 1080), 1)
    with pytest.raises(InputError, match="src_mask is 640x480 and src_video 1920x1080"):
        check_pair((1920, 1080), 81, (640, 480), 81)
    with pytest.raises(InputError, match="m.mp4 has 80 frames and src_video 81"):
        check_pair((1920, 1080), 81, (1920, 1080), 80, mask_name="m.mp4")


def test_masks_that_ask_for_everything_or_nothing_are_told():
    white, black = full_mask(5, 48, 32), torch.zeros(1, 5, 32, 48)
    assert "all white" in check_mask(white)[0] and check_mask(white, white_makes_sense=True) == []
    assert "all black" in check_mask(black)[0] and check_mask(black, black_makes_sense=True) == []
    assert check_mask(half_mask()) == []


def test_neutral_files_are_exactly_neutral_under_white():
    frames, mask = a_video(), half_mask()
    filled, warnings = neutral_fill(frames, mask, "neutral")
    assert not filled[..., 24:].any() and torch.equal(filled[..., :24], frames[..., :24])
    assert warnings == [] and frames[..., 24:].any()
    by_hand, _ = neutral_fill(frames, mask, "content", fill_mask="neutral")
    assert torch.equal(by_hand, filled)


@pytest.mark.parametrize(
    ("under_mask", "fill_mask"), [("content", "auto"), ("neutral", "keep"), (None, "keep"), ("content", "keep")]
)
def test_what_is_meant_to_be_there_is_left_alone(under_mask, fill_mask):
    frames, mask = a_video(), half_mask()
    kept, warnings = neutral_fill(frames, mask, under_mask, fill_mask)
    assert kept is frames and warnings == []


def test_without_a_manifest_what_lies_under_white_is_only_told():
    frames, mask = a_video(), half_mask()
    kept, warnings = neutral_fill(frames, mask)
    assert kept is frames
    assert len(warnings) == 1 and "a picture lies under the white" in warnings[0]
    grayish = frames.clone()
    grayish[..., 24:] = frames[..., 24:] / 127.5
    assert "almost-gray" in neutral_fill(grayish, mask)[1][0]
    exact = frames.masked_fill(mask > 0.5, 0)
    assert neutral_fill(exact, mask)[1] == []
    assert neutral_fill(frames, torch.zeros_like(mask))[1] == []


def test_an_unknown_fill_is_refused():
    with pytest.raises(InputError, match="--fill_mask 'netral' is unknown: did you mean 'neutral'"):
        neutral_fill(a_video(), half_mask(), fill_mask="netral")
