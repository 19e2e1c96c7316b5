import numpy as np
import pytest
import torch
from goldens_io import model_tensors

from vace.conditioning.pixels import (
    letterbox,
    mask_from_chunks,
    mask_to_unit,
    resize_crop,
    resize_crop_mask,
    to_model_space,
    to_pixels,
    video_from_chunks,
)
from vace.errors import InputError
from vace.media.clip import ArrayClip


def real_frames(count: int = 40) -> np.ndarray:
    frames = model_tensors("wan", "vace_context")["media.src_video"].numpy()
    return np.concatenate([frames] * (count // len(frames) + 1))[:count]


def test_resizing_in_chunks_equals_resizing_frame_by_frame():
    frames = real_frames()
    whole = resize_crop(frames, 48, 32)
    assert whole.shape == (40, 32, 48, 3) and whole.dtype == np.uint8
    assert np.array_equal(whole, np.concatenate([resize_crop(frame[None], 48, 32) for frame in frames]))


def test_frames_of_the_right_size_are_not_touched():
    frames = real_frames(2)
    assert resize_crop(frames, frames.shape[2], frames.shape[1]) is frames
    masks = frames[..., 0]
    assert resize_crop_mask(masks, masks.shape[2], masks.shape[1]) is masks


def test_the_centre_is_kept_when_aspects_differ():
    frames = np.zeros((1, 32, 96, 3), dtype=np.uint8)
    frames[:, :, 32:64] = 200
    assert np.all(resize_crop(frames, 32, 32) == 200)
    tall = frames.transpose(0, 2, 1, 3)
    assert np.all(resize_crop(tall, 32, 32) == 200)


def test_flipped_and_strided_frames_are_taken():
    frames = real_frames(2)
    mirrored = resize_crop(frames[:, :, ::-1], 48, 32)
    assert np.array_equal(mirrored, resize_crop(frames[:, :, ::-1].copy(), 48, 32))


def test_masks_are_resized_like_the_video():
    frames = real_frames(3)
    gray = np.repeat(frames[..., :1], 3, axis=3)
    assert np.array_equal(resize_crop_mask(gray[..., 0], 48, 32), resize_crop(gray, 48, 32)[..., 0])


def test_model_space_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    video = to_model_space(levels)
    assert video.shape == (3, 1, 16, 16) and video.dtype == torch.float32
    assert (video.min(), video.max()) == (-1.0, 1.0)
    assert video[0, 0, 0, 1].item() == pytest.approx(1 / 127.5 - 1)
    assert np.array_equal(to_pixels(video), levels)
    clamped = to_pixels(video * 3)
    assert np.all(clamped[levels <= 85] == 0) and np.all(clamped[levels >= 170] == 255)


def test_channels_keep_their_order():
    frames = np.zeros((2, 4, 6, 3), dtype=np.uint8)
    frames[..., 1] = 255
    video = to_model_space(frames)
    assert video[1].eq(1).all() and video[0].eq(-1).all() and video[2].eq(-1).all()


def test_masks_in_unit_range_keep_their_grays():
    unit = mask_to_unit(np.array([[[0, 127, 128, 255]]], dtype=np.uint8))
    assert unit.shape == (1, 1, 1, 4)
    assert unit.flatten().tolist() == pytest.approx([0, 127 / 255, 128 / 255, 1], abs=1e-6)
    assert (unit > 0.5).flatten().tolist() == [False, False, True, True]


def test_a_clip_is_read_in_chunks_and_its_last_frame_repeated():
    frames = real_frames(20)
    clip = ArrayClip(frames)
    video = video_from_chunks(clip.chunks(8), 48, 32, 21)
    expected = to_model_space(resize_crop(frames, 48, 32))
    assert torch.equal(video[:, :20], expected) and torch.equal(video[:, 20], expected[:, 19])
    assert torch.equal(video_from_chunks(clip.chunks(8), 48, 32, 13), expected[:, :13])


def test_a_mask_is_read_in_chunks_and_a_still_one_serves_all():
    masks = real_frames(6)[..., 0]
    expected = mask_to_unit(resize_crop_mask(masks, 48, 32))
    assert torch.equal(mask_from_chunks([masks[:4], masks[4:]], 48, 32, 6), expected)
    still = mask_from_chunks([masks[:1]], 48, 32, 9)
    assert still.shape == (1, 9, 32, 48) and torch.equal(still, expected[:, :1].expand_as(still))


def test_clips_without_frames_are_refused():
    with pytest.raises(InputError, match="src_video holds no frames"):
        video_from_chunks([], 48, 32, 5)
    with pytest.raises(InputError, match="src_mask holds no frames"):
        mask_from_chunks([], 48, 32, 5)


def test_a_reference_is_whole_and_centred_on_white():
    image = np.zeros((20, 10, 3), dtype=np.uint8)
    canvas = letterbox(image, 48, 32)
    assert canvas.shape == (3, 1, 32, 48)
    black = (canvas[0, 0] == -1).nonzero()
    assert black.min(dim=0).values.tolist() == [0, 16] and black.max(dim=0).values.tolist() == [31, 31]
    assert canvas[:, :, :, :16].eq(1).all() and canvas[:, :, :, 32:].eq(1).all()


def test_a_reference_of_the_canvas_size_is_exact():
    image = real_frames(1)[0]
    assert np.array_equal(to_pixels(letterbox(image, image.shape[1], image.shape[0]))[0], image)


def test_a_sliver_keeps_a_pixel_and_an_empty_image_is_refused():
    assert letterbox(np.zeros((1, 900, 3), dtype=np.uint8), 48, 32).eq(-1).any()
    with pytest.raises(InputError, match="src_ref_images holds an image of 5x0 pixels"):
        letterbox(np.zeros((0, 5, 3), dtype=np.uint8), 48, 32)
