"""What a threshold that is chosen without masks loses against the best one.

    python tools/analysis/choose_without_masks.py configs/more/more_vit-t_shapes.py \\
        work_dirs/0/iter_1400.pth work_dirs/1/iter_1400.pth --out choice.json

For each checkpoint the thresholds of CAM, LAM and fused map are chosen by image labels and
the model alone, on images of the training split, as tools/test.py --calibrate does. Then
they are scored on the test split, whose masks have to be known: the mIoU of the choice (one
threshold for a map, and one for each class), of the config's fixed threshold, and the best
that any one threshold gives. The rank correlation (Spearman) is that of the criterion and
the true mIoU over all thresholds.
"""

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Dict, List

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from prettytable import PrettyTable
from scipy.stats import spearmanr
from torch import Tensor

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.evaluation import CalibrationMetric, use_calibration
from mmseg_more.evaluation.calibration.metric import THRESHOLDS
from mmseg_more.evaluation.functional import (
    confusion_at_thresholds,
    confusion_matrix,
    mean_iou,
)
from mmseg_more.evaluation.report import write_json
from mmseg_more.evaluation.sample import read_pixels
from mmseg_more.evaluation.thresholds import MapThresholds
from mmseg_more.masks import CALIBRATED_MAPS, SCALE_KINDS, evaluated_bkg, map_probabilities
from mmseg_more.masks.probabilities import probabilities_to_mask

from mmseg.registry import METRICS

KEYS = [f'{name}/{kind}' for name in CALIBRATED_MAPS for kind in SCALE_KINDS]


@METRICS.register_module()
class ChosenMetric(CalibrationMetric):
    """Chooses, and keeps the true or agreed mIoU of every threshold as ``curves``."""

    curves: Dict[str, Tensor]

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        self.curves = curves(self._counts)
        return super().compute_metrics(results)


@METRICS.register_module()
class TrueMetric(CalibrationMetric):
    """Scores all thresholds by the true masks, and those of ``out_file``."""

    curves: Dict[str, Tensor]

    def target(self, sample: dict) -> Tensor:
        return sample['gt_sem_seg']['data'].squeeze(0)

    def _count(self, sample: dict) -> Dict[str, Tensor]:
        counts = super()._count(sample)
        truth, classes = self.target(sample), self.dataset_meta['classes'][1:]
        indices = sample['map_indices']
        for kind, suffix in zip(SCALE_KINDS, ('', '_ms')):
            thresholds = MapThresholds(self.out_file, kinds=kind)
            for name in CALIBRATED_MAPS:
                own = thresholds.of_classes(name, classes)
                size = tuple(truth.shape)
                maps = read_pixels(sample, name + suffix, len(indices), size)
                chosen = map_probabilities(
                    maps, indices, indices, thresholds.bkg[name] if own is None else own
                )
                mask = probabilities_to_mask(chosen, 0.5)
                counts[f'own/{name}/{kind}'] = confusion_matrix(
                    mask, truth, len(classes) + 1
                )
        return counts

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        self.curves = curves(self._counts)
        return {key: 100 * mean_iou(self._counts[f'own/{key}']) for key in KEYS}


def curves(counts: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """mIoU in percent at each of ``THRESHOLDS``, by map and kind of scales."""
    found = {}
    for key in KEYS:
        scores = [mean_iou(matrix) for matrix in confusion_at_thresholds(counts[key])]
        found[key] = 100 * torch.tensor(scores)
    return found


def test(cfg: Config, metric: str) -> tuple:
    """Run a test with one metric; the metric and its figures."""
    cfg.test_evaluator[0]['type'] = metric
    runner = Runner.from_cfg(cfg)
    figures = runner.test()
    return runner.test_loop.evaluator.metrics[0], figures


def measure(cfg: Config, checkpoint: str, num_images: int) -> Dict[str, dict]:
    """Figures of one checkpoint by map and kind of scales."""
    cfg.load_from = checkpoint
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / 'thresholds.json')
        choosing = copy.deepcopy(cfg)
        use_calibration(choosing, file, num_images=num_images)
        chosen, thresholds = test(choosing, 'ChosenMetric')
        scoring = copy.deepcopy(choosing)
        scoring.test_dataloader = cfg.test_dataloader
        truth, own = test(scoring, 'TrueMetric')
    rows = {}
    for key in KEYS:
        curve = truth.curves[key]
        threshold = thresholds[f'{key}/threshold']
        fixed = evaluated_bkg(cfg, key.split('/')[0])
        rows[key] = dict(
            threshold=threshold,
            chosen=at(curve, threshold),
            per_class=own[key],
            fixed=None if not isinstance(fixed, float) else at(curve, fixed),
            best=curve.max().item(),
            best_threshold=THRESHOLDS[int(curve.argmax())],
            rank_correlation=float(spearmanr(chosen.curves[key], curve).correlation),
        )
    return rows


def at(curve: Tensor, threshold: float) -> float:
    """The value at the nearest of ``THRESHOLDS``."""
    distance = (torch.tensor(THRESHOLDS, dtype=torch.float64) - threshold).abs()
    return curve[int(distance.argmin())].item()


def table(checkpoint: str, rows: Dict[str, dict]) -> str:
    titles = ('chosen', 'per_class', 'fixed', 'best', 'threshold', 'best_threshold')
    result = PrettyTable(['map', *titles, 'rank_correlation'])
    result.align = 'r'
    for key, row in rows.items():
        values = [row[title] for title in (*titles, 'rank_correlation')]
        result.add_row([key] + ['-' if v is None else f'{v:.2f}' for v in values])
    return f'{checkpoint}, mIoU in percent:\n{result.get_string()}'


def parse_args() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoints', nargs='+', help='checkpoint files')
    parser.add_argument('--num-images', type=int, default=300, help='to choose by')
    parser.add_argument('--out', help='JSON file for the figures')
    add_config_options(parser, help='override settings of the config')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    figures = {}
    for checkpoint in args.checkpoints:
        cfg = launch.load_config(args.config, args.cfg_options)
        launch.check_checkpoint(checkpoint)
        figures[checkpoint] = measure(cfg, checkpoint, args.num_images)
        print(table(checkpoint, figures[checkpoint]), flush=True)
        if args.out:
            write_json(args.out, figures)


if __name__ == '__main__':
    main()
