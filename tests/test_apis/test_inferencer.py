"""MoReInferencer: images of every kind in, scores, maps, masks and files out."""

import copy
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch.testing import assert_close

from golden import Golden, model_config
from mask_run import threshold_mask
from mmseg_more import localization as L
from mmseg_more import masks
from mmseg_more.apis import ImageResult, MoReInferencer, make_settings
from mmseg_more.apis.inference_inputs import list_inputs
from mmseg_more.apis.inferencer import _InputLoader
from mmseg_more.checkpoints import convert_official
from mmseg_more.datasets import VOCImageLevelDataset
from mmseg_more.masks import Calibration, MapThreshold
from mmseg_more.masks.dense_crf import dense_crf_mask
from mmseg_more.models.structures import MASK_SCALES

GOLDEN = Golden('inference')
VOC = list(VOCImageLevelDataset.METAINFO['classes'])
CLOSE = dict(rtol=1e-5, atol=1e-5)


def small_config(scale=(64, 48)):
    """The VOC config at the sizes of the reference; ``scale`` is (width, height)."""
    cfg = model_config(GOLDEN.meta)
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert pipeline[1].type == 'Resize'
    pipeline[1].scale = scale
    return cfg


def save_weights(path, edit=lambda weights: None, **meta):
    weights = convert_official(GOLDEN.group('sd.'))
    edit(weights)
    torch.save(dict(state_dict=weights, meta=meta), path)
    return str(path)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp('weights') / 'more.pth')


