"""RoBERTa (Liu et al. 2019), and XLM-RoBERTa and CamemBERT, which are the same with other vocabularies."""

from gossamer.families.roberta.form import CAMEMBERT, FAMILY, XLM_ROBERTA

__all__ = ["CAMEMBERT", "FAMILY", "XLM_ROBERTA"]
