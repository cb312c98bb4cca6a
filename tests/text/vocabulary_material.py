"""What each family's vocabulary files are, and real sentencepiece models, trained at once."""

import io

import sentencepiece

SIZE = 2000
FILES = {
    "bert": ("vocab.txt",),
    "distilbert": ("vocab.txt",),
    "electra": ("vocab.txt",),
    "roberta": ("vocab.json", "merges.txt"),
    "longformer": ("vocab.json", "merges.txt"),
    "albert": ("spiece.model",),
    "xlm-roberta": ("sentencepiece.bpe.model",),
    "camembert": ("sentencepiece.bpe.model",),
}
BYTE_LEVEL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# As ALBERT's own was trained: https://github.com/google-research/albert, "SentencePiece".
ALBERT = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    "user_defined_symbols": ["(", ")", '"', "-", ".", "\u2013", "£", "€"],
}
# In the order of the released files of version 3, whose token to be filled in comes after all pieces.
DEBERTA = {
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "unk_id": 3,
    "pad_piece": "[PAD]",
    "bos_piece": "[CLS]",
    "eos_piece": "[SEP]",
    "unk_piece": "[UNK]",
}


def train_pieces(lines: list[str], **options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=SIZE, num_threads=1, minloglevel=2, **options
    )
    return model.getvalue()
