"""vace: all-in-one video creation and editing with the VACE models."""

__version__ = "0.1.0"
