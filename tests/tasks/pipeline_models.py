"""Small models of `transformers`, drawn so that answers differ, saved with real tokenizers, and its pipelines."""

import warnings
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    LongformerConfig,
    LongformerForQuestionAnswering,
    LongformerForSequenceClassification,
    LongformerForTokenClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    pipeline,
)

import gossamer as gs
from gossamer.models import Model

CLASSES = {
    ("bert", "fill-mask"): BertForMaskedLM,
    ("bert", "text-classification"): BertForSequenceClassification,
    ("bert", "token-classification"): BertForTokenClassification,
    ("bert", "question-answering"): BertForQuestionAnswering,
    ("electra", "fill-mask"): ElectraForMaskedLM,
    ("electra", "text-classification"): ElectraForSequenceClassification,
    ("electra", "token-classification"): ElectraForTokenClassification,
    ("electra", "question-answering"): ElectraForQuestionAnswering,
    ("roberta", "fill-mask"): RobertaForMaskedLM,
    ("roberta", "text-classification"): RobertaForSequenceClassification,
    ("roberta", "token-classification"): RobertaForTokenClassification,
    ("longformer", "text-classification"): LongformerForSequenceClassification,
    ("longformer", "token-classification"): LongformerForTokenClassification,
    ("longformer", "question-answering"): LongformerForQuestionAnswering,
    ("modernbert", "fill-mask"): ModernBertForMaskedLM,
    ("modernbert", "text-classification"): ModernBertForSequenceClassification,
    ("modernbert", "token-classification"): ModernBertForTokenClassification,
    ("modernbert", "question-answering"): ModernBertForQuestionAnswering,
}
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
CORPUS = [
    "Ada Lovelace wrote to Charles Babbage in London about the engine, and he answered from Turin.",
    "The river runs from the mountains to the sea; nobody in Paris had seen it, says Zoë.",
    "Don't stop: “naïve” readers of 東京 weren't there, were they? 1,234.5 times.",
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


def save_pipeline_model(family: str, task: str, directory: Path, minilm: Path, **config: Any) -> Path:
    """A model of this family with the head of this task, drawn afresh, with its tokenizer, in `directory`."""
    tokenizer = _tokenizer(family, minilm)
    size = {**SIZES, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if task == "token-classification":
        size |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    if family == "bert":
        made: Any = BertConfig(**size | {"max_position_embeddings": 128} | config)
    elif family == "electra":
        made = ElectraConfig(**size | {"max_position_embeddings": 128, "embedding_size": 16} | config)
    elif family == "roberta":
        made = RobertaConfig(**size | {"max_position_embeddings": 130, "type_vocab_size": 1} | config)
    elif family == "modernbert":
        size |= {"max_position_embeddings": 128, "local_attention": 16, "global_attn_every_n_layers": 2}
        size |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep")}
        made = ModernBertConfig(**size | {"bos_token_id": None, "eos_token_id": None} | config)
    else:
        longer = {"max_position_embeddings": 130, "type_vocab_size": 1, "attention_window": 8}
        made = LongformerConfig(**size | longer | {"sep_token_id": tokenizer.sep_token_id} | config)
    torch.manual_seed(0)
    CLASSES[family, task](made).save_pretrained(directory)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(directory)
    return directory


def _tokenizer(family: str, minilm: Path) -> Any:
    if family in ("bert", "electra"):
        return AutoTokenizer.from_pretrained(minilm)
    return byte_level_tokenizer() if family != "modernbert" else bracketed_tokenizer()


def bracketed_tokenizer() -> PreTrainedTokenizerFast:
    """ModernBERT's kind: byte-level, with BERT's special tokens around a text."""
    backend = _byte_level_backend(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    mask = tokenizers.AddedToken("[MASK]", lstrip=True, special=True)
    backend.add_special_tokens([mask])
    around = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", around)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        pad_token="[PAD]",
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's kind, learnt from the corpus: byte-level, a space being part of the word after it."""
    backend = _byte_level_backend(["<s>", "<pad>", "</s>", "<unk>"])
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    backend.add_special_tokens([mask])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )


def _byte_level_backend(special: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


class Both:
    """One saved model, in `transformers`' pipeline and in Gossamer."""

    def __init__(self, family: str, task: str, directory: Path, minilm: Path, **config: Any) -> None:
        save_pipeline_model(family, task, directory, minilm, **config)
        self.model: Model = gs.load(directory)
        self._pipeline = None if task == "question-answering" else pipeline(task, model=str(directory), device="cpu")

    def theirs(self, *args: Any, **options: Any) -> Any:
        """What the pipeline gives; its remarks about tokenizers and devices are not ours."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._pipeline(*args, **options)  # type: ignore[misc]
