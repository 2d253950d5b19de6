"""Imported once by the process that workers are forked from: what they would each import at their first task."""

from transformers import PreTrainedTokenizerFast

__all__ = ["PreTrainedTokenizerFast"]