@pytest.fixture(scope='module')
def inferencer(weights):
    return MoReInferencer(small_config(), weights, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def exact(weights):
    """That sees the image of the reference as it is."""
    return MoReInferencer(small_config((128, 96)), weights, device='cpu')


@pytest.fixture(scope='module')
def reference():
    """The image of the reference figures as an array, BGR."""
    return np.ascontiguousarray(GOLDEN['image_u8'][0].permute(1, 2, 0).numpy()[..., ::-1])


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three images, and a file that is none."""
    (tmp_path / 'in').mkdir()
    for index, name in enumerate(('b.png', 'a.PNG', 'c.jpg')):
        cv2.imwrite(str(tmp_path / 'in' / name), noise(20 + index, 30, index))
    (tmp_path / 'in' / 'notes.txt').write_text('no image')
    return tmp_path / 'in'


# ------------------------------------------------------------------------- results
def test_scores_maps_and_mask_are_the_model_s(exact, reference):
    result = exact(reference, maps=('lam', 'cam'))
    assert set(result) == {
        'predictions',
        'visualization',
        'scores',
        'classes',
        'maps',
        'image_confidence',
        'confidence_map',
        'errors',
    }
    assert list(result['scores']) == VOC[1:]
    assert_close(
        torch.tensor(list(result['scores'].values())),
        GOLDEN['cls'][0].sigmoid(),
        rtol=0,
        atol=6e-5,
    )  # four decimals
    assert result['classes'] == [
        VOC[1 + i] for i in (GOLDEN['cls'][0] > 0).nonzero().flatten().tolist()
    ]
    for name in ('cam', 'lam'):
        values = torch.from_numpy(result['maps'][name])
        assert_close(values[None, :, ::2, ::2], GOLDEN[f'{name}.1'], **CLOSE)
    logits = L.resize_map(GOLDEN['segs'], (96, 128))
    assert result['predictions'].dtype == np.uint8
    assert (result['predictions'] == logits.argmax(1)[0].numpy()).mean() > 0.9999
    assert result['visualization'] is None and result['errors'] is None


@pytest.mark.slow
def test_multi_scale(exact, reference):
    sample = exact(
        reference, True, source='seg', multi_scale=True, maps=['cam', 'attention']
    )
    assert_close(sample.cam.data[None, :, ::2, ::2], GOLDEN['cam.ms'], **CLOSE)
    assert sample.attention.data.shape == (20, 96, 128)
    assert 'lam' not in sample and 'cam_ms' not in sample
    # the reference scales the image to squares: the logits here are those of mmseg's TTA
    assert sample.seg_logits.data.shape == (21, 96, 128)
    assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))
    own = exact(reference, True, source='cam', scales=(1.0, 0.5), maps='cam')
    assert not torch.allclose(own.cam.data, sample.cam.data)


@pytest.mark.parametrize('source', ['lam', 'cam', 'fused'])
def test_mask_of_a_map(inferencer, reference, source):
    sample = inferencer(reference, True, source=source, bkg=0.4, maps=source)
    expected = threshold_mask(sample.get(source).data, sample.pred_label.tolist(), 0.4)
    assert expected.unique().numel() > 1
    assert torch.equal(sample.pred_sem_seg.data[0], expected.long())


@pytest.mark.slow
def test_mask_with_crf(inferencer, reference):
    for source in ('lam', 'seg'):
        sample = inferencer(
            reference,
            True,
            source=source,
            crf=dict(epsilon=0.0),
            maps=() if source == 'seg' else source,
        )
        probs = (
            masks.seg_probabilities(sample.seg_logits.data)
            if source == 'seg'
            else masks.map_probabilities(sample.lam.data, sample.pred_label)
        )
        expected = dense_crf_mask(
            np.ascontiguousarray(reference[..., ::-1]),
            probs.probs.numpy(),
            probs.labels.numpy(),
            epsilon=0.0,
        )
        assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), expected.mask)


def test_threshold_comes_from_the_config(weights):
    cfg = small_config()
    inferencer = MoReInferencer(cfg, weights, device='cpu')
    assert inferencer.settings(source='lam').recipe.bkg == cfg.model.pseudo_label.bkg
    cfg.test_evaluator = dict(type='LocalizationMetric', bkg=dict(lam=0.3))
    inferencer = MoReInferencer(cfg, weights, device='cpu')
    assert inferencer.settings(source='lam').recipe.bkg == 0.3
    assert inferencer.settings(source='lam', bkg=0.2).recipe.bkg == 0.2
    assert inferencer.settings(source='lam', crf=True).recipe.bkg is None


def test_calibrated_thresholds(weights, reference, tmp_path):
    """Those of a file; the call's own come first, and the segmentation needs none."""
    cfg = small_config()
    names = MoReInferencer(cfg, weights, device='cpu').model.dataset_meta['classes'][1:]
    thresholds = dict(
        raw=dict(lam=MapThreshold(0.2)), ms=dict(lam=MapThreshold(0.3, {names[1]: 0.6}))
    )
    path = str(tmp_path / 'c.json')
    Calibration(thresholds).save(path)
    inferencer = MoReInferencer(cfg, weights, device='cpu', calibration=path)
    recipe = inferencer.settings(source='lam', multi_scale=True, crf=True).recipe
    assert (recipe.bkg, recipe.background) == (0.3, 'calibrated')
    assert recipe.class_bkg == tuple(0.6 if n == names[1] else 0.3 for n in names)
    assert inferencer.settings(source='lam').recipe.bkg == 0.2
    assert inferencer.settings(source='lam', bkg=0.1).recipe.bkg == 0.1
    published = inferencer.settings(source='lam', crf=True, background='complement')
    assert published.recipe.settings()['bkg'] is None
    assert inferencer.settings().recipe.source == 'seg'
    assert inferencer.settings().recipe.curves is None
    curve = masks.ConfidenceCurve([0, 1], [0.4])
    curves = masks.ConfidenceCurves(curve, curve, {})
    of_both = Calibration(thresholds, confidence=dict(seg=curves, lam=curves))
    both = MoReInferencer(cfg, weights, device='cpu', calibration=of_both)
    assert both(reference)['image_confidence'] == pytest.approx(0.4)
    for options in (dict(bkg=0.1), dict(crf=True, background='complement'), dict()):
        recipe = both.settings(source='lam', **options).recipe
        assert recipe.bkg == (0.2 if not options else options.get('bkg'))
        assert recipe.curves is curves
    assert both.settings(source='cam', bkg=0.1).recipe.calibration is None
    sample = inferencer(reference, True, source='lam', maps='lam')
    value = sample.lam.data[sample.pred_label].amax(0)
    assert torch.equal(sample.pred_sem_seg.data[0] > 0, value > 0.2)
    with pytest.raises(FileNotFoundError, match='--calibrate'):
        MoReInferencer(cfg, weights, device='cpu', calibration=path + 'x')


def test_predicted_classes_restrict_the_segmentation(inferencer, reference):
    sample = inferencer(reference, True, policy='predicted')
    allowed = {0, *(sample.pred_label + 1).tolist()}
    assert set(sample.pred_sem_seg.data.unique().tolist()) <= allowed
    everything = inferencer(reference, True).pred_sem_seg.data
    assert not set(everything.unique().tolist()) <= allowed


@pytest.mark.slow
@pytest.mark.parametrize('crf', [False, True])
def test_no_class_at_all_is_background(weights, tmp_path, crf):
    """An image without any predicted class."""

    def nothing(state):
        # logits of the classes are below 0 everywhere, those of the background above
        state['classifier.weight'].fill_(0)
        state['decode_head.conv_seg.weight'].fill_(0)

    path = save_weights(tmp_path / 'more.pth', nothing)
    inferencer = MoReInferencer(small_config(), path, device='cpu', show_progress=False)
    for source in ('lam', 'fused'):
        result = inferencer(
            noise(20, 30), source=source, crf=crf, maps=('lam',), return_vis=True
        )
        assert result['classes'] == []
        assert result['predictions'].shape == (20, 30)
        assert not result['predictions'].any()
        assert result['visualization'].dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize('size', [(1, 50), (50, 1), (1, 1), (7, 333)])
def test_images_of_any_size(inferencer, size):
    result = inferencer(
        noise(*size), source='lam', crf=True, maps=('cam',), return_vis=True
    )
    assert result['predictions'].shape == size
    assert result['maps']['cam'].shape == (20, *size)
    plain = inferencer(noise(*size), return_vis=True)
    assert plain['visualization'].shape == (*size, 3)


@pytest.mark.parametrize('maps', [(), ('cam',)])
def test_confidence_of_the_prediction(inferencer, reference, maps):
    sample = inferencer(reference, True, maps=maps)
    probabilities = masks.seg_probabilities(sample.seg_logits.data)
    expected = masks.confidence_of(sample.pred_sem_seg.data[0], probabilities)
    assert sample.image_confidence == pytest.approx(expected.image, abs=1e-6)
    result = inferencer(reference, maps=maps, confidence_maps=True)
    assert result['image_confidence'] == pytest.approx(expected.image, abs=1e-6)
    np.testing.assert_allclose(result['confidence_map'], expected.pixels, atol=1e-6)
    assert inferencer(reference)['confidence_map'] is None


def test_confidence_of_a_map_is_written_and_calibrated(inferencer, folder, tmp_path):
    """The PNGs, scores.json, and what a curve makes of them."""
    curve = masks.ConfidenceCurve([0, 1], [0.4])
    curves = masks.ConfidenceCurves(curve, curve, {})
    file = Calibration(confidence=dict(lam=curves))
    for name, options in dict(raw={}, calibrated=dict(calibration=file)).items():
        results = inferencer(
            str(folder),
            out_dir=str(tmp_path / name),
            source='lam',
            confidence_maps=True,
            **options,
        )
        scores = json.loads((tmp_path / name / 'scores.json').read_text())
        for key, pixels, image in zip(
            sorted(scores), results['confidence_map'], results['image_confidence']
        ):
            assert scores[key]['image_confidence'] == round(image, 4)
            path = tmp_path / name / 'confidence' / f'{key}.png'
            levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(levels, np.rint(255 * pixels).astype(np.uint8))
            assert name == 'raw' or set(np.unique(levels)) == {102}
            assert name == 'raw' or image == pytest.approx(0.4)
    of_others = file.with_confidence(dict(lam=curves._replace(settings=dict(bkg=0.123))))
    recipe = inferencer.settings(source='lam', calibration=of_others).recipe
    assert recipe.curves is None and recipe.bkg is not None


def test_network_is_left_without_a_request(inferencer):
    inferencer(noise(20, 30), maps='cam')
    assert inferencer.model.localization_request is None


# -------------------------------------------------------------------------- inputs
def test_kinds_of_inputs_agree(inferencer, folder):
    paths = sorted(folder.glob('*.[pPj]*'))
    pixels = [cv2.imread(str(path)) for path in paths]
    whole = inferencer(str(folder), maps='lam')
    assert {len(value) for value in whole.values()} == {3}
    assert [p.name for p in paths] == ['a.PNG', 'b.png', 'c.jpg']
    for index, (path, image) in enumerate(zip(paths, pixels)):
        for single in (str(path), path, image):
            result = inferencer(single, maps='lam')
            assert np.array_equal(result['predictions'], whole['predictions'][index])
            assert result['scores'] == whole['scores'][index]
            assert_close(result['maps']['lam'], whole['maps'][index]['lam'])
    mixed = inferencer([folder, pixels[0], str(paths[2])])
    for key in ('scores', 'classes'):
        assert mixed[key] == whole[key] + [whole[key][0], whole[key][2]]
    assert inferencer([str(paths[0])])['scores'] == whole['scores'][:1]


def test_gray_array_is_its_three_channels(inferencer):
    gray = noise(20, 30)[..., 0]
    result = inferencer(gray)
    expected = inferencer(np.stack([gray] * 3, axis=2))
    assert result['scores'] == expected['scores']


def test_batches_change_nothing(inferencer, folder):
    one = inferencer(str(folder), maps='lam', source='lam', crf=True, num_workers=2)
    three = inferencer(
        str(folder), batch_size=3, maps='lam', source='lam', crf=True, num_workers=0
    )
    for mine, theirs in zip(one['maps'], three['maps']):
        assert_close(mine['lam'], theirs['lam'], **CLOSE)
    assert one['classes'] == three['classes']


def test_batch_of_different_sizes(weights, folder):
    cfg = small_config()
    cfg.test_dataloader.dataset.pipeline[1].keep_ratio = True
    inferencer = MoReInferencer(cfg, weights, device='cpu', show_progress=False)
    assert len(inferencer(str(folder))['predictions']) == 3
    with pytest.raises(ValueError, match='batch_size=1'):
        inferencer(str(folder), batch_size=2)


@pytest.mark.parametrize(
    'inputs, kind, message',
    [
        ('nowhere.jpg', FileNotFoundError, 'nowhere.jpg does not exist'),
        ([], ValueError, 'no inputs'),
        (3, TypeError, 'got int'),
        (np.zeros((4, 5, 4), np.uint8), ValueError, r'uint8 \(4, 5, 4\)'),
        (np.zeros((4, 5, 3)), ValueError, r'float64 \(4, 5, 3\)'),
        (np.zeros((0, 5, 3), np.uint8), ValueError, r'\(0, 5, 3\)'),
    ],
)
def test_wrong_inputs(inferencer, inputs, kind, message):
    with pytest.raises(kind, match=message):
        inferencer.stream(inputs)  # at once, not when the first result is asked for


def test_folder_without_images(inferencer, tmp_path):
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(ValueError, match='holds no image'):
        inferencer(str(tmp_path))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(maps=('lam', 'seg')), r"maps must be out of .* got \['seg'\]"),
        (dict(source='map'), "source must be one of .* got 'map'"),
        (dict(policy='image-labels'), 'policy must be one of predicted, all'),
        (dict(source='lam', policy='all'), "with source 'lam' take 'predicted'"),
        (dict(source='lam', bkg=2), 'bkg'),
        (dict(scales=(0,)), 'scales'),
        (dict(sorce='lam'), "unknown argument {'sorce'}"),
    ],
)
def test_wrong_arguments(inferencer, arguments, message):
    with pytest.raises(ValueError, match=message):
        inferencer.stream(noise(4, 5), **arguments)


