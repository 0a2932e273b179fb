import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import DefaultScope
from PIL import Image
from torch.utils.data import DataLoader

import mask_run
from golden import ROOT
from mask_run import (
    IMAGES,
    files,
    manifest,
    mask_config,
    mask_environment,
    read_mask,
    run_masks,
    threshold_mask,
)
from mmseg_more.engine.launch import use_tta
from mmseg_more.masks import (
    DenseCRFOptions,
    PseudoLabelHook,
    dense_crf,
    map_probabilities,
    seg_probabilities,
    use_pseudo_labels,
)
from mmseg_more.masks.identity import weights_sha256
from mmseg_more.models.structures import LocalizationRequest

from mmseg.registry import HOOKS, MODELS


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def classes_of(name):
    return [mask_run.CLASSES.index(cls) - 1 for cls in IMAGES[name][1]]


# ------------------------------------------------------------------ the masks
@pytest.mark.parametrize('source', ['lam', 'cam', 'fused'])
def test_masks_of_maps(data, outputs, tmp_path, source):
    runner = run_masks(data, tmp_path / 'masks', source=source, bkg=0.3)
    assert runner.model.localization_request is None
    assert len(outputs) == len(IMAGES)
    for name, (size, _) in IMAGES.items():
        expected = threshold_mask(
            outputs[name].get(f'{source}_ms').data, classes_of(name), 0.3
        )
        mask = Image.open(tmp_path / 'masks' / f'{name}.png')
        assert mask.mode == 'P' and np.asarray(mask).shape == size
        assert np.array_equal(np.asarray(mask), expected)
    assert read_mask(tmp_path / 'masks' / 'b.png').any()


def test_masks_of_the_segmentation(data, outputs, tmp_path):
    run_masks(
        data, tmp_path / 'one', source='seg', scales=None, multi_scale=False, policy='all'
    )
    run_masks(data, tmp_path / 'two', source='seg', policy='image-labels')
    for name in IMAGES:
        one = outputs[name].pred_sem_seg.data[0]
        assert np.array_equal(read_mask(tmp_path / 'one' / f'{name}.png'), one)
        allowed = [0] + [index + 1 for index in classes_of(name)]
        logits = outputs[name].seg_logits_ms.data
        two = torch.tensor(allowed)[logits[allowed].argmax(0)]
        assert np.array_equal(read_mask(tmp_path / 'two' / f'{name}.png'), two)
    settings = manifest(tmp_path / 'one')['settings']
    assert settings['scales'] == [] and settings['bkg'] is None
    seen = {
        value
        for name in IMAGES
        for value in read_mask(tmp_path / 'one' / f'{name}.png').flatten()
    }
    entries = manifest(tmp_path / 'one')['images'].values()
    assert {mask_run.CLASSES[value] for value in seen} == {
        cls for entry in entries for cls in entry['confidence']
    }


@pytest.mark.parametrize('source', ['lam', 'seg'])
def test_masks_by_crf(data, outputs, tmp_path, source):
    options = dict(num_iters=2, bilateral_sxy=5.0, epsilon=0.0)
    run_masks(data, tmp_path / 'masks', source=source, crf=options)
    crf = DenseCRFOptions(num_iters=2, bilateral_sxy=5.0)
    for name in IMAGES:
        if source == 'lam':
            probs, labels = map_probabilities(outputs[name].lam_ms.data, classes_of(name))
        else:
            probs, labels = seg_probabilities(
                outputs[name].seg_logits_ms.data, classes_of(name)
            )
        image = np.array(Image.open(data / 'images' / f'{name}.png'))
        refined = dense_crf(image, probs.numpy(), crf)
        expected = labels.numpy()[refined.argmax(0)]
        assert np.array_equal(read_mask(tmp_path / 'masks' / f'{name}.png'), expected)
        confidence = manifest(tmp_path / 'masks')['images'][name]['confidence']
        for channel, label in enumerate(labels):
            won = expected == int(label)
            if won.any():
                assert confidence[mask_run.CLASSES[label]] == pytest.approx(
                    refined[channel][won].mean(), abs=1e-4
                )
    assert manifest(tmp_path / 'masks')['settings']['crf'] == dict(
        crf._asdict(), epsilon=0.0
    )


