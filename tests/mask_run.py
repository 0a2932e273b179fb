"""A very small MoRe that writes masks: for tests in this process and in others.

python tests/mask_run.py DATA OUT [--kill-after N] [--launcher pytorch] [KEY=VALUE ...]
"""

import argparse
import ast
import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmseg_more.engine import launch
from mmseg_more.masks import MaskFolder, PseudoLabelHook, use_pseudo_labels

from mmseg.registry import HOOKS, MODELS

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ('background', 'disk', 'star')
# name -> (height, width), labels
IMAGES = {
    'a': ((24, 32), ['disk']),
    'b': ((30, 20), ['disk', 'star']),
    'below/a': ((24, 32), ['star']),
    'c': ((17, 23), ['star']),
    'd': ((1, 40), ['disk']),
    'e': ((24, 24), []),
}

_NUMBERS = itertools.count()


@HOOKS.register_module()
class KillHook(Hook):
    """End this process, as the system would, after so many images.

    Half of them have their masks by then, however slow the CRF is.
    """

    priority = 'LOWEST'

    def __init__(self, after):
        self.after = after

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == self.after // 2:
            for hook in runner.hooks:
                if isinstance(hook, PseudoLabelHook):
                    hook._run.drain()
        if batch_idx + 1 == self.after:
            os.kill(os.getpid(), signal.SIGKILL)


def make_data(folder, images=IMAGES, classes=CLASSES):
    """Images of noise in different sizes, their labels, and a checkpoint."""
    generator = np.random.default_rng(0)
    for name, (size, _) in images.items():
        path = folder / 'images' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 256, (3, 4, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(small, size[::-1]))
    labels = {name: labels for name, (_, labels) in images.items()}
    (folder / 'labels.json').write_text(json.dumps(labels))
    save_weights(folder / 'weights.pth', 0, classes)
    return folder


def make_masks(data, images=IMAGES):
    """A mask of class 1 everywhere for each image."""
    for name, (size, _) in images.items():
        path = data / 'masks' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.ones(size, np.uint8))


def save_weights(path, seed, classes=CLASSES):
    torch.manual_seed(seed)
    model = MODELS.build(config(path.parent, classes).model)
    # untrained classifiers see nothing: let some classes win
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), path)


def config(data, classes=CLASSES):
    """The shapes' config, for a model of a thousandth of a second."""
    num = len(classes) - 1
    cfg = Config.fromfile(ROOT / 'configs/more/more_vit-t_shapes.py')
    cfg.merge_from_dict(
        {
            'model.num_classes': num,
            'model.pretrained': None,  # of another size
            'model.backbone.num_classes': num,
            'model.backbone.arch.embed_dims': 16,
            'model.backbone.arch.num_layers': 3,
            'model.graph.embed_dims': 16,
            'model.decode_head.in_channels': 16,
            'model.decode_head.channels': 8,
            'model.decode_head.num_classes': num + 1,
            'log_level': 'WARNING',
        }
    )
    dataset = dict(
        type='ImageLevelDataset',
        data_root=str(data),
        label_file='labels.json',
        data_prefix=dict(img_path='images', seg_map_path='no_masks'),
        metainfo=dict(classes=classes),
    )
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset = dict(dataset, pipeline=loader.dataset.pipeline)
    cfg.test_dataloader.dataset.pipeline[1].scale = (48, 48)
    cfg.load_from = str(Path(data) / 'weights.pth')
    return cfg


def mask_config(data, out, **options):
    """Complete config of a run that writes masks into ``out``."""
    cfg = config(data)
    options = dict(dict(bkg=0.5, scales=(1.0, 0.5), num_workers=1), **options)
    use_pseudo_labels(cfg, str(out), **options)
    cfg.work_dir = str(Path(out).parent / 'work')
    return cfg


def run(cfg):
    """A test by ``cfg``; returns its Runner."""
    with _unformatted():
        runner = _runner(cfg)
        runner.test()
    return runner


def train(cfg):
    """A training by ``cfg``; returns its Runner."""
    with _unformatted():
        runner = _runner(cfg)
        runner.train()
    return runner


def _unformatted():
    """MMEngine formats the config four times in a run: most of the time of these."""
    return mock.patch.object(Config, 'pretty_text', '')


def _runner(cfg):
    # Runners of one name and second share MMEngine's message hub
    cfg.experiment_name = f'masks_{next(_NUMBERS)}'
    return Runner.from_cfg(cfg)


def name_of(img_path, data):
    """Name of an image in ``IMAGES``."""
    return str(Path(img_path).relative_to(data / 'images').with_suffix(''))


def run_masks(data, out, **options):
    """A run that writes masks into ``out``."""
    return run(mask_config(data, out, **options))


def mask_environment(**more):
    """What this file needs as a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    return dict(
        os.environ, CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='2', PYTHONPATH=paths, **more
    )


def threshold_mask(maps, indices, bkg):
    """Dense labels of maps ``(K, H, W)``, by the definition of the evaluation."""
    labels = torch.zeros(maps.shape[1:], dtype=torch.uint8)
    best = torch.full(maps.shape[1:], bkg)
    for index in sorted(indices):
        labels[maps[index] > best] = index + 1
        best = torch.maximum(best, maps[index])
    return labels


def read_mask(path):
    return np.asarray(Image.open(path))


def files(folder):
    """Content of all files below a folder, by their names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


def manifest(folder):
    return json.loads((Path(folder) / 'manifest.json').read_text())


def keep_journals():
    """Copy journals to a folder that a test names, before they go."""
    folder = os.environ.get('MASK_RUN_KEEP_JOURNALS')
    if folder:
        finish = MaskFolder.finish

        def copy_and_finish(self, names):
            for journal in self.root.glob('.journal-*'):
                os.makedirs(folder, exist_ok=True)
                shutil.copy(journal, folder)
            return finish(self, names)

        MaskFolder.finish = copy_and_finish


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('data')
    parser.add_argument('out')
    parser.add_argument('--kill-after', type=int)
    parser.add_argument('--launcher', default='none')
    parser.add_argument('options', nargs='*')
    args = parser.parse_intermixed_args()
    options = dict(option.split('=') for option in args.options)
    cfg = mask_config(
        args.data,
        args.out,
        **{key: ast.literal_eval(value) for key, value in options.items()},
    )
    if args.kill_after:
        cfg.custom_hooks.append(dict(type='KillHook', after=args.kill_after))
    keep_journals()
    cfg.launcher = args.launcher
    launch.prepare_machine(cfg)
    run(cfg)
    launch.finish()


if __name__ == '__main__':
    main()