# --------------------------------------------------------------------------- files
def test_files(inferencer, folder, tmp_path):
    out = tmp_path / 'out'
    result = inferencer(str(folder), source='lam', crf=True, out_dir=str(out), bkg=0.3)
    assert sorted(str(p.relative_to(out)) for p in out.rglob('*.*')) == sorted(
        ['scores.json']
        + [f'{kind}/{name}.png' for kind in ('pred', 'vis') for name in 'abc']
    )
    for name, mask in zip('abc', result['predictions']):
        written = Image.open(out / 'pred' / f'{name}.png')
        assert written.mode == 'P' and np.array_equal(np.asarray(written), mask)
        colors = np.array(written.getpalette()).reshape(-1, 3)[:21]
        assert colors.tolist() == [
            list(c) for c in VOCImageLevelDataset.METAINFO['palette']
        ]
        assert cv2.imread(str(out / 'vis' / f'{name}.png')).shape == (*mask.shape, 3)
    scores = json.loads((out / 'scores.json').read_text())
    assert list(scores) == ['a', 'b', 'c']
    assert scores['b'] == dict(
        path=str(folder / 'b.png'),
        classes=result['classes'][1],
        scores=result['scores'][1],
        image_confidence=round(result['image_confidence'][1], 4),
    )


def test_only_some_files(inferencer, tmp_path):
    inferencer(
        [noise(4, 5), noise(6, 7)],
        out_dir=str(tmp_path),
        img_out_dir='',
        pred_out_dir='masks',
    )
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*.*')) == [
        'masks/array_00000000.png',
        'masks/array_00000001.png',
        'scores.json',
    ]