def test_palette_and_manifest(data, outputs, tmp_path):
    run_masks(data, tmp_path / 'masks', bkg=0.3)
    found = manifest(tmp_path / 'masks')
    assert found['complete'] and found['failed'] == {}
    assert found['classes'] == list(mask_run.CLASSES)
    palette = Image.open(tmp_path / 'masks' / 'a.png').getpalette()
    assert palette[:9] == sum(found['palette'], []) and any(palette)
    assert found['settings']['source'] == 'lam'
    assert [step['type'] for step in found['settings']['pipeline']] == [
        'LoadImageFromFile',
        'Resize',
        'PackImageLevelInputs',
    ]
    checkpoint = found['checkpoint']
    assert checkpoint['path'] == str(data / 'weights.pth')
    digest = subprocess.run(
        ['sha256sum', data / 'weights.pth'], capture_output=True, text=True, check=True
    )
    assert digest.stdout.split()[0] == checkpoint['sha256']

    lam = outputs['b'].lam_ms.data
    entry = found['images']['b']
    mask = read_mask(tmp_path / 'masks' / 'b.png')
    assert entry['size'] == [30, 20] and entry['classes'] == ['disk', 'star']
    assert set(entry['confidence']) == {mask_run.CLASSES[i] for i in np.unique(mask)}
    for label in np.unique(mask):
        probs = 1 - lam.amax(0) if label == 0 else lam[label - 1]
        expected = probs[torch.from_numpy(mask == label)].mean()
        assert entry['confidence'][mask_run.CLASSES[label]] == pytest.approx(
            expected.item(), abs=1e-4
        )


def test_image_without_a_class(data, tmp_path, capfd):
    cfg = mask_config(data, tmp_path / 'masks', crf=True)
    cfg.log_level = 'INFO'
    mask_run.run(cfg)
    assert not read_mask(tmp_path / 'masks' / 'e.png').any()
    found = manifest(tmp_path / 'masks')
    assert found['without_class'] == ['e']
    assert found['images']['e']['classes'] == []
    assert "1 of them show no class and are background ('e')" in ''.join(capfd.readouterr())


