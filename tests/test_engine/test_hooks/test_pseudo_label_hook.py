import errno
import io
import json
import os
import shutil
import subprocess
import sys

import mask_run
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.registry import DefaultScope
from PIL import Image
from torch.utils.data import DataLoader

from golden import ROOT
from mask_run import IMAGES, files, manifest, mask_config
from mmseg_more import files as written_files
from mmseg_more.engine.hooks import PseudoLabelHook
from mmseg_more.engine.pseudo_labels import data as mask_data
from mmseg_more.localization import DenseCRFOptions, dense_crf, threshold_mask
from mmseg_more.localization.masks import map_probabilities, seg_probabilities
from mmseg_more.models.structures import LocalizationRequest
from mmseg.registry import HOOKS


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return mask_run.make_data(tmp_path_factory.mktemp('masks') / 'data')


def run(data, out, **options):
    return mask_run.run(mask_config(data, out, **options))


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope='module')
def outputs(data):
    """What the model says of each image, asked for by hand."""
    request = LocalizationRequest(ms_scales=(1., .5), seg_scales=(1., .5))
    cfg = mask_config(data, data.parent / 'by_hand')
    cfg.custom_hooks = []
    with DefaultScope.overwrite_default_scope('mmseg'):
        runner = mask_run.run(cfg)
        runner.model.localization_request = request
        with torch.no_grad():
            samples = [runner.model.test_step(batch)[0]
                       for batch in runner.test_dataloader]
    return {mask_run.name_of(sample.img_path, data): sample for sample in samples}


