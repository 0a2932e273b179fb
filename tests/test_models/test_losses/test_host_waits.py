"""Which losses ask their tensors for a value, and would make a GPU's host wait.

Tensors on the device "meta" have a shape and no data: reading one raises.
"""

import pytest
import torch

from mmseg_more.localization import bilateral_filter_batch
from mmseg_more.models import losses as L

B, K, D, GRID, SIZE = 2, 5, 8, (12, 14), (48, 56)


def _meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device='meta').requires_grad_(
        dtype == torch.float32
    )


TOKENS, PATCHES = (B, K, D), (B, D, *GRID)


def _positions():
    index = _meta(16, dtype=torch.long)
    return L.UncertainTokens(index, index, index)


@pytest.mark.parametrize(
    'compute',
    [
        lambda: L.MultiLabelSoftMarginLoss()(_meta(B, K), _meta(B, K)),
        lambda: L.TokenDiscriminationLoss()(_meta(*TOKENS)),
        lambda: L.ConfidentRelationLoss()(
            _meta(*TOKENS), _meta(*PATCHES), _meta(B, *GRID, dtype=torch.long), _meta(B, K)
        ),
        lambda: L.uncertain_relation_loss(
            _meta(*TOKENS), _meta(*PATCHES), _meta(B, K), _positions()
        ),
        lambda: L.PatchAffinityLoss()(_meta(*PATCHES), _meta(B, *GRID, dtype=torch.long)),
        lambda: L.BalancedCrossEntropyLoss()(
            _meta(B, K + 1, *SIZE), _meta(B, *SIZE, dtype=torch.long)
        ),
        lambda: L.BalancedCrossEntropyLoss()(
            _meta(B, K + 1, *GRID), _meta(B, *SIZE, dtype=torch.long)
        ),
    ],
    ids=['cls', 'mct', 'cre', 'ure', 'ptc', 'seg', 'seg of a grid'],
)
def test_reads_nothing_back(compute):
    loss = compute()
    assert loss.shape == ()
    loss.backward()


@pytest.mark.parametrize(
    'compute',
    [
        lambda: L.select_uncertain_tokens(_meta(B, *GRID, dtype=torch.long)),
        lambda: bilateral_filter_batch(_meta(B, 3, *SIZE), _meta(B, K, *SIZE), 15.0, 50.0),
    ],
    ids=['draws of ure', 'number of lattice vertices'],
)
def test_reads_back_as_documented(compute):
    with pytest.raises((RuntimeError, NotImplementedError), match='(?i)meta'):
        compute()
