"""Vectors of class names by CLIP's text tower, for the patches of its image tower."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import read_lines
from ..text_vectors import TextVectors

TEMPLATES = (
    'itap of a {}.',
    'a bad photo of the {}.',
    'a origami {}.',
    'a photo of the large {}.',
    'a {} in a video game.',
    'art of the {}.',
    'a photo of the small {}.',
)
"""Seven of CLIP's authors, the best together on ImageNet ("itap": I took a picture)."""
BACKGROUND = (
    'ground',
    'land',
    'grass',
    'tree',
    'building',
    'wall',
    'sky',
    'lake',
    'water',
    'river',
    'sea',
    'railway',
    'railroad',
    'keyboard',
    'helmet',
    'cloud',
    'house',
    'mountain',
    'ocean',
    'road',
    'rock',
    'street',
    'valley',
    'bridge',
    'sign',
)
"""Words for the background of PASCAL VOC and COCO, of CLIP-ES (Lin et al., CVPR 2023)."""
_BATCH = 256  # texts at once


def read_class_words(path: str) -> Dict[str, List[str]]:
    """Classes and the words for them, in the order of the file.

    Args:
        path: Text file with a class on each line, as the data set calls it: ``sofa``, or
            with other words for it: ``tvmonitor: television, screen``. 'background' on
            the first line is passed over.

    Raises:
        ValueError: If there is no class, one occurs twice, or one has no words, or if the
            file is not in UTF-8.
    """
    lines = read_lines(path)
    found: Dict[str, List[str]] = {}
    for line in lines[1:] if lines[:1] == ['background'] else lines:
        name, colon, listed = (part.strip() for part in line.partition(':'))
        words = [word.strip() for word in listed.split(',')] if colon else [name]
        if not name or not all(words):
            raise ValueError(f"{path}: expected 'NAME' or 'NAME: WORD, WORD', got {line!r}")
        if name in found:
            raise ValueError(f'{path}: class {name!r} is there twice')
        found[name] = words
    if not found:
        raise ValueError(f'{path} names no class')
    return found


def clip_text_vectors(
    folder: str,
    classes: Mapping[str, Sequence[str]],
    background: Sequence[str] = BACKGROUND,
    templates: Sequence[str] = TEMPLATES,
) -> TextVectors:
    """Vectors of classes, for patches of CLIP's image tower after its last norm.

    Every word is put into every template. The vectors of these texts, each of norm 1, are
    averaged for a class and brought to norm 1 again, ``t``. CLIP compares it with the
    projection ``V x`` of what its image tower gives: ``t . V x = (V^T t) . x``, so that
    ``V^T t`` is the vector for ``x`` itself.

    Args:
        folder: A CLIP of transformers, with its tokenizer, on the disk.
        classes: Names and the words for them.
        background: Words for what is no class.
        templates: Texts in which ``{}`` stands for the word.

    Raises:
        ImportError: If transformers is missing; says how to install it.
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no whole CLIP, or a template has no ``{}``.
    """
    wrong = [template for template in templates if template.count('{}') != 1]
    if wrong or not templates:
        raise ValueError(f'templates need {{}} for the word once, got {wrong or "none"}')
    model, tokenizer = _load(folder)
    projection = model.visual_projection.weight  # (512, D)

    def vector(words: Sequence[str]) -> np.ndarray:
        texts = [template.format(word) for word in words for template in templates]
        mean = F.normalize(_encode(model, tokenizer, texts), dim=1).mean(dim=0)
        return (F.normalize(mean, dim=0) @ projection).numpy()

    with torch.no_grad():
        vectors = np.stack([vector(words) for words in classes.values()])
        others = [vector([word]) for word in background]
    return TextVectors(
        np.array(list(classes)),
        vectors,
        np.array(background, dtype=str),
        np.stack(others) if others else vectors[:0],
    )


def _load(folder: str) -> Tuple[Any, Any]:
    """Model and tokenizer; nothing is downloaded and no code of the folder is run."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f'{folder} is no folder: expected a CLIP of transformers, with config.json, '
            'weights and the files of its tokenizer'
        )
    try:
        from transformers import AutoConfig, AutoTokenizer, CLIPModel
    except ModuleNotFoundError as error:
        raise ImportError(
            'vectors of text need the package transformers: '
            'pip install "mmseg_more[backbones]"'
        ) from error
    kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    if kind != 'clip':
        raise ValueError(f'{folder} holds a model of type {kind!r}, not a whole CLIP')
    loaded: Any = CLIPModel.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
    )
    model, loading = loaded
    if loading['missing_keys']:
        raise ValueError(
            f'the weights in {folder} lack {len(loading["missing_keys"])} of CLIP, such as '
            f'{sorted(loading["missing_keys"])[0]}'
        )
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _encode(model: Any, tokenizer: Any, texts: List[str]) -> Tensor:
    """Vectors of texts, ``(n, 512)``."""
    parts = []
    for start in range(0, len(texts), _BATCH):
        tokens = tokenizer(
            texts[start : start + _BATCH],
            padding=True,
            truncation=True,
            return_tensors='pt',
        )
        parts.append(model.get_text_features(**tokens).pooler_output)
    return torch.cat(parts)
