"""Pretrain the demo's ViT on drawn categories that are none of the demo's.

    python tools/analysis/pretrain_shapes.py OUT.pth

The published method starts from a ViT that has learned ImageNet's categories; this makes
such a start for the drawn shapes: a plain ViT learns which of fourteen other categories
(``OTHERS``) a scene shows, from image labels alone, read from its class token and from its
max-pooled patches. None of the demo's six classes, outlines or textures is ever drawn. The
file holds the ViT without its heads, in mmpretrain's names and half precision:
``--cfg-options model.pretrained=OUT.pth``.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from mmseg_more.engine.command_line import CommandParser, command  # before mmpretrain

from mmpretrain.models.backbones import VisionTransformer  # isort: skip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'dataset_converters'))
from shapes_categories import TWENTY
from shapes_scene import DEMO, World, draw_scene

ROOT = Path(__file__).resolve().parents[2]
OTHERS = World(TWENTY[len(DEMO.categories) :])
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('out', type=Path, help='checkpoint to write')
    parser.add_argument(
        '--config',
        default=str(ROOT / 'configs/more/more_vit-t_shapes.py'),
        help="config whose backbone's size is taken (default: the demo's)",
    )
    parser.add_argument('--iterations', type=int, default=2400)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--lr', type=float, default=3e-3)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=1, help='processes that draw')
    args = parser.parse_args(argv)
    for name in ('iterations', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


class Scenes(Dataset):
    """Scenes of a world, each drawn when it is asked for.

    Args:
        world: What may be drawn.
        size: Side of the images in pixels.
        seed: Of the scenes; scene ``i`` depends on it and on ``i`` alone.
        length: Number of scenes.
    """

    def __init__(self, world: World, size: int, seed: int, length: int) -> None:
        self.world, self.size = world, size
        self.seed, self.length = seed, length
        self.jitter = v2.RandomApply([v2.ColorJitter(0.3, 0.3, 0.3, 0.5)], 0.5)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        rng = np.random.default_rng([self.seed, index])
        scene = draw_scene(rng, self.size, self.world)
        labels = torch.zeros(len(self.world.categories))
        labels[np.unique(scene.mask[scene.mask > 0]).astype(np.int64) - 1] = 1
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        return self.jitter(image), labels


class Classifier(nn.Module):
    """A plain ViT with two linear heads: of its class token and of its patches' maxima."""

    def __init__(self, backbone: dict, num_categories: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(
            arch=dict(backbone['arch']),
            img_size=backbone['img_size'],
            patch_size=backbone['patch_size'],
            out_type='raw',
            final_norm=True,
        )
        dims = self.vit.embed_dims
        self.token_head = nn.Linear(dims, num_categories)
        self.patch_head = nn.Linear(dims, num_categories, bias=False)

    def forward(self, images: Tensor):
        (tokens,) = self.vit(images)  # (B, 1 + N, D)
        return self.token_head(tokens[:, 0]), self.patch_head(tokens[:, 1:].amax(1))


def train(args: argparse.Namespace, backbone: dict) -> Classifier:
    """The trained classifier."""
    torch.manual_seed(args.seed)
    model = Classifier(backbone, len(OTHERS.categories))
    model.vit.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.iterations, pct_start=0.1
    )
    scenes = Scenes(
        OTHERS, backbone['img_size'], args.seed + 1, args.iterations * args.batch_size
    )
    loader = DataLoader(scenes, args.batch_size, num_workers=args.workers)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    start = time.monotonic()
    for iteration, (images, labels) in enumerate(loader, 1):
        token_logits, patch_logits = model((images.float() - mean) / std)
        losses = [
            F.multilabel_soft_margin_loss(logits, labels)
            for logits in (token_logits, patch_logits)
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if iteration % 100 == 0 or iteration == args.iterations:
            found = [
                (logits.sigmoid() * labels).sum() / labels.sum()
                for logits in (token_logits, patch_logits)
            ]
            print(
                f'[{time.monotonic() - start:5.0f} s] iteration {iteration}: losses '
                f'{losses[0]:.4f} {losses[1]:.4f}, mean probability of the shown '
                f'categories {found[0]:.2f} {found[1]:.2f}',
                flush=True,
            )
    return model


@command
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    backbone = Config.fromfile(args.config).model.backbone
    model = train(args, backbone)
    weights = {name: value.half() for name, value in model.vit.state_dict().items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = args.out.with_name(f'.{args.out.name}.unfinished-{os.getpid()}')
    torch.save(dict(state_dict=weights), unfinished)
    os.replace(unfinished, args.out)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