def test_predicted_classes_need_no_labels(data, outputs, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks', policy='predicted')
    assert cfg.test_dataloader.dataset.label_file == ''
    mask_run.run(cfg)
    for name, entry in manifest(tmp_path / 'masks')['images'].items():
        assert entry['classes'] == [
            mask_run.CLASSES[i + 1] for i in outputs[name].pred_label
        ]
    cfg = mask_config(data, tmp_path / 'other')
    del cfg.test_dataloader.dataset['label_file']
    with pytest.raises(ValueError, match="6 of 6 images have no image labels.*'pred"):
        mask_run.run(cfg)


def test_soft_maps(data, outputs, tmp_path):
    run_masks(data, tmp_path / 'masks', soft_maps=True, crf=True)
    for name, (size, _) in IMAGES.items():
        soft = np.load(io.BytesIO((tmp_path / 'masks/soft' / f'{name}.npz').read_bytes()))
        expected = map_probabilities(outputs[name].lam_ms.data, classes_of(name))
        assert soft['size'].tolist() == list(size)
        assert soft['labels'].tolist() == expected.labels.tolist()
        height, width = max(1, size[0] // 4), max(1, size[1] // 4)
        assert soft['probs'].shape == (len(expected.labels), height, width)
        assert soft['probs'].dtype == np.uint8
        # means of the same pixels, in steps of 1/255
        assert soft['probs'].mean() / 255 == pytest.approx(
            expected.probs.mean().item(), abs=0.02
        )


# ------------------------------------------------------- beside other parts
def test_the_request_is_taken_back(data, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks')
    seen = []

    @HOOKS.register_module(force=True)
    class RequestRecord(Hook):
        def before_test_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.model.localization_request)

    cfg.custom_hooks.insert(
        0, dict(type='LocalizationHook', maps=('cam',), cam_scales=(0.5,), draw=False)
    )
    cfg.custom_hooks.append(dict(type='RequestRecord'))
    runner = mask_run.run(cfg)
    assert set(seen) == {
        LocalizationRequest(('cam', 'lam'), (0.5,), (1.0,), ms_scales=(1.0, 0.5))
    }
    assert runner.model.localization_request is None
    assert isinstance(runner.test_loop.dataloader, DataLoader)


def test_another_hook_that_wants_other_scales(data, tmp_path):
    hook = PseudoLabelHook(str(tmp_path), scales=(1.0, 0.5))
    with pytest.raises(ValueError, match=r'ms_scales=\(2.0,\).*remove that hook'):
        hook.recipe.request(LocalizationRequest(ms_scales=(2.0,)))


@pytest.mark.slow
def test_masks_do_not_depend_on_workers_of_the_loader(data, tmp_path):
    run_masks(data, tmp_path / 'none', crf=True, num_workers=0)
    cfg = mask_config(data, tmp_path / 'two', crf=True)
    cfg.test_dataloader.update(num_workers=2, persistent_workers=True)
    mask_run.run(cfg)
    assert files(tmp_path / 'none') == files(tmp_path / 'two')


@pytest.mark.slow
def test_test_time_augmentation(data, tmp_path):
    cfg = mask_run.config(data)
    resize = cfg.tta_pipeline[1].transforms[0]
    for step, side in zip(resize, (48, 24, 32)):
        step.scale = (side, side)
    use_tta(cfg)
    use_pseudo_labels(cfg, str(tmp_path / 'masks'), source='seg', policy='predicted')
    cfg.work_dir = str(tmp_path / 'work')
    runner = mask_run.run(cfg)
    assert isinstance(runner.model, BaseTTAModel)
    with torch.no_grad():
        samples = [runner.model.test_step(batch)[0] for batch in runner.test_dataloader]
    for sample in samples:
        name = mask_run.name_of(sample.img_path, data)
        allowed = torch.cat([torch.zeros(1), sample.pred_label + 1]).long()
        best = sample.seg_logits.data[allowed].argmax(0)
        assert np.array_equal(read_mask(tmp_path / 'masks' / f'{name}.png'), allowed[best])
    cfg.custom_hooks[-1].update(source='lam', out_dir=str(tmp_path / 'other'))
    with pytest.raises(ValueError, match='leave out --tta'):
        mask_run.run(cfg)


@pytest.mark.slow
def training_with_masks(data, tmp_path, **hook):
    """A training of one iteration, after which masks are made."""
    cfg = mask_run.config(data)
    options = dict(bkg=0.5, scales=(1.0, 0.5), num_workers=1, split='train')
    cfg.custom_hooks = [
        dict(
            dict(options, **hook),
            type='PseudoLabelHook',
            out_dir=str(tmp_path / 'masks'),
            after_train=True,
        )
    ]
    cfg.merge_from_dict(
        {
            'train_cfg.max_iters': 1,
            'work_dir': str(tmp_path / 'work'),
            'val_cfg': None,
            'val_dataloader': None,
            'val_evaluator': None,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.save_best': None,
            'train_dataloader.dataset.pipeline': [
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(48, 48)),
                dict(type='PackImageLevelInputs'),
            ],
        }
    )
    return cfg


def test_after_training(data, tmp_path):
    """The masks of the training's last weights; `tools/test.py` goes on with them."""
    training = training_with_masks(data, tmp_path)
    training.test_evaluator = [dict(type='LocalizationMetric')]
    mask_run.train(training)
    done = files(tmp_path / 'masks')
    assert manifest(tmp_path / 'masks')['complete'] and len(done) == 7

    trained = tmp_path / 'work/iter_1.pth'
    os.unlink(tmp_path / 'masks' / 'b.png')
    cfg = mask_config(data, tmp_path / 'masks', split='train')
    cfg.load_from = str(trained)
    mask_run.run(cfg)
    again = files(tmp_path / 'masks')
    for path, content in done.items():
        assert path == 'manifest.json' or again[path] == content


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(source='attention'), 'source must be one of lam, cam, fused, seg'),
        (dict(policy='truth'), 'policy must be one of'),
        (dict(source='lam', policy='all'), "policy='all' is for source='seg'"),
        (dict(bkg=1.0), 'bkg must lie in'),
        (dict(scales=(1,), multi_scale=False), 'multi_scale=False'),
        (dict(scales=()), 'scales must name'),
        (dict(crf=dict(iterations=3)), r"unknown keys \['iterations'\]"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        PseudoLabelHook(str(tmp_path), **arguments)


def test_unknown_options_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"\['classes'\], known are source, .*, policy"):
        PseudoLabelHook(str(tmp_path), classes='predicted')


