"""Prompts to text states: cleaning, tokens, the UMT5 or T5 encoder. How LTX cleans: see vace/models/ltx/text.py."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vace.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

Clean = Callable[[str], str]
TokenRow = tuple[int, ...]


def clean_prompt(text: str) -> str:
    """Broken encodings repaired, html escapes undone (twice), every run of white space made one blank."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, which may hold no more than a tokenizer.json.

    Raises CheckpointError when the files there make no tokenizer, or one that cannot pad.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    whole = folder / "tokenizer.json"
    try:
        if whole.is_file() and not (folder / "tokenizer_config.json").is_file():
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(whole))
        else:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers package raises bare Exception for a file it cannot parse
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: no usable tokenizer ({reason}); download it again") from error
    if tokenizer.pad_token is None:
        if "<pad>" not in tokenizer.get_vocab():
            raise CheckpointError(f"{folder}: the tokenizer knows no <pad> token")
        tokenizer.pad_token = "<pad>"
    return tokenizer


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], text_len: int, clean: Clean = clean_prompt
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, int64 [B, text_len]: cleaned, cut to text_len with the end token kept, padded at the end."""
    batch = tokenizer(
        [clean(text) for text in texts],
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=text_len,
        return_tensors="pt",
    )
    return batch["input_ids"], batch["attention_mask"]


@torch.no_grad()
def encode_ids(model: UMT5EncoderModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Text states [B, L, width] of token ids [B, L]; where the mask is 0, tokens are not attended to."""
    return model(input_ids=ids, attention_mask=mask).last_hidden_state


def token_rows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], text_len: int, clean: Clean = clean_prompt
) -> list[TokenRow]:
    """The token ids of each text without its padding."""
    ids, mask = tokenize(tokenizer, texts, text_len, clean)
    return [tuple(row[kept > 0].tolist()) for row, kept in zip(ids, mask, strict=True)]


def encode_row(model: UMT5EncoderModel, row: TokenRow) -> torch.Tensor:
    """Text states [tokens, width] of one text's token ids, on the model's device.

    Padding is not encoded: positions are relative and it would be masked, so the result is the same and a short prompt
    costs a fraction. Each text is encoded alone, so that its states do not depend, in the last bit, on others.
    """
    ids = torch.tensor([row], device=model.shared.weight.device)
    return encode_ids(model, ids, torch.ones_like(ids))[0]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    model: UMT5EncoderModel,
    texts: Sequence[str],
    text_len: int,
    clean: Clean = clean_prompt,
) -> list[torch.Tensor]:
    """`encode_row` of each text, cleaned and cut to `text_len` tokens."""
    return [encode_row(model, row) for row in token_rows(tokenizer, texts, text_len, clean)]
