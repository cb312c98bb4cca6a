"""What a model is trained to do, one file a kind: settings, data, labels, loss and scores."""

from gossamer.training.objectives.base import IGNORED, Batch, BatchSource, Direction, Objective, unwrapped
from gossamer.training.objectives.labelled.labels import LabelObjective, RowObjective
from gossamer.training.objectives.labelled.question_answering import QuestionAnsweringObjective
from gossamer.training.objectives.labelled.second_text import Seq2SeqObjective
from gossamer.training.objectives.labelled.sequence_classification import ClassificationObjective
from gossamer.training.objectives.labelled.token_classification import TaggingObjective
from gossamer.training.objectives.pairs.sentence_pairs import SentencePairsObjective
from gossamer.training.objectives.teachers.distillation import DistillationObjective
from gossamer.training.objectives.teachers.matches import Match
from gossamer.training.objectives.teachers.teacher_cache import TeacherCache
from gossamer.training.objectives.teachers.teacher_vectors import TeacherVectorsObjective
from gossamer.training.objectives.texts.causal_lm import CausalObjective
from gossamer.training.objectives.texts.language import LanguageObjective, Masking
from gossamer.training.objectives.texts.masked_lm import MaskedObjective
from gossamer.training.objectives.texts.replaced_token import ReplacedTokenObjective
from gossamer.training.objectives.texts.segment_pairs import NextSentenceObjective, SentenceOrderObjective
from gossamer.training.objectives.vectors import VectorObjective

__all__ = [
    "IGNORED",
    "Batch",
    "BatchSource",
    "CausalObjective",
    "ClassificationObjective",
    "Direction",
    "DistillationObjective",
    "LabelObjective",
    "LanguageObjective",
    "MaskedObjective",
    "Masking",
    "Match",
    "NextSentenceObjective",
    "Objective",
    "QuestionAnsweringObjective",
    "ReplacedTokenObjective",
    "RowObjective",
    "SentenceOrderObjective",
    "SentencePairsObjective",
    "Seq2SeqObjective",
    "TaggingObjective",
    "TeacherCache",
    "TeacherVectorsObjective",
    "VectorObjective",
    "unwrapped",
]
