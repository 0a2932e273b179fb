"""What can go wrong while masks are written, and what is left of it."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mask_run
from golden import ROOT
from mask_run import IMAGES, files, manifest, mask_config, mask_environment, run_masks
from mmseg_more import files as written_files
from mmseg_more.masks import MaskFolder, MaskRecipe, PseudoLabelHook, pool
from mmseg_more.masks import hook as mask_hook
from mmseg_more.masks import loop as mask_data

from mmseg.registry import TRANSFORMS


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.slow
def test_killed_and_started_again(data, tmp_path):
    """SIGKILL in the middle, with the CRF at work; then byte-identical masks."""
    run_masks(data, tmp_path / 'whole', crf=True, soft_maps=True)
    command = [
        sys.executable,
        ROOT / 'tests/mask_run.py',
        data,
        tmp_path / 'parts',
        'crf=True',
        'soft_maps=True',
    ]
    killed = subprocess.run(
        [*command, '--kill-after', '4'],
        env=mask_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert killed.returncode == -9, killed.stdout.decode()[-3000:]
    parts = files(tmp_path / 'parts')
    assert not manifest(tmp_path / 'parts')['complete']
    assert 0 < sum(name.endswith('.png') for name in parts) < len(IMAGES)
    # what a process leaves behind that is killed while it writes
    (tmp_path / 'parts' / '.b.png.abcd_123').write_bytes(b'half')
    with open(tmp_path / 'parts' / '.journal-0.jsonl', 'a') as journal:
        journal.write('{"image": "e", "siz')

    seen = []
    loader = mask_data.MaskLoader.__iter__

    def count(self):
        for image, batch in loader(self):
            seen.append(image.name)
            yield image, batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_data.MaskLoader, '__iter__', count)
        run_masks(data, tmp_path / 'parts', crf=True, soft_maps=True)
    finished = {name[:-4] for name in parts if name.endswith('.png')}
    # the last finished one may have been killed before it was noted
    assert len(finished & set(seen)) <= 1 and set(seen) >= set(IMAGES) - finished
    assert files(tmp_path / 'parts') == files(tmp_path / 'whole')


@pytest.mark.parametrize('loop', ['MaskLoop', 'TestLoop'])
@pytest.mark.parametrize('with_hook', [True, False])
def test_no_masks_of_a_part_of_the_weights(data, tmp_path, loop, with_hook):
    cfg = mask_config(data, tmp_path / 'masks')
    cfg.test_cfg.type = loop
    if not with_hook:  # the hook of the masks looks itself
        del cfg.default_hooks['sanity_check']
    whole = torch.load(data / 'weights.pth')['state_dict']
    cfg.load_from = str(tmp_path / 'weights.pth')
    part = {key: value for key, value in whole.items() if key != 'classifier.weight'}
    torch.save(dict(state_dict=part), cfg.load_from)
    with pytest.raises(ValueError, match="lacks 1 weights.*'classifier.weight'"):
        mask_run.run(cfg)
    whole['classifier.weight'][0] = float('nan')
    torch.save(dict(state_dict=whole), cfg.load_from)
    with pytest.raises(ValueError, match="not numbers.*'classifier.weight'"):
        mask_run.run(cfg)
    assert not (tmp_path / 'masks').exists()


def test_no_masks_of_a_training_that_failed(data, tmp_path):
    """Whose weights are those of the run, and not of a file."""
    cfg = mask_config(data, tmp_path / 'masks')
    runner = mask_run.Runner.from_cfg(cfg)
    runner._load_from = None
    runner.model.classifier.weight.data[0] = float('nan')
    with pytest.raises(ValueError, match="not numbers.*'classifier.weight'"):
        runner.test()
    assert not (tmp_path / 'masks').exists()


@pytest.mark.parametrize('damage', ['cut', 'overwritten'])
def test_a_mask_that_was_damaged_is_made_again(data, masks, finished, damage):
    path = masks / 'b.png'
    path.write_bytes(
        path.read_bytes()[:-9] if damage == 'cut' else (masks / 'a.png').read_bytes()
    )
    before = (masks / 'a.png').stat().st_mtime_ns
    run_masks(data, masks)
    assert files(masks) == files(finished)
    assert (masks / 'a.png').stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_crf_that_hangs_fails_its_image_alone(data, tmp_path, monkeypatch):
    refine = pool.dense_crf_mask

    def slow(image, *args):
        if image.shape[:2] == IMAGES['b'][0]:
            time.sleep(600)
        return refine(image, *args)

    with monkeypatch.context() as patch:
        patch.setattr(pool, 'dense_crf_mask', slow)
        with pytest.raises(RuntimeError, match='1 of 6 images.*b.png: .*longer than 3'):
            run_masks(data, tmp_path / 'masks', crf=True, crf_timeout=3.0)
    found = manifest(tmp_path / 'masks')
    assert set(found['images']) == set(IMAGES) - {'b'} and set(found['failed']) == {'b'}
    run_masks(data, tmp_path / 'masks', crf=True)  # another time-out: the same masks
    assert manifest(tmp_path / 'masks')['complete']


def test_nothing_left_to_do(data, masks, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in masks.rglob('*.png')}
    monkeypatch.setattr('mmseg_more.models.MoRe.predict', None)  # not called
    run_masks(data, masks)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_changed_labels_are_done_again(data, masks, tmp_path):
    before = files(masks)
    labels = {name: labels for name, (_, labels) in IMAGES.items()}
    labels['b'] = ['star']
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    cfg = mask_config(data, masks)
    cfg.test_dataloader.dataset.label_file = str(tmp_path / 'labels.json')
    mask_run.run(cfg)
    assert manifest(masks)['images']['b']['classes'] == ['star']
    after = files(masks)
    assert {name for name in after if after[name] != before[name]} == {
        'b.png',
        'manifest.json',
    }


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_corrupt_image(data, tmp_path, workers):
    copy = mask_run.make_data(tmp_path / 'data')
    (copy / 'images/below/a.png').write_bytes(b'no image')
    cfg = mask_config(copy, tmp_path / 'masks', crf=True)
    cfg.test_dataloader.num_workers = workers
    with pytest.raises(
        RuntimeError,
        match='1 of 6 images have no mask.*below/a.png '
        r'\(8 bytes\) does not decode.*Repair them',
    ):
        mask_run.run(cfg)
    found = manifest(tmp_path / 'masks')
    assert not found['complete'] and list(found['failed']) == ['below/a']
    assert set(found['images']) == set(IMAGES) - {'below/a'}

    mask_run.make_data(copy)
    mask_run.run(cfg)
    run_masks(data, tmp_path / 'other', crf=True)
    assert manifest(tmp_path / 'masks')['failed'] == {}
    masks, other = files(tmp_path / 'masks'), files(tmp_path / 'other')
    assert masks.pop('manifest.json') and other.pop('manifest.json')
    assert masks == other


def test_failing_crf(data, tmp_path, monkeypatch):
    real = mask_hook.read_rgb
    monkeypatch.setattr(
        mask_hook,
        'read_rgb',
        lambda path, *args: (
            real(path, *args)[:, :5] if path.endswith('c.png') else real(path, *args)
        ),
    )
    with pytest.raises(RuntimeError, match='1 of 6 images have no mask.*images/c.png'):
        run_masks(data, tmp_path / 'masks', crf=True)
    assert list(manifest(tmp_path / 'masks')['failed']) == ['c']


def test_image_that_the_network_fails_on(data, tmp_path, capfd):
    """Without Resize an image of one row is smaller than a patch."""
    cfg = mask_config(data, tmp_path / 'masks', scales=(1.0,))
    del cfg.test_dataloader.dataset.pipeline[1]
    with pytest.raises(
        RuntimeError,
        match='1 of 6 images have no mask.*images/d.png: '
        'ValueError: .*smaller than one patch',
    ):
        mask_run.run(cfg)
    found = manifest(tmp_path / 'masks')
    assert list(found['failed']) == ['d'] and len(found['images']) == 5
    assert 'no mask of' in ''.join(capfd.readouterr())


def test_image_of_another_size_than_its_file(data, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks', crf=True)
    cfg.test_dataloader.dataset.pipeline[0].imdecode_backend = 'cv2'
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='LoadAnnotationsOfSize'))

    @TRANSFORMS.register_module(force=True)
    class LoadAnnotationsOfSize:
        def __call__(self, results):
            return dict(results, ori_shape=(8, 9))

    with pytest.raises(RuntimeError, match='6 of 6.*24x32 pixels, its output 8x9'):
        mask_run.run(cfg)


def test_full_disk(data, finished, tmp_path, monkeypatch):
    """A real ENOSPC from the third mask on; then there is room again."""
    real, count = written_files.tempfile.mkstemp, []

    def mkstemp(dir, prefix):
        handle, name = real(dir=dir, prefix=prefix)
        if prefix.endswith('.png.'):
            count.append(name)
            if len(count) >= 3:
                os.close(handle)
                handle = os.open('/dev/full', os.O_WRONLY)
        return handle, name

    with monkeypatch.context() as patch:
        patch.setattr(written_files.tempfile, 'mkstemp', mkstemp)
        with pytest.raises(
            OSError,
            match='No space left on device.*make room.*'
            r'start the same command again.*below/a.png',
        ) as error:
            run_masks(data, tmp_path / 'masks')
    assert error.value.errno == errno.ENOSPC
    names = {name for name in files(tmp_path / 'masks') if name[0] != '.'}
    assert names == {'a.png', 'b.png', 'manifest.json'}
    run_masks(data, tmp_path / 'masks')
    assert files(tmp_path / 'masks') == files(finished)


def test_full_disk_while_the_journal_is_written(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        MaskFolder,
        'open_journal',
        lambda self, rank: setattr(self, '_journal', os.open('/dev/full', os.O_WRONLY)),
    )
    with pytest.raises(OSError, match='No space left on device.*make room'):
        run_masks(data, tmp_path / 'masks')


def test_unwritable_folder(data, tmp_path):
    (tmp_path / 'masks').touch()
    with pytest.raises(OSError, match='File exists.*give the rights.*masks'):
        run_masks(data, tmp_path / 'masks')
    with pytest.raises(OSError, match='Not a directory'):
        run_masks(data, tmp_path / 'masks/below')


def test_unwritable_folder_is_noticed_before_the_training(tmp_path):
    (tmp_path / 'file').touch()
    hook = PseudoLabelHook(str(tmp_path / 'file'), after_train=True)

    class FakeRunner:
        cfg = Config.fromfile(ROOT / 'configs/more/more_vit-t_shapes.py')

    with pytest.raises(OSError, match='give the rights'):
        hook.before_train(FakeRunner)


def test_another_checkpoint(data, masks, tmp_path):
    before = files(masks)
    cfg = mask_config(data, masks)
    cfg.load_from = str(tmp_path / 'other.pth')
    os.symlink(data / 'images', tmp_path / 'images')
    mask_run.save_weights(tmp_path / 'other.pth', seed=1)
    with pytest.raises(
        ValueError,
        match='the checkpoint is another one: .*weights.pth.*'
        'there, .*other.pth.* now. Choose another folder',
    ):
        mask_run.run(cfg)
    assert files(masks) == before
    # the same weights in another file are the same checkpoint
    mask_run.save_weights(tmp_path / 'other.pth', seed=0)
    mask_run.run(cfg)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(source='cam'), 'settings.source is lam there, cam now'),
        (dict(bkg=0.4), 'settings.bkg is 0.5 there, 0.4 now'),
        (dict(scales=(1.0,)), r'settings.scales is \[1.0, 0.5\] there, \[1.0\] now'),
        (dict(crf=True), 'settings.crf is None there'),
        (dict(policy='predicted'), 'settings.classes is image-labels there'),
        (dict(soft_maps=True), 'settings.soft_maps is False there, True now'),
    ],
)
def test_other_settings(data, masks, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run_masks(data, masks, **options)


def test_other_pipeline_and_palette(data, masks, tmp_path):
    cfg = mask_config(data, masks)
    cfg.test_dataloader.dataset.pipeline[1].scale = (48, 56)
    with pytest.raises(ValueError, match=r'settings.pipeline\[1\].scale\[1\] is 48 th'):
        mask_run.run(cfg)
    cfg = mask_config(data, masks)
    cfg.test_dataloader.dataset.metainfo.palette = [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=r'palette\[1\]\[0\] is 128 there, 1 now'):
        mask_run.run(cfg)


def test_folder_of_something_else(data, tmp_path):
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks' / 'b.png').write_bytes(b'the truth')
    with pytest.raises(ValueError, match=r"how its 1 PNGs were made \('b.png'\): give an"):
        run_masks(data, tmp_path / 'masks')
    (tmp_path / 'masks' / 'manifest.json').write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match='manifest.json is not the manifest of'):
        run_masks(data, tmp_path / 'masks')
    (tmp_path / 'masks' / 'manifest.json').write_text('{')
    with pytest.raises(ValueError, match='manifest.json is not valid JSON'):
        run_masks(data, tmp_path / 'masks')
    assert (tmp_path / 'masks' / 'b.png').read_bytes() == b'the truth'


def test_folder_of_the_images(data):
    with pytest.raises(ValueError, match='images/a.png would overwrite an image'):
        run_masks(data, data / 'images')
    assert not (data / 'images' / 'manifest.json').exists()


def test_evaluator_that_would_see_a_part(data, masks, tmp_path):
    cfg = mask_config(data, masks)
    cfg.test_evaluator = [dict(type='LocalizationMetric')]
    with pytest.raises(ValueError, match='images without a mask only.*set test_evaluator'):
        mask_run.run(cfg)


def test_too_many_classes(tmp_path):
    hook = PseudoLabelHook(str(tmp_path))
    recipe = MaskRecipe(source='seg', policy='all')
    hook.check_data(dict(classes=[str(i) for i in range(255)]), [], recipe)
    with pytest.raises(ValueError, match='254 classes and background.*has 255'):
        hook.check_data(dict(classes=[str(i) for i in range(256)]), [], recipe)
