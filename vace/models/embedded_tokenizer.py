"""The tokenizer that ComfyUI's text encoder files carry: a sentencepiece model as the bytes of a tensor.

It is written once as a tokenizer.json into a folder of its own below $VACE_CACHE, since tokenizers are read from
folders.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from vace.errors import CheckpointError
from vace.weight_files import read_bytes

TENSOR = "spiece_model"
_VERSION = 1  # of what is written; counts up when it is made in another way


def embedded_tokenizer(file: Path) -> Path | None:
    """The folder with the tokenizer in a safetensors file; None where it carries none. Raises CheckpointError."""
    if file.suffix != ".safetensors":
        return None
    raw = read_bytes(file, TENSOR)
    if raw is None:
        return None
    folder = _root() / f"{hashlib.sha256(raw).hexdigest()[:24]}-{_VERSION}"
    written = folder / "tokenizer.json"
    if not written.is_file():
        text = _converted(raw, file)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False, encoding="utf-8") as part:
            part.write(text)
        Path(part.name).replace(written)
    return folder


def _root() -> Path:
    from vace.models.text_cache import folder

    kept = folder()
    return (kept.parent if kept else Path(tempfile.gettempdir()) / "vace") / "tokenizers"


def _converted(raw: bytes, file: Path) -> str:
    """The tokenizer.json of a sentencepiece model of the unigram kind: no token in front, </s> at the end."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError as error:
        raise CheckpointError(f"{file}: its embedded tokenizer is damaged ({error}); download it again") from error
    pieces, trainer = [(piece.piece, piece.score) for piece in model.pieces], model.trainer_spec
    names = {name: number for number, (name, _) in enumerate(pieces)}
    special = ("<pad>", "</s>", "<unk>")
    if trainer.model_type != trainer.UNIGRAM or not set(special) <= set(names):
        raise CheckpointError(f"{file}: its embedded tokenizer is no UMT5's; give --text_encoder_path one with its own")
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback))
    steps: list = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", names["</s>"])]
    )
    tokenizer.add_special_tokens(list(special))
    return tokenizer.to_str()
