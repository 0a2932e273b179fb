"""Images, figures and pages of reports, made of random numbers."""

import numpy as np
import torch

from mmseg_more.evaluation.thresholds import MapThresholds
from mmseg_more.report import Gallery, RunFigures, SeenImage, draw_card, render_page

CLASSES = ('background', 'disk', 'star')
PALETTE = [[0, 0, 0], [200, 0, 0], [0, 0, 200]]
SIZE = (12, 16)


def make_seen(name, seed=0, right=0.5, with_truth=True, with_labels=True, **fields):
    """An image whose prediction is right in a share of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 3, SIZE, generator=generator)
    wrong = (truth + 1) % 3
    prediction = torch.where(torch.rand(SIZE, generator=generator) < right, truth, wrong)
    seen = SeenImage(
        name=name,
        image=np.full((*SIZE, 3), 90, np.uint8),
        gt_score=torch.tensor([1.0, 1.0]) if with_labels else None,
        truth=truth if with_truth else None,
        maps={'lam': torch.rand(2, *SIZE, generator=generator)},
        map_indices=torch.arange(2),
        labels={'prediction': prediction},
        confidence=right,
    )
    return seen._replace(**fields)


def make_report(images, classes=CLASSES, max_bytes=10**7):
    """Figures and gallery of some images."""
    figures, gallery = RunFigures(classes, MapThresholds()), Gallery(max_bytes)
    for seen in images:
        gallery.add(draw_card(seen, figures.add(seen), PALETTE, 64**2))
    return figures, gallery


def make_page(images, classes=CLASSES, title='run', facts=None, max_bytes=10**7):
    """The page about some images, as text."""
    figures, gallery = make_report(images, classes, max_bytes)
    return render_page(title, facts or {}, figures, gallery, PALETTE).decode()
