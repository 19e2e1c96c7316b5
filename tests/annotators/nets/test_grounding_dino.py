"""Grounding DINO: what is done with its boxes, against the original; the network in both layouts of weights."""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_grounding_dino as tiny
import torch
from goldens_io import annotator_pack, comparable_cases, equal_within
from parity_fixes import FIXES

from vace.annotators.nets import grounding_dino, loading_hf
from vace.annotators.nets.grounding_dino import GroundingDino, answer, best_first, class_of, fitted_size, suppress
from vace.annotators.nets.prompts import Detection
from vace.annotators.networks import NETWORKS, Networks, Weights
from vace.errors import CheckpointError, InputError

CPU = torch.device("cpu")
HEIGHT, WIDTH = 60, 90
same = partial(equal_within, "networks' pre- and post-processing")


@pytest.mark.parity
def test_boxes_scores_and_names():
    compared = set()
    for case in comparable_cases("gdino_post"):
        given, params = case.get("inputs"), case["params"] if "params" in case else {}
        if not params:
            continue  # the table of sizes
        classes, golden = params.get("classes"), case["output"]
        if not given:
            assert best_first(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), []) == []
            assert golden["boxes"] == [], case["id"]
            continue
        names = [classes[i] for i in given["class_id"]] if classes else params["phrases"]
        found = best_first(given["xyxy"], given["confidence"], names)
        assert same([detection.box for detection in found], golden["boxes"], 1e-4), case["id"]
        assert same([detection.score for detection in found], golden["confidences"], 1e-4), case["id"]
        expected = golden["class_names"]
        if not classes:
            expected = FIXES["names_of_a_caption"][1](golden["boxes"], given["xyxy"], expected)
        assert [detection.name for detection in found] == expected, case["id"]
        compared.add("classes" if classes else "caption")
    assert compared == {"classes", "caption"}


@pytest.mark.parity
def test_sizes():
    (table,) = [case for case in annotator_pack("gdino_post").values() if "rows" in case]
    at = {name: table["columns"].index(name) for name in ("h", "w", "H", "W")}
    for row in table["rows"]:
        assert fitted_size(row[at["w"]], row[at["h"]]) == (row[at["W"]], row[at["H"]]), row


def test_suppress_keeps_the_surest_and_what_it_does_not_cover():
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5], [20, 20, 20, 20], [20, 20, 20, 20]])
    # the third overlaps the second by 5/9, and the first by exactly 0.5: that is not more
    assert suppress(boxes, np.float32([0.9, 0.8, 0.7, 0.3, 0.2])) == [0, 2, 3, 4]
    assert suppress(boxes[:3], np.float32([0.7, 0.8, 0.9])) == [2, 0]
    assert suppress(boxes[:2], np.float32([0.5, 0.5]), overlap=0.95) == [0, 1]  # of equals, the first


def test_corners():
    found = grounding_dino.corners(np.float32([[0.5, 0.25, 0.2, 0.5]]), 100, 40)
    assert np.allclose(found, [[40, 0, 60, 20]]) and found.dtype == np.float32


@pytest.mark.parametrize(
    "caption, expected",
    [(" A Cat ", "a cat."), ("a cat.", "a cat."), ("Cat. Dog", "cat. dog."), ("", ".")],
)
def test_sentence(caption, expected):
    assert grounding_dino.sentence(caption) == expected


def test_class_of():
    assert class_of("a red cat", ["Dog", "Cat", "red cat"]) == 1
    assert class_of("bird", ["dog", "cat"]) is None


def test_pictures_are_resized_and_normalised():
    image = np.full((50, 100, 3), (0, 128, 255), np.uint8)
    found = grounding_dino.prepared(image)
    assert found.shape == (3, 666, 1332) and found.dtype == np.float32
    expected = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert np.abs(found - np.reshape(expected, (3, 1, 1))).max() < 1e-5
    assert fitted_size(5000, 1) == (5000, 1)  # nothing is narrower than a pixel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same weights in both layouts: original/VACE-Annotators/gdino/* and transformers/grounding-dino-tiny."""
    root = tmp_path_factory.mktemp("models")
    path = root / "original" / "VACE-Annotators" / NETWORKS["detect"].files[0].path
    tiny.write_original(path, tiny.drawn_tensors())
    network, tokenizer = grounding_dino.load(Weights("original", (path,)))
    with loading_hf.quiet():
        network.save_pretrained(root / "transformers" / "grounding-dino-tiny")
        tokenizer.save_pretrained(root / "transformers" / "grounding-dino-tiny")
    return root


@pytest.fixture(scope="module")
def source(folder):
    return folder / "transformers" / "grounding-dino-tiny"


@pytest.fixture(scope="module")
def detector(source):
    return GroundingDino(Weights("transformers", folder=source), device=CPU)


@pytest.fixture(autouse=True)
def small_pictures(request, monkeypatch):
    if "detector" in request.fixturenames:
        monkeypatch.setattr(grounding_dino, "SHORT_SIDE", 64)
        monkeypatch.setattr(grounding_dino, "LONG_SIDE", 100)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize("layout, label", [("original", "groundingdino_swint_ogc.pth"),
                                           ("transformers", "IDEA-Research/grounding-dino-tiny")])  # fmt: skip
