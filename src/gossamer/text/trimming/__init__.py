"""Tokenizers with fewer tokens: texts of those that stay are cut as they were before."""

from gossamer.text.trimming.trimmable import TrimmableTokenizer, Trimmed

__all__ = ["TrimmableTokenizer", "Trimmed"]
