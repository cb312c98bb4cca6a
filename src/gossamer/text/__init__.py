"""Text: tokenizers, documents and token files, and the speeches that ship with the package."""

from gossamer.text.byte_tokenizer import byte_tokenizer, is_byte_tokenizer
from gossamer.text.documents import Document, InputStream, Split, input_bytes, read_documents
from gossamer.text.encoding import EncodedPart, encode_text
from gossamer.text.file_formats import FORMATS
from gossamer.text.speeches import Speech, passages, speeches
from gossamer.text.token_file import TokenFile, tokenize, write_token_file
from gossamer.text.tokenizer import Tokenizer
from gossamer.text.tokenizer_build import has_vocabulary_files
from gossamer.text.training import train_tokenizer
from gossamer.text.word_marks import WordMarks, word_marks

__all__ = [
    "FORMATS",
    "Document",
    "EncodedPart",
    "InputStream",
    "Speech",
    "Split",
    "TokenFile",
    "Tokenizer",
    "WordMarks",
    "byte_tokenizer",
    "encode_text",
    "has_vocabulary_files",
    "input_bytes",
    "is_byte_tokenizer",
    "passages",
    "read_documents",
    "speeches",
    "tokenize",
    "train_tokenizer",
    "word_marks",
    "write_token_file",
]