def test_both_layouts_find_the_same(folder, detector, image, layout, label, monkeypatch):
    monkeypatch.setenv("VACE_MODELS", str(folder / layout))
    monkeypatch.chdir(folder)
    networks = Networks("neural", no_download=True)
    made = networks.get("detect")
    assert isinstance(made, GroundingDino) and networks.chosen["detect"].weights == label
    for words in ({"label": ["a cat", "red dog"]}, {"caption": "A cat on the red dog."}):
        found = made.find(image, **words)
        assert len(found) > 3 and found == detector.find(image, **words)
        scores = [detection.score for detection in found]
        assert scores == sorted(scores, reverse=True) and scores[-1] > 0.25
    assert {detection.name for detection in made.find(image, label=["a cat", "red dog"])} <= {"a cat", "red dog"}


def test_boxes_and_words_are_those_of_transformers_own_reading(detector, image):
    """`post_process_grounded_object_detection`, before boxes that cover each other are dropped."""
    from transformers import GroundingDinoProcessor

    text = "a cat on the red dog."
    words = torch.tensor([detector.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        pixels = torch.from_numpy(grounding_dino.prepared(image))[None]
        outputs = detector.network(pixel_values=pixels, input_ids=words)
    reader = SimpleNamespace(batch_decode=detector.tokenizer.batch_decode)
    read = GroundingDinoProcessor.post_process_grounded_object_detection(
        reader, outputs, words, threshold=0.25, text_threshold=0.2, target_sizes=[(HEIGHT, WIDTH)]
    )[0]
    kept = suppress(read["boxes"].numpy(), read["scores"].numpy())
    found = detector.find(image, caption="A cat on the red dog")
    assert len(found) == len(kept)
    for detection, i in zip(found, kept, strict=True):
        assert np.allclose(detection.box, read["boxes"][i], atol=1e-3)
        assert detection.score == pytest.approx(float(read["scores"][i]), abs=1e-5)
        said = read["text_labels"][i].replace("[SEP]", "").replace(".", "").strip()
        assert detection.name == (said or "a cat on the red dog")


def test_names_come_back_as_they_were_given(detector, image):
    found = detector.find(image, label=["A Cat.", "RED dog"])
    assert found and {detection.name for detection in found} <= {"A Cat.", "RED dog"}
    assert found == [
        Detection(one.box, one.score, {"a cat": "A Cat.", "red dog": "RED dog"}[one.name])
        for one in detector.find(image, label=["a cat", "red dog"])
    ]
    assert detector.find(image, label="cat")[0].name == "cat"  # one name needs no list


def scored(detector, text: str, **scores) -> tuple[np.ndarray, list[int]]:
    words = detector.tokenizer(text)["input_ids"]
    row = np.zeros(len(words), np.float32)
    for word, score in scores.items():
        row[words.index(detector.tokenizer.convert_tokens_to_ids(word))] = score
    return row, words


def test_answers(detector):
    text, classes = "golden retriever. t-shirt. cat.", ["golden retriever", "t-shirt", "cat"]
    ask = partial(answer, classes=classes, tokenizer=detector.tokenizer)
    assert ask(*scored(detector, text, cat=0.9)) == 2
    assert ask(*scored(detector, text, golden=0.5, retriever=0.4)) == 0
    assert ask(*scored(detector, text, retriever=0.5)) == 0  # a part of the name: the best word's
    assert ask(*scored(detector, text, shirt=0.5, t=0.5)) == 1  # decoded as "t - shirt", which is no name
    assert ask(*scored(detector, text, **{"[CLS]": 0.9, "cat": 0.1, "golden": 0.05})) == 2  # no word is said
    words = scored(detector, "a red cat.", red=0.3, cat=0.2001, a=0.19)
    assert answer(*words, [], detector.tokenizer) == "red cat"
    assert answer(*scored(detector, "a red cat.", **{"[SEP]": 0.9}), [], detector.tokenizer) == "a red cat"


def test_nothing_found(detector, image, monkeypatch):
    monkeypatch.setattr(grounding_dino, "BOX_SCORE", 1.0)
    assert detector.find(image, label=["cat"]) == []


@pytest.mark.parametrize(
    "words, message",
    [
        ({}, "--label or --caption: no words to look for"),
        ({"caption": " . "}, "no words to look for"),
        ({"label": ["cat", " "]}, "--label: an empty name"),
        ({"label": []}, "no words to look for"),
    ],
)
def test_no_words(detector, image, words, message):
    with pytest.raises(InputError, match=message):
        detector.find(image, **words)


def test_a_picture_too_narrow_to_look_at(detector, monkeypatch):
    monkeypatch.setattr(grounding_dino, "LONG_SIDE", 40)  # 5 + 3 + 2 + 1 places for 20 proposals
    with pytest.raises(InputError, match="300x30 is too narrow"):
        detector.find(np.zeros((30, 300, 3), np.uint8), label=["cat"])


def test_more_words_than_are_read(detector, image, caplog):
    with caplog.at_level(logging.WARNING, "vace"):
        found = detector.find(image, caption="red cat " * 140)
    assert "283 words and signs, only the first 256 are read" in caplog.text
    assert found


def test_folders_that_do_not_fit(source, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    tensors = load_file(source / "model.safetensors")
    tensors["model.text_backbone.embeddings.position_ids"] = torch.zeros(1, 300)  # older folders carry it
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    weights = Weights("transformers", folder=tmp_path)
    assert isinstance(GroundingDino(weights, device=CPU), GroundingDino)
    del tensors["model.text_projection.bias"]
    tensors["queue"] = torch.zeros(3)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing: model\.text_projection\.bias; 1 unknown: queue"):
        GroundingDino(weights, device=CPU)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        loading_hf.tokenizer_of(tmp_path)