@pytest.fixture(scope='module')
def finished(data):
    """A run without CRF."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        run(data, data.parent / 'finished')
    return data.parent / 'finished'


@pytest.fixture
def masks(finished, tmp_path):
    """A folder of its own for a test, all done."""
    return shutil.copytree(finished, tmp_path / 'masks')


def classes_of(name):
    return [mask_run.CLASSES.index(cls) - 1 for cls in IMAGES[name][1]]


# ------------------------------------------------------------------ the masks
@pytest.mark.parametrize('source', ['lam', 'cam', 'fused'])
def test_masks_of_maps(data, outputs, tmp_path, source):
    runner = run(data, tmp_path / 'masks', source=source, bkg=.3)
    assert runner.model.localization_request is None
    assert len(outputs) == len(IMAGES)
    for name, (size, _) in IMAGES.items():
        expected = threshold_mask(outputs[name].get(f'{source}_ms').data,
                                  classes_of(name), .3)
        mask = Image.open(tmp_path / 'masks' / f'{name}.png')
        assert mask.mode == 'P' and np.asarray(mask).shape == size
        assert np.array_equal(np.asarray(mask), expected)
    assert read(tmp_path / 'masks' / 'b.png').any()


def test_masks_of_the_segmentation(data, outputs, tmp_path):
    run(data, tmp_path / 'one', source='seg', scales=None, multi_scale=False,
        classes='all')
    run(data, tmp_path / 'two', source='seg', classes='image-labels')
    for name in IMAGES:
        one = outputs[name].pred_sem_seg.data[0]
        assert np.array_equal(read(tmp_path / 'one' / f'{name}.png'), one)
        allowed = [0] + [index + 1 for index in classes_of(name)]
        logits = outputs[name].seg_logits_ms.data
        two = torch.tensor(allowed)[logits[allowed].argmax(0)]
        assert np.array_equal(read(tmp_path / 'two' / f'{name}.png'), two)
    settings = manifest(tmp_path / 'one')['settings']
    assert settings['scales'] == [] and settings['bkg'] is None
    seen = {value for name in IMAGES
            for value in read(tmp_path / 'one' / f'{name}.png').flatten()}
    entries = manifest(tmp_path / 'one')['images'].values()
    assert {mask_run.CLASSES[value] for value in seen} == {
        cls for entry in entries for cls in entry['confidence']}


@pytest.mark.parametrize('source', ['lam', 'seg'])
def test_masks_by_crf(data, outputs, tmp_path, source):
    options = dict(num_iters=2, bilateral_sxy=5., epsilon=0.)
    run(data, tmp_path / 'masks', source=source, crf=options)
    crf = DenseCRFOptions(num_iters=2, bilateral_sxy=5.)
    for name in IMAGES:
        if source == 'lam':
            probs, labels = map_probabilities(outputs[name].lam_ms.data,
                                              classes_of(name))
        else:
            probs, labels = seg_probabilities(outputs[name].seg_logits_ms.data,
                                              classes_of(name))
        image = np.array(Image.open(data / 'images' / f'{name}.png'))
        refined = dense_crf(image, probs.numpy(), crf)
        expected = labels.numpy()[refined.argmax(0)]
        assert np.array_equal(read(tmp_path / 'masks' / f'{name}.png'), expected)
        confidence = manifest(tmp_path / 'masks')['images'][name]['confidence']
        for channel, label in enumerate(labels):
            won = expected == int(label)
            if won.any():
                assert confidence[mask_run.CLASSES[label]] == pytest.approx(
                    refined[channel][won].mean(), abs=1e-4)
    assert manifest(tmp_path / 'masks')['settings']['crf'] == dict(
        crf._asdict(), epsilon=0.)


def test_palette_and_manifest(data, outputs, tmp_path):
    run(data, tmp_path / 'masks', bkg=.3)
    found = manifest(tmp_path / 'masks')
    assert found['complete'] and found['failed'] == {}
    assert found['classes'] == list(mask_run.CLASSES)
    palette = Image.open(tmp_path / 'masks' / 'a.png').getpalette()
    assert palette[:9] == sum(found['palette'], []) and any(palette)
    assert found['settings']['source'] == 'lam'
    assert [step['type'] for step in found['settings']['pipeline']] == [
        'LoadImageFromFile', 'Resize', 'PackImageLevelInputs']
    checkpoint = found['checkpoint']
    assert checkpoint['path'] == str(data / 'weights.pth')
    digest = subprocess.run(['sha256sum', data / 'weights.pth'],
                            capture_output=True, text=True, check=True)
    assert digest.stdout.split()[0] == checkpoint['sha256']

    lam = outputs['b'].lam_ms.data
    entry = found['images']['b']
    mask = read(tmp_path / 'masks' / 'b.png')
    assert entry['size'] == [30, 20] and entry['classes'] == ['disk', 'star']
    assert set(entry['confidence']) == {mask_run.CLASSES[i] for i in np.unique(mask)}
    for label in np.unique(mask):
        probs = 1 - lam.amax(0) if label == 0 else lam[label - 1]
        expected = probs[torch.from_numpy(mask == label)].mean()
        assert entry['confidence'][mask_run.CLASSES[label]] == pytest.approx(
            expected.item(), abs=1e-4)


def test_image_without_a_class(data, tmp_path, capfd):
    cfg = mask_config(data, tmp_path / 'masks', crf=True)
    cfg.log_level = 'INFO'
    mask_run.run(cfg)
    assert not read(tmp_path / 'masks' / 'e.png').any()
    found = manifest(tmp_path / 'masks')
    assert found['without_class'] == ['e']
    assert found['images']['e']['classes'] == []
    assert "1 of them show no class and are background ('e')" in ''.join(
        capfd.readouterr())


def test_predicted_classes_need_no_labels(data, outputs, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks', classes='predicted')
    assert cfg.test_dataloader.dataset.label_file == ''
    mask_run.run(cfg)
    for name, entry in manifest(tmp_path / 'masks')['images'].items():
        assert entry['classes'] == [
            mask_run.CLASSES[i + 1] for i in outputs[name].pred_label]
    cfg = mask_config(data, tmp_path / 'other')
    del cfg.test_dataloader.dataset['label_file']
    with pytest.raises(ValueError, match="6 of 6 images have no image labels.*'pred"):
        mask_run.run(cfg)


def test_soft_maps(data, outputs, tmp_path):
    run(data, tmp_path / 'masks', soft_maps=True, crf=True)
    for name, (size, _) in IMAGES.items():
        soft = np.load(io.BytesIO((tmp_path / 'masks/soft' /
                                   f'{name}.npz').read_bytes()))
        expected = map_probabilities(outputs[name].lam_ms.data, classes_of(name))
        assert soft['size'].tolist() == list(size)
        assert soft['labels'].tolist() == expected.labels.tolist()
        height, width = max(1, size[0] // 4), max(1, size[1] // 4)
        assert soft['probs'].shape == (len(expected.labels), height, width)
        assert soft['probs'].dtype == np.uint8
        # means of the same pixels, in steps of 1/255
        assert soft['probs'].mean() / 255 == pytest.approx(
            expected.probs.mean().item(), abs=.02)


# ------------------------------------------------------- beside other parts
def test_the_request_is_taken_back(data, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks')
    seen = []

    @HOOKS.register_module(force=True)
    class RequestRecord(PseudoLabelHook.__base__):

        def before_test_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.model.localization_request)

    cfg.custom_hooks.insert(0, dict(type='LocalizationHook', maps=('cam', ),
                                    cam_scales=(.5, ), draw=False))
    cfg.custom_hooks.append(dict(type='RequestRecord'))
    runner = mask_run.run(cfg)
    assert set(seen) == {LocalizationRequest(
        ('cam', 'lam'), (.5, ), (1., ), ms_scales=(1., .5))}
    assert runner.model.localization_request is None
    assert isinstance(runner.test_loop.dataloader, DataLoader)


def test_another_hook_that_wants_other_scales(data, tmp_path):
    hook = PseudoLabelHook(str(tmp_path), scales=(1., .5))
    with pytest.raises(ValueError, match=r'ms_scales=\(2.0,\).*remove that hook'):
        hook.recipe.request(LocalizationRequest(ms_scales=(2., )))


def test_masks_do_not_depend_on_workers_of_the_loader(data, tmp_path):
    run(data, tmp_path / 'none', crf=True, num_workers=0)
    cfg = mask_config(data, tmp_path / 'two', crf=True)
    cfg.test_dataloader.update(num_workers=2, persistent_workers=True)
    mask_run.run(cfg)
    assert files(tmp_path / 'none') == files(tmp_path / 'two')


def test_test_time_augmentation(data, tmp_path):
    from mmseg_more.engine.launch import use_tta
    cfg = mask_run.config(data)
    resize = cfg.tta_pipeline[1].transforms[0]
    for step, side in zip(resize, (48, 24, 32)):
        step.scale = (side, side)
    use_tta(cfg)
    mask_run.use_pseudo_labels(cfg, str(tmp_path / 'masks'), source='seg',
                               classes='predicted')
    cfg.work_dir = str(tmp_path / 'work')
    runner = mask_run.run(cfg)
    assert isinstance(runner.model, BaseTTAModel)
    with torch.no_grad():
        samples = [runner.model.test_step(batch)[0]
                   for batch in runner.test_dataloader]
    for sample in samples:
        name = mask_run.name_of(sample.img_path, data)
        allowed = torch.cat([torch.zeros(1), sample.pred_label + 1]).long()
        best = sample.seg_logits.data[allowed].argmax(0)
        assert np.array_equal(read(tmp_path / 'masks' / f'{name}.png'),
                              allowed[best])
    cfg.custom_hooks[-1].update(source='lam', out_dir=str(tmp_path / 'other'))
    with pytest.raises(ValueError, match='leave out --tta'):
        mask_run.run(cfg)


def test_after_training(data, tmp_path):
    """The masks of the training's last weights; `tools/test.py` goes on with them."""
    cfg = mask_config(data, tmp_path / 'masks', split='train')
    hook = dict(cfg.custom_hooks.pop(), after_train=True, split='train')
    training = mask_run.config(data)
    training.custom_hooks = [*training.custom_hooks, hook]
    training.merge_from_dict({
        'train_cfg.max_iters': 1, 'work_dir': str(tmp_path / 'work'),
        'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.save_best': None,
        'train_dataloader.dataset.pipeline': [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(48, 48)),
            dict(type='PackImageLevelInputs')]})
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