@pytest.mark.slow
def test_two_processes(data, tmp_path):
    """No image twice, none lost; the same bytes as of one process."""
    run_masks(data, tmp_path / 'one', crf=True)
    result = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node',
            '2',
            ROOT / 'tests/mask_run.py',
            data,
            tmp_path / 'two',
            '--launcher',
            'pytorch',
            'crf=True',
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=mask_environment(MASK_RUN_KEEP_JOURNALS=str(tmp_path / 'journals')),
    )
    assert result.returncode == 0, result.stdout[-3000:]
    shares = [
        sorted(json.loads(line)['image'] for line in path.open())
        for path in sorted((tmp_path / 'journals').iterdir())
    ]
    names = sorted(IMAGES)
    assert shares == [names[::2], names[1::2]]
    assert files(tmp_path / 'two') == files(tmp_path / 'one')


def test_a_folder_of_another_run_is_noticed_before_the_training(data, finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'masks')
    before = files(tmp_path / 'masks')
    with pytest.raises(ValueError, match='holds 6 masks of other weights than this train'):
        mask_run.train(training_with_masks(data, tmp_path))
    with pytest.raises(ValueError, match='settings.source is lam there, cam now'):
        mask_run.train(training_with_masks(data, tmp_path, source='cam'))
    assert files(tmp_path / 'masks') == before
    assert not list((tmp_path / 'work').glob('*.pth'))  # nothing was trained


@pytest.mark.slow
def test_a_training_that_was_resumed_goes_on_with_its_masks(data, tmp_path):
    cfg = training_with_masks(data, tmp_path)
    mask_run.train(cfg)
    whole = files(tmp_path / 'masks')
    (tmp_path / 'masks' / 'b.png').unlink()
    cfg = training_with_masks(data, tmp_path)
    cfg.resume, cfg.load_from = True, None
    mask_run.train(cfg)
    again = files(tmp_path / 'masks')
    assert again == whole and manifest(tmp_path / 'masks')['complete']


def test_masks_of_the_averaged_weights(data, tmp_path):
    """Those of EMAHook, where there is one; other hooks see nothing of this loop."""
    cfg = training_with_masks(data, tmp_path)
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.5))
    cfg.test_dataloader.dataset.label_file = 'of another split'
    mask_run.train(cfg)
    saved = torch.load(tmp_path / 'work' / 'iter_1.pth', weights_only=False)
    model = MODELS.build(cfg.model)
    model.load_state_dict(saved['state_dict'])  # EMAHook saves the average as the model
    assert manifest(tmp_path / 'masks')['checkpoint']['weights_sha256'] == weights_sha256(
        model
    )
