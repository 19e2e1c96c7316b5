"""What --use_prompt_extend takes."""

from __future__ import annotations

PLAIN, AUTO = "plain", "auto"  # the prompt as it is; the mode that fits base and language
KINDS = ("wan_zh", "wan_en", "ltx_en")
BY_API = "_ds"  # the end of the modes that ask DashScope
MODES = (PLAIN, *KINDS, *(name + BY_API for name in KINDS))