# ---------------------------------------------------------------------- faults
def test_killed_and_started_again(data, tmp_path):
    """SIGKILL in the middle, with the CRF at work; then byte-identical masks."""
    run(data, tmp_path / 'whole', crf=True, soft_maps=True)
    command = [sys.executable, ROOT / 'tests/mask_run.py', data, tmp_path / 'parts',
               'crf=True', 'soft_maps=True']
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='2',
                       PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / 'tests')]))
    killed = subprocess.run([*command, '--kill-after', '4'], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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
        for batch in loader(self):
            seen.append(self.current.name)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_data.MaskLoader, '__iter__', count)
        run(data, tmp_path / 'parts', crf=True, soft_maps=True)
    finished = {name[:-4] for name in parts if name.endswith('.png')}
    # the last finished one may have been killed before it was noted
    assert len(finished & set(seen)) <= 1 and set(seen) >= set(IMAGES) - finished
    assert files(tmp_path / 'parts') == files(tmp_path / 'whole')


def test_nothing_left_to_do(data, masks, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns
              for path in masks.rglob('*.png')}
    monkeypatch.setattr('mmseg_more.models.MoRe.predict', None)  # not called
    run(data, masks)
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
        'b.png', 'manifest.json'}


@pytest.mark.parametrize('workers', [0, 1])
def test_corrupt_image(data, tmp_path, workers):
    copy = mask_run.make_data(tmp_path / 'data')
    (copy / 'images/below/a.png').write_bytes(b'no image')
    cfg = mask_config(copy, tmp_path / 'masks', crf=True)
    cfg.test_dataloader.num_workers = workers
    with pytest.raises(RuntimeError, match='1 of 6 images have no mask.*below/a.png '
                       r'\(8 bytes\) does not decode.*Repair them'):
        mask_run.run(cfg)
    found = manifest(tmp_path / 'masks')
    assert not found['complete'] and list(found['failed']) == ['below/a']
    assert set(found['images']) == set(IMAGES) - {'below/a'}

    mask_run.make_data(copy)
    mask_run.run(cfg)
    run(data, tmp_path / 'other', crf=True)
    assert manifest(tmp_path / 'masks')['failed'] == {}
    masks, other = files(tmp_path / 'masks'), files(tmp_path / 'other')
    assert masks.pop('manifest.json') and other.pop('manifest.json')
    assert masks == other


