"""The losses of MoRe, one per file."""

from .balanced_cross_entropy_loss import BalancedCrossEntropyLoss, balanced_cross_entropy
from .batch_counts import BatchCounts, count_all_batches, count_batch
from .confident_relation_loss import ConfidentRelationLoss, confident_relation_loss
from .dense_energy_loss import DenseEnergyLoss
from .multi_label_loss import MultiLabelSoftMarginLoss
from .patch_affinity_loss import PatchAffinityLoss, patch_affinity_loss
from .token_discrimination_loss import TokenDiscriminationLoss, token_discrimination_loss
from .uncertain_relation_loss import (
    UncertainRelationLoss,
    UncertainTokens,
    select_uncertain_tokens,
    uncertain_relation_loss,
)

__all__ = [
    'BalancedCrossEntropyLoss',
    'BatchCounts',
    'ConfidentRelationLoss',
    'DenseEnergyLoss',
    'MultiLabelSoftMarginLoss',
    'PatchAffinityLoss',
    'TokenDiscriminationLoss',
    'UncertainRelationLoss',
    'UncertainTokens',
    'balanced_cross_entropy',
    'confident_relation_loss',
    'count_all_batches',
    'count_batch',
    'patch_affinity_loss',
    'select_uncertain_tokens',
    'token_discrimination_loss',
    'uncertain_relation_loss',
]
