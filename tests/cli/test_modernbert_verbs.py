"""The verbs of tasks on a ModernBERT with its own kind of tokenizer, beside transformers' pipelines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

Command = Callable[..., Any]
TEXT = "Ada wrote to Charles"


def save_tokenizer(folder: Path) -> Any:
    """Byte-level, with BERT's special tokens around a text and a mask that takes the space before it."""
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = tokenizers.Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    mask = tokenizers.AddedToken("[MASK]", lstrip=True, special=True)
    backend.add_special_tokens([*names[:4], mask])
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]",
        mask_token=mask, model_max_length=64, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def saved(folder: Path, kind: str, **settings: Any) -> tuple[Any, Any]:
    tokenizer = save_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, local_attention=8, pad_token_id=3, cls_token_id=1, sep_token_id=2,
        bos_token_id=None, eos_token_id=None, **settings,
    )  # fmt: skip
    model = getattr(transformers, f"ModernBert{kind}")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    return model, tokenizer


def pipe(task: str, both: tuple[Any, Any], *texts: Any, **options: Any) -> Any:
    return transformers.pipeline(task, model=both[0], tokenizer=both[1], device="cpu")(*texts, **options)


def test_embed(gossamer: Command, tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "m", "Model")
    assert gossamer("embed", tmp_path / "m", TEXT, "Bo", "--out", tmp_path / "v.npy").code == 0
    with torch.no_grad():
        batches = [tokenizer(text, return_tensors="pt") for text in (TEXT, "Bo")]
        expected = [model(**batch).last_hidden_state[0].mean(0) for batch in batches]
    torch.testing.assert_close(
        torch.from_numpy(np.load(tmp_path / "v.npy")), torch.stack(expected), rtol=1e-4, atol=1e-5
    )


def test_fill_mask(gossamer: Command, tmp_path: Path) -> None:
    both = saved(tmp_path / "m", "ForMaskedLM")
    done = gossamer("fill-mask", tmp_path / "m", "Ada wrote [MASK] Charles", "--top-k", 4, "--json")
    expected = pipe("fill-mask", both, "Ada wrote [MASK] Charles", top_k=4)
    assert (done.code, done.err) == (0, "")
    found = done.json["texts"][0]["masks"][0]["fills"]
    assert [one["token"] for one in found] == [one["token"] for one in expected]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], rel=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_classify(gossamer: Command, tmp_path: Path, pooling: str) -> None:
    both = saved(tmp_path / "m", "ForSequenceClassification", num_labels=3, classifier_pooling=pooling)
    done = gossamer("classify", tmp_path / "m", TEXT, "Bo", "--json")
    assert (done.code, done.err) == (0, "")
    for i, text in enumerate((TEXT, "Bo")):
        expected = {one["label"]: one["score"] for one in pipe("text-classification", both, text, top_k=None)}
        found = {one["label"]: one["score"] for one in done.json["texts"][i]["labels"]}
        assert {name: found[name] for name in found} == pytest.approx(
            {name: expected[name] for name in found}, rel=1e-4
        )


def test_tag(gossamer: Command, tmp_path: Path) -> None:
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    both = saved(tmp_path / "m", "ForTokenClassification", id2label=labels, label2id={n: i for i, n in labels.items()})
    done = gossamer("tag", tmp_path / "m", TEXT, "--aggregation", "simple", "--json")
    assert (done.code, done.err) == (0, "")
    expected = pipe("token-classification", both, TEXT, aggregation_strategy="simple")
    found = done.json["texts"][0]["entities"]
    assert [(one["start"], one["end"]) for one in found] == [(one["start"], one["end"]) for one in expected]
    assert [one["score"] for one in found] == pytest.approx([float(one["score"]) for one in expected], rel=1e-4)


def test_answer(gossamer: Command, tmp_path: Path) -> None:
    both = saved(tmp_path / "m", "ForQuestionAnswering")
    done = gossamer("answer", tmp_path / "m", "who wrote", TEXT, "--json")
    assert (done.code, done.err) == (0, "")
    model, tokenizer = both
    batch = tokenizer("who wrote", TEXT, return_tensors="pt")
    own = torch.tensor([which == 1 for which in batch.sequence_ids(0)])
    with torch.no_grad():
        out = model(**batch)
    # The null's probability is its start's times its end's, among those of all tokens of the text.
    null = 1.0
    for logits in (out.start_logits[0], out.end_logits[0]):
        null *= float(torch.cat((logits[own], logits[:1])).double().softmax(0)[-1])
    assert done.json["texts"][0]["null_score"] == pytest.approx(null, rel=1e-4)
    best = done.json["texts"][0]["answers"][0]
    assert TEXT[best["start"] : best["end"]] == best["text"]


def test_attention_and_summary(gossamer: Command, tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "m", "ForMaskedLM", attn_implementation="eager")
    done = gossamer("attention", tmp_path / "m", TEXT, "--layer", 1, "--head", 0, "--top", 3, "--json")
    assert (done.code, done.err) == (0, "")
    with torch.no_grad():
        weights = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions[1][0, 0]
    assert done.json["tokens"] == tokenizer.convert_ids_to_tokens(tokenizer(TEXT)["input_ids"])
    found = [[one["weight"] for one in row["attends_to"]] for row in done.json["rows"]]
    torch.testing.assert_close(torch.tensor(found), weights.topk(3).values, rtol=1e-4, atol=1e-6)
    page = gossamer("summary", tmp_path / "m", "--lengths", "32,64", "--json")
    assert page.json["parameters"] == sum(one.numel() for one in model.parameters())
    assert [one["pattern"] for one in page.json["pictures"]] == ["window 4+4"]
