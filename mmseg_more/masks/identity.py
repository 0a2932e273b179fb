"""What decides on a mask: the weights and the settings of the network."""

import hashlib
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import nn

from ..engine.hooks.utils import innermost
from ..engine.type_name import type_name

TRUTH_LOADERS = ('LoadAnnotations', 'LoadMask')
_IRRELEVANT = frozenset(
    (
        'init_cfg',
        'pretrained',
        'losses',
        'pseudo_label',
        'localization',
        'train_cfg',
        'with_cp',
    )
)


def weights_sha256(model: nn.Module) -> str:
    """Hash of all weights and buffers that a checkpoint of the model holds.

    Unlike that of a checkpoint file it is the same for the weights of a training
    and for the file that they were saved to, with or without the optimizer. The
    wrappers of the model do not count.
    """
    digest = hashlib.sha256()
    for name, value in sorted(innermost(model).state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue
        value = value.detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Optional[str]) -> Optional[str]:
    """What ``sha256sum`` says of a file; None where there is none."""
    if path is None or not osp.isfile(osp.expanduser(path)):
        return None
    digest = hashlib.sha256()
    with open(osp.expanduser(path), 'rb') as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def model_settings(model: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The part of a model's config that outputs depend on, beside weights."""
    if not isinstance(model, dict):
        return None
    return {
        key: model_settings(value) if isinstance(value, dict) else value
        for key, value in model.items()
        if key not in _IRRELEVANT
    }


def without_annotations(pipeline: Sequence[Any]) -> List[Any]:
    """A pipeline that reads no mask of the truth; the argument stays as it is.

    ``LoadAnnotations`` and ``LoadMask`` go, in the branches of ``TestTimeAug`` too.
    """
    result = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):  # a branch of TestTimeAug
            step = without_annotations(step)
            if not step:
                continue
        elif type_name(step) in TRUTH_LOADERS:
            continue
        elif type_name(step) == 'TestTimeAug':
            step = dict(step, transforms=without_annotations(step['transforms']))
        result.append(step)
    return result