def test_failing_crf(data, tmp_path, monkeypatch):
    real = mask_run.MaskRun._read
    monkeypatch.setattr(mask_run.MaskRun, '_read', lambda self, image, size: real(
        self, image, size)[:, :5] if image.name == 'c' else real(self, image, size))
    with pytest.raises(RuntimeError, match='1 of 6 images have no mask.*images/c.png'):
        run(data, tmp_path / 'masks', crf=True)
    assert list(manifest(tmp_path / 'masks')['failed']) == ['c']


def test_image_that_the_network_fails_on(data, tmp_path, capfd):
    """Without Resize an image of one row is smaller than a patch."""
    cfg = mask_config(data, tmp_path / 'masks', scales=(1., ))
    del cfg.test_dataloader.dataset.pipeline[1]
    with pytest.raises(RuntimeError, match='1 of 6 images have no mask.*images/d.png: '
                       'ValueError: .*smaller than one patch'):
        mask_run.run(cfg)
    found = manifest(tmp_path / 'masks')
    assert list(found['failed']) == ['d'] and len(found['images']) == 5
    assert 'no mask of' in ''.join(capfd.readouterr())


def test_image_of_another_size_than_its_file(data, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks', crf=True)
    cfg.test_dataloader.dataset.pipeline[0].imdecode_backend = 'cv2'
    cfg.test_dataloader.dataset.pipeline.insert(
        1, dict(type='LoadAnnotationsOfSize'))

    from mmseg.registry import TRANSFORMS

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
        with pytest.raises(OSError, match='No space left on device.*make room.*'
                           r'start the same command again.*below/a.png') as error:
            run(data, tmp_path / 'masks')
    assert error.value.errno == errno.ENOSPC
    names = {name for name in files(tmp_path / 'masks') if name[0] != '.'}
    assert names == {'a.png', 'b.png', 'manifest.json'}
    run(data, tmp_path / 'masks')
    assert files(tmp_path / 'masks') == files(finished)


def test_full_disk_while_the_journal_is_written(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        mask_run.MaskFolder, 'open_journal', lambda self, rank: setattr(
            self, '_journal', os.open('/dev/full', os.O_WRONLY)))
    with pytest.raises(OSError, match='No space left on device.*make room'):
        run(data, tmp_path / 'masks')


def test_unwritable_folder(data, tmp_path):
    (tmp_path / 'masks').touch()
    with pytest.raises(OSError, match='File exists.*give the rights.*masks'):
        run(data, tmp_path / 'masks')
    with pytest.raises(OSError, match='Not a directory'):
        run(data, tmp_path / 'masks/below')


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
    with pytest.raises(ValueError, match='the checkpoint is another one: .*weights.pth.*'
                       'there, .*other.pth.* now. Choose another folder'):
        mask_run.run(cfg)
    assert files(masks) == before
    # the same weights in another file are the same checkpoint
    mask_run.save_weights(tmp_path / 'other.pth', seed=0)
    mask_run.run(cfg)


@pytest.mark.parametrize('options, message', [
    (dict(source='cam'), 'settings.source is lam there, cam now'),
    (dict(bkg=.4), 'settings.bkg is 0.5 there, 0.4 now'),
    (dict(scales=(1., )), r'settings.scales is \[1.0, 0.5\] there, \[1.0\] now'),
    (dict(crf=True), 'settings.crf is None there'),
    (dict(classes='predicted'), 'settings.classes is image-labels there'),
    (dict(soft_maps=True), 'settings.soft_maps is False there, True now'),
])
def test_other_settings(data, masks, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(data, masks, **options)


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
    with pytest.raises(ValueError, match="1 files that would be overwritten .'b'"):
        run(data, tmp_path / 'masks')
    (tmp_path / 'masks' / 'manifest.json').write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match='manifest.json is not the manifest of'):
        run(data, tmp_path / 'masks')
    (tmp_path / 'masks' / 'manifest.json').write_text('{')
    with pytest.raises(ValueError, match='manifest.json is not valid JSON'):
        run(data, tmp_path / 'masks')
    assert (tmp_path / 'masks' / 'b.png').read_bytes() == b'the truth'


def test_folder_of_the_images(data):
    with pytest.raises(ValueError, match='images/a.png would overwrite an image'):
        run(data, data / 'images')
    assert not (data / 'images' / 'manifest.json').exists()


def test_evaluator_that_would_see_a_part(data, masks, tmp_path):
    cfg = mask_config(data, masks)
    cfg.test_evaluator = [dict(type='LocalizationMetric')]
    with pytest.raises(ValueError, match='6 are done.*set test_evaluator'):
        mask_run.run(cfg)


def test_too_many_classes(tmp_path):
    hook = PseudoLabelHook(str(tmp_path), classes='predicted')
    hook.check_data(dict(classes=[str(i) for i in range(255)]), [])
    with pytest.raises(ValueError, match='254 classes and background.*has 255'):
        hook.check_data(dict(classes=[str(i) for i in range(256)]), [])


@pytest.mark.parametrize('arguments, message', [
    (dict(source='attention'), 'source must be one of lam, cam, fused, seg'),
    (dict(classes='truth'), 'classes must be one of'),
    (dict(classes='all'), "classes='all' is for source='seg'"),
    (dict(bkg=1.), 'bkg must lie in'),
    (dict(scales=(1, ), multi_scale=False), 'multi_scale=False'),
    (dict(scales=()), 'scales must name'),
    (dict(crf=dict(iterations=3)), r"unknown keys \['iterations'\]"),
])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        PseudoLabelHook(str(tmp_path), **arguments)


def test_two_processes(data, tmp_path):
    """No image twice, none lost; the same bytes as of one process."""
    run(data, tmp_path / 'one', crf=True)
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc_per_node', '2', ROOT / 'tests/mask_run.py', data,
         tmp_path / 'two', '--launcher', 'pytorch', 'crf=True'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='2',
                 MASK_RUN_KEEP_JOURNALS=str(tmp_path / 'journals'),
                 PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / 'tests')])))
    assert result.returncode == 0, result.stdout[-3000:]
    shares = [sorted(json.loads(line)['image'] for line in path.open())
              for path in sorted((tmp_path / 'journals').iterdir())]
    names = sorted(IMAGES)
    assert shares == [names[::2], names[1::2]]
    assert files(tmp_path / 'two') == files(tmp_path / 'one')