@pytest.mark.parametrize('name', ['vis', 'pred'])
def test_results_do_not_overwrite_the_images(inferencer, tmp_path, name):
    image = tmp_path / name / 'a.png'
    image.parent.mkdir()
    cv2.imwrite(str(image), noise(5, 6))
    before = image.read_bytes()
    for inputs in (str(image.parent), str(image)):
        with pytest.raises(
            ValueError, match=f'{name}.*a.png would be overwritten|no image'
        ):
            inferencer(inputs, out_dir=str(tmp_path))
    assert image.read_bytes() == before


def test_two_inputs_of_one_name(inferencer, folder, tmp_path):
    inputs = [str(folder / 'b.png'), str(tmp_path / 'b.jpg')]
    cv2.imwrite(inputs[1], noise(5, 6))
    assert len(inferencer(inputs)['predictions']) == 2
    with pytest.raises(ValueError, match='would both be written as b.png'):
        inferencer(inputs, out_dir=str(tmp_path / 'out'))
    with pytest.raises(ValueError, match='b.png is given twice: leave one out'):
        inferencer([inputs[0], str(folder)], out_dir=str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


def test_unwritable_folder(inferencer, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file/pred/array_00000000.png'):
        inferencer(noise(4, 5), out_dir=str(tmp_path / 'file'), img_out_dir='')


def test_pictures(inferencer, reference, monkeypatch):
    shown = []
    monkeypatch.setattr(
        inferencer.visualizer, 'show', lambda *arguments: shown.append(arguments)
    )
    plain = inferencer(
        reference,
        source='lam',
        bkg=0.4,
        return_vis=True,
        with_labels=False,
        opacity=1.0,
        show=True,
        wait_time=2,
    )
    colors = np.array(inferencer.model.dataset_meta['palette'])
    mask, picture = plain['predictions'], plain['visualization']
    assert np.array_equal(picture[mask > 0], colors[mask[mask > 0]])
    assert np.array_equal(picture[mask == 0], reference[..., ::-1][mask == 0])
    assert shown[0][1:] == ('array_00000000', 2)
    panel = inferencer(reference, maps=('cam', 'lam'), return_vis=True)['visualization']
    assert panel.shape[1] > 4 * 160  # image, two maps and the mask


# -------------------------------------------------------------------------- faults
@pytest.mark.slow
@pytest.mark.parametrize('crf', [False, True])
def test_corrupt_image_in_a_folder(inferencer, folder, tmp_path, crf):
    arguments = dict(source='lam', crf=crf, bkg=0.3, num_workers=1)
    before = inferencer(str(folder), **arguments)
    (folder / 'aa.jpg').write_bytes(b'\xff\xd8 no image')
    (folder / 'ab.png').touch()
    after = inferencer(
        str(folder), batch_size=2, out_dir=str(tmp_path / 'out'), **arguments
    )
    names = sorted(p.stem for p in folder.glob('*.[pPj]*'))
    assert names == ['a', 'aa', 'ab', 'b', 'c']
    assert (
        after['errors']
        == [None]
        + [f'{folder / name} does not decode as an image' for name in ('aa.jpg', 'ab.png')]
        + [None] * 2
    )
    assert after['predictions'][1] is None and after['scores'][2] is None
    for mine, theirs in zip([0, 3, 4], range(3)):
        assert after['scores'][mine] == before['scores'][theirs]
    assert sorted(os.listdir(tmp_path / 'out' / 'pred')) == ['a.png', 'b.png', 'c.png']
    scores = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    assert scores['aa']['error'] == after['errors'][1]
    samples = inferencer(str(folder), True)
    assert [sample is None for sample in samples] == [False, True, True, False, False]


def test_a_single_corrupt_image_is_an_error(inferencer, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='a.jpg does not decode as an image'):
        inferencer(str(tmp_path / 'a.jpg'))


def test_results_come_one_by_one(inferencer, folder):
    """The second image is not read before the first result is taken."""
    stream = inferencer.stream(str(folder))
    first = next(stream)
    assert isinstance(first, ImageResult) and first.input.name == 'a'
    (folder / 'b.png').write_bytes(b'')
    assert next(stream).error.endswith('b.png does not decode as an image')
    assert next(stream).error is None


def test_crash_of_the_pipeline_names_the_image(inferencer, folder, monkeypatch):
    whole = inferencer.pipeline

    def fail(results):
        if results['img_path'].endswith('b.png'):
            raise RuntimeError('broken')
        return whole(results)

    monkeypatch.setattr(inferencer, 'pipeline', fail)
    errors = inferencer(str(folder))['errors']
    assert errors[0] is None and errors[2] is None
    assert 'b.png, an image of 20x30 pixels, fails' in errors[1] and 'broken' in errors[1]


# ---------------------------------------------------------------------- the model
def test_names_from_the_checkpoint_before_the_config(tmp_path):
    names = ['background', *(f'thing {i}' for i in range(20))]
    path = save_weights(tmp_path / 'a.pth', dataset_meta=dict(classes=names, palette=None))
    model = MoReInferencer(small_config(), path, device='cpu').model
    assert model.dataset_meta['classes'] == names
    assert model.dataset_meta['palette'][1] == [128, 0, 0]
    given = [f'given {i}' for i in range(21)]
    model = MoReInferencer(small_config(), path, given, [[1, 2, 3]] * 21, 'cpu').model
    assert model.dataset_meta == dict(classes=given, palette=[[1, 2, 3]] * 21)


def test_names_that_do_not_fit_or_are_not_known(tmp_path, weights):
    path = save_weights(
        tmp_path / 'a.pth', dataset_meta=dict(classes=['background', 'cat'], palette=None)
    )
    with pytest.raises(ValueError, match='classes of the checkpoint has 2 .* needs 21'):
        MoReInferencer(small_config(), path, device='cpu')
    cfg = small_config()
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader = None
    with pytest.raises(ValueError, match='give `classes`'):
        MoReInferencer(cfg, weights, device='cpu')
    inferencer = MoReInferencer(cfg, weights, VOC, device='cpu')
    assert inferencer(noise(4, 5))['predictions'].shape == (4, 5)


@pytest.mark.slow
def test_config_as_file_and_config_in_the_checkpoint(
    weights, tmp_path, reference, inferencer
):
    expected = inferencer(reference)['scores']
    small_config().dump(tmp_path / 'config.py')
    for model in (str(tmp_path / 'config.py'), tmp_path / 'config.py'):
        assert MoReInferencer(model, weights, device='cpu')(reference)['scores'] == expected
    path = save_weights(tmp_path / 'a.pth', cfg=small_config().pretty_text)
    assert MoReInferencer(weights=path, device='cpu')(reference)['scores'] == expected


def test_built_model(inferencer, reference):
    inferencer.model.cfg = Config(small_config()._cfg_dict)
    again = MoReInferencer(inferencer.model, device='cpu')
    assert again.model is inferencer.model
    assert again(reference)['scores'] == inferencer(reference)['scores']
    broken = copy.deepcopy(inferencer.model)
    broken.classifier.weight.data[0] = np.nan
    with pytest.raises(ValueError, match="not numbers.*'classifier.weight'"):
        MoReInferencer(broken, device='cpu')
    with pytest.raises(ValueError, match='`cfg`'):
        MoReInferencer(torch.nn.Linear(1, 1))


def test_wrong_model_or_weights(tmp_path, weights, repo_root):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        MoReInferencer(small_config(), str(tmp_path / 'nowhere.pth'))
    with pytest.raises(FileNotFoundError, match='nowhere.py'):
        MoReInferencer('nowhere.py', weights)
    short = save_weights(tmp_path / 'a.pth', lambda s: s.pop('graph.norm.bias'))
    with pytest.raises(ValueError, match="lacks 1 weights of the model.*'graph.norm.bias'"):
        MoReInferencer(small_config(), short, device='cpu')
    more = save_weights(tmp_path / 'a.pth', lambda s: s.update(more=torch.ones(1)))
    with pytest.raises(ValueError, match="no place for 1 weights of the .*'more'"):
        MoReInferencer(small_config(), more, device='cpu')
    nan = save_weights(tmp_path / 'a.pth', lambda s: s['graph.norm.bias'].fill_(np.nan))
    with pytest.raises(ValueError, match="1 weights are not numbers.*'graph.norm.bias'"):
        MoReInferencer(small_config(), nan, device='cpu')
    torch.save(dict(state_dict=GOLDEN.group('sd.')), tmp_path / 'official.pth')
    with pytest.raises(
        ValueError, match='official MoRe code: convert it by .*official2mmseg.py'
    ):
        MoReInferencer(small_config(), str(tmp_path / 'official.pth'), device='cpu')
    cfg = small_config()
    cfg.test_dataloader.dataset.pipeline = [dict(type='PackImageLevelInputs')]
    with pytest.raises(ValueError, match='LoadImageFromFile first'):
        MoReInferencer(cfg, weights, device='cpu')
    other = Config.fromfile(repo_root / 'configs/two_stage/segformer_b0_shapes.py')
    with pytest.raises(TypeError, match='got a EncoderDecoder: use mmseg.apis'):
        MoReInferencer(other, device='cpu')


def test_without_weights_it_is_random(reference):
    inferencer = MoReInferencer(small_config(), device='cpu')
    assert inferencer.model.dataset_meta['classes'] == VOC
    assert inferencer(reference)['predictions'].shape == (96, 128)


# -------------------------------------------------------------------------- parts
def test_settings_ask_for_no_more_than_needed():
    assert make_settings().request is None
    lam = make_settings(source='lam', maps='cam', multi_scale=True).request
    assert lam.maps == ('cam', 'lam') and lam.ms_scales == MASK_SCALES
    assert (lam.cam_scales, lam.lam_scales, lam.seg_scales) == ((), (), ())
    seg = make_settings(source='seg', scales=(1.0, 2.0)).request
    assert (seg.maps, seg.ms_scales, seg.seg_scales) == ((), (), (1.0, 2.0))


def test_inputs_are_named_after_files():
    found = list_inputs([Path(__file__), 'http://host/b.jpg', noise(2, 2)])
    assert [item.name for item in found] == [Path(__file__).stem, 'b', 'array_00000002']
    assert [item.position for item in found] == [0, 1, 2]


def test_folders_are_looked_through(tmp_path, monkeypatch):
    for name in ('b.png', 'a.WEBP', 'sub/b.gif', 'sub/notes.txt', 'out/pred/b.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    messages = []
    monkeypatch.setattr(
        'mmseg_more.apis.inference_inputs.print_log', lambda text, *_: messages.append(text)
    )
    # a second run into the same folder takes none of the first run's results
    found = list_inputs(str(tmp_path), excluded=[str(tmp_path / 'out')])
    assert [item.name for item in found] == ['a', 'b', 'sub/b']
    assert [item.path for item in found][2] == str(tmp_path / 'sub' / 'b.gif')
    assert messages == [
        f"1 files in {tmp_path} are no images, and left out: 'sub/notes.txt'"
    ]


def test_results_beside_the_images_are_no_inputs(inferencer, folder):
    """Twice into the folder of the images, the second time without ``confidence_maps``."""
    options = dict(out_dir=str(folder), pred_out_dir='masks')
    first = inferencer(str(folder), confidence_maps=True, **options)
    second = inferencer(str(folder), **options)
    assert {'confidence', 'masks', 'vis'} <= set(os.listdir(folder))
    assert len(second['errors']) == len(first['errors']) == 3
    assert sorted(json.loads((folder / 'scores.json').read_text())) == ['a', 'b', 'c']


@pytest.mark.parametrize('options, black', [({}, False), (dict(color_type='color'), True)])
def test_images_are_read_by_the_policy_unless_the_config_has_a_decoder(
    tmp_path, options, black
):
    path = tmp_path / 'deep.png'
    cv2.imwrite(str(path), np.full((4, 5), 4095, np.uint16))
    load = _InputLoader(dict(type='LoadImageFromFile', **options))
    (item,) = list_inputs(str(path))
    assert load(item)['img'].max() == (15 if black else 255)
    (item,) = list_inputs(noise(2, 3))
    assert load(item)['ori_shape'] == (2, 3)


# -------------------------------------------------------- what ends in the middle
@pytest.mark.parametrize('batch_size', [1, 3])
def test_network_that_fails_on_one_image(
    inferencer, folder, tmp_path, monkeypatch, batch_size
):
    """It is named in its place; the other images go on."""
    whole = inferencer.model.test_step

    def fail(data):
        if any(str(sample.img_path).endswith('b.png') for sample in data['data_samples']):
            raise RuntimeError('out of memory')
        return whole(data)

    monkeypatch.setattr(inferencer.model, 'test_step', fail)
    out = tmp_path / 'out'
    result = inferencer(str(folder), batch_size=batch_size, out_dir=str(out))
    assert result['errors'] == [
        None,
        f'{folder / "b.png"}: the network fails: RuntimeError: out of memory',
        None,
    ]
    assert sorted(os.listdir(out / 'pred')) == ['a.png', 'c.png']
    scores = json.loads((out / 'scores.json').read_text())
    assert 'out of memory' in scores['b']['error'] and 'scores' in scores['c']
    assert inferencer.model.localization_request is None
    with pytest.raises(ValueError, match='b.png: the network fails'):
        inferencer(str(folder / 'b.png'))


def test_scores_of_a_run_that_is_interrupted(inferencer, folder, tmp_path, monkeypatch):
    """Ctrl-C while the third image is read: the scores of two are there."""
    load = inferencer.loader

    def interrupted(item):
        if str(item.path).endswith('c.jpg'):
            raise KeyboardInterrupt
        return load(item)

    monkeypatch.setattr(inferencer, 'loader', interrupted)
    with pytest.raises(KeyboardInterrupt):
        inferencer(str(folder), out_dir=str(tmp_path / 'out'))
    scores = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    assert sorted(scores) == ['a', 'b']
    # a caller that takes no more
    stream = inferencer.stream(str(folder), out_dir=str(tmp_path / 'one'))
    next(stream)
    stream.close()
    assert list(json.loads((tmp_path / 'one' / 'scores.json').read_text())) == ['a']


def test_scores_of_a_name_that_is_not_utf_8(inferencer, folder, tmp_path):
    """caf\\xe9.png, as an old zip unpacks."""
    os.rename(folder / 'b.png', os.fsencode(folder) + b'/caf\xe9.png')
    inferencer(str(folder), out_dir=str(tmp_path / 'out'))
    scores = json.loads((tmp_path / 'out' / 'scores.json').read_bytes())
    assert list(scores) == ['a', 'c', 'caf\udce9']
    assert b'caf\xe9.png' in os.listdir(os.fsencode(tmp_path / 'out' / 'pred'))


@pytest.mark.slow
def test_what_waits_for_the_crf_is_little(inferencer, reference):
    """Maps of classes that may not appear, and logits, are not kept."""
    settings = inferencer.settings(source='lam', crf=True)
    assert settings.request.policy == 'predicted' and not settings.request.logits
    (result,) = inferencer.stream(reference, source='lam', crf=True)
    assert set(result.sample.keys()) == {'pred_sem_seg', 'pred_score', 'pred_label'}
    (result,) = inferencer.stream(reference)
    assert set(result.sample.keys()) == {'pred_sem_seg', 'pred_score', 'pred_label'}
    (result,) = inferencer.stream(reference, source='lam', crf=True, maps='cam')
    assert result.sample.cam.data.shape[0] == 20 and 'lam' not in result.sample
    with_logits = inferencer(reference, True, source='lam', crf=True)
    assert with_logits.seg_logits.data.shape == (21, *reference.shape[:2])
