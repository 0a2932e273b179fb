"""What the metrics of the field have in common."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData

from localization_samples import (
    CLASSES,
    MAPS,
    K,
    evaluate,
    labelled_sample,
    make_sample,
    metrics,
)
from mmseg_more.evaluation.report import format_classes

from mmseg.registry import METRICS

OF_MAPS = ('PxAPMetric', 'MaxBoxAccV2Metric', 'PointingGameMetric')
OF_LABELS = ('BoundaryIoUMetric', 'ObjectSizeIoUMetric')
of_maps = pytest.mark.parametrize('name', OF_MAPS)
PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'quality.md'
every = pytest.mark.parametrize('name', OF_LABELS + OF_MAPS)


def same(figures):
    return pytest.approx(figures, rel=1e-12, nan_ok=True)


def example() -> Config:
    """The config of the documentation."""
    section = PAGE.read_text().split('## Metrics of the field')[1].split('\n## ')[0]
    block = section.split('```python\n')[1].split('```')[0]
    return Config.fromstring(block, '.py')


def test_the_documented_config_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a file is written
    cfg = example()
    samples = [make_sample(i) for i in range(3)]
    found = evaluate(list(cfg.val_evaluator), samples)
    assert cfg.val_evaluator[0].type == 'LocalizationMetric'
    assert {metric.type for metric in cfg.val_evaluator[1:]} == {*OF_LABELS, *OF_MAPS}
    # beside each other they say what each says alone
    for metric in cfg.val_evaluator:
        for key, value in evaluate(metric, samples).items():
            assert found[key] == same(value)
    assert (tmp_path / 'work_dirs' / 'object_sizes.json').exists()
    section = PAGE.read_text()
    for key in found:
        name = key.split('/')[1]
        described = ('mIoU', 'precision', 'recall', 'confusion_ratio', 'mIoU_best')
        if name not in (*described, 'best_threshold', 'F1', 'mAP'):
            assert f'/{name}`' in section, f'docs/quality.md does not say what {key} is'


def test_the_shipped_config_runs(repo_root):
    cfg = Config.fromfile(repo_root / 'configs/more/more_vit-t_shapes_metrics.py')
    samples = [make_sample(i, maps=(*MAPS, 'attention')) for i in range(2)]
    # the maps that the config's hook asks for
    assert set(cfg.default_hooks.localization.maps) == {*MAPS, 'attention'}
    found = evaluate(list(cfg.test_evaluator), samples)
    for name in ('cam', 'lam', 'fused', 'attention'):
        for key in ('mIoU', 'boundary_mIoU', 'IA-mIoU', 'PxAP', 'MaxBoxAccV2'):
            assert f'{name}/{key}' in found
    assert cfg.test_evaluator[0].bkg == cfg.val_evaluator.bkg


@every
def test_batches_and_repeated_use_change_nothing(name):
    samples = [make_sample(i) for i in range(5)]
    metric = METRICS.build(dict(type=name))
    results = [evaluate(metric, samples, batch_size=size) for size in (1, 2, 5, 1)]
    assert not all(math.isnan(value) for value in results[0].values())
    for result in results[1:]:
        assert result == same(results[0])


@every
def test_memory_does_not_grow_with_images(name):
    metric = METRICS.build(dict(type=name))
    metric.dataset_meta = dict(classes=CLASSES)
    sizes = []
    for i in range(4):
        metric.process(None, [make_sample(i, (12 + 9 * i, 30)).to_dict()])
        kept = [*metric._counts.values(), *metric._last.values()]
        sizes.append(sum(value.numel() for value in kept))
    assert metric.results == [()] * 4
    assert sizes[1] == sizes[2] == sizes[3]


@every
def test_samples_are_left_as_they_are(name):
    sample = make_sample(0)
    before = sample.clone()
    evaluate(dict(type=name), [sample])
    for field in ('gt_sem_seg', 'pred_sem_seg', *MAPS):
        assert torch.equal(sample.get(field).data, before.get(field).data)


@pytest.mark.parametrize('name', OF_LABELS)
def test_stock_segmentors_are_scored(name):
    """Whose samples carry labels and logits alone, on any data set."""
    sample = make_sample(0)
    stock = labelled_sample(sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0])
    assert evaluate(dict(type=name), [stock]) == same(evaluate(dict(type=name), [sample]))
    assert evaluate(dict(type=name), [stock], classes=('road', 'sky', 'car', 'tree'))


@of_maps
def test_maps_need_no_segmentation(name):
    sample = make_sample(0)
    expected = evaluate(dict(type=name), [sample])
    for field in ('pred_sem_seg', 'pred_score'):
        delattr(sample, field)
    assert evaluate(dict(type=name), [sample]) == same(expected)


@of_maps
def test_maps_that_are_chosen(name):
    samples = [make_sample(i, maps=(*MAPS, 'attention')) for i in range(2)]
    everything = evaluate(dict(type=name), samples)
    assert {key.split('/')[0] for key in everything} == {*MAPS, 'attention'}
    some = evaluate(dict(type=name, maps=['attention', 'cam']), samples)
    assert {key.split('/')[0] for key in some} == {'attention', 'cam'}
    for key, value in some.items():
        assert value == same(everything[key])


@of_maps
def test_maps_of_the_labelled_classes_are_enough(name):
    samples = [make_sample(i) for i in range(4)]
    samples[2].gt_score.zero_()  # and no map at all
    expected = evaluate(dict(type=name), samples)
    for sample in samples:
        indices = sample.gt_score.nonzero().flatten()
        sample.set_field(indices, 'map_indices')
        for field in MAPS:
            sample.get(field).data = sample.get(field).data[indices]
    assert evaluate(dict(type=name), samples) == same(expected)


@of_maps
def test_a_class_without_a_map_has_one_of_zeros(name):
    """Of maps of the predicted classes, where a class of the image was not predicted."""
    samples = [make_sample(i) for i in range(3)]
    for sample in samples:
        sample.gt_score = torch.tensor([1.0, 1.0, 0.0])
        for field in MAPS:
            sample.get(field).data[1] = 0
    expected = evaluate(dict(type=name), samples)
    for sample in samples:
        sample.set_field(torch.tensor([0, 2]), 'map_indices')
        for field in MAPS:
            sample.get(field).data = sample.get(field).data[[0, 2]]
    assert evaluate(dict(type=name), samples) == same(expected)


@of_maps
def test_without_image_labels_the_truth_says_the_classes(name):
    samples = [make_sample(i) for i in range(3)]
    for i, sample in enumerate(samples):
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 1 + i % 2] = 0
        sample.gt_score = torch.tensor([float(i % 2 == 1), float(i % 2 == 0), 1.0])
    expected = evaluate(dict(type=name), samples)
    for sample in samples:
        del sample.gt_score
    assert evaluate(dict(type=name), samples) == same(expected)


@of_maps
def test_half_precision(name):
    samples = [make_sample(i) for i in range(2)]
    for sample in samples:
        for field in MAPS:
            sample.get(field).data = sample.get(field).data.half()
    rounded = [sample.clone() for sample in samples]
    for sample in rounded:
        for field in MAPS:
            sample.get(field).data = sample.get(field).data.float()
    assert evaluate(dict(type=name), samples) == same(evaluate(dict(type=name), rounded))


@of_maps
def test_bad_maps(name):
    metric = dict(type=name)
    for maps in ('lam', [], ['lamm']):
        with pytest.raises(ValueError, match='maps must be a list of some of'):
            evaluate(dict(metric, maps=maps), [make_sample(0)])
    for value in (1.5, -0.5, math.nan):
        sample = make_sample(1)
        sample.lam.data[0, 3, 3] = value
        with pytest.raises(
            ValueError, match=r'"lam" of 1.jpg has values.*expected \[0, 1\]'
        ):
            evaluate(metric, [sample])
    sample = make_sample(2)
    sample.lam.data[0, 3, 3] = 1 + 1e-6  # a rounding
    evaluate(metric, [sample])
    with pytest.raises(KeyError, match='is missing.*LocalizationHook.*test-time'):
        evaluate(metric, [make_sample(0, maps=())])
    with pytest.raises(KeyError, match='"attention" is missing'):
        evaluate(dict(metric, maps=['attention']), [make_sample(0)])
    with pytest.raises(ValueError, match='"background" first'):
        evaluate(metric, [make_sample(0)], classes=CLASSES[1:])
    sample = make_sample(0)
    sample.cam = PixelData(data=torch.rand(K + 1, 12, 9))
    with pytest.raises(ValueError, match=r'"cam" of 0.jpg has the shape'):
        evaluate(metric, [sample])


@every
def test_missing_truth(name):
    sample = make_sample(3)
    del sample.gt_sem_seg
    with pytest.raises(KeyError, match='gt_sem_seg.*3.jpg.*LoadAnnotations'):
        evaluate(dict(type=name), [sample])
    with pytest.raises(ValueError, match='no image was evaluated'):
        evaluate(dict(type=name), [])


@every
def test_json_has_the_classes(name, tmp_path):
    path = tmp_path / 'new' / 'figures.json'
    figures = evaluate(
        dict(type=name, out_json=str(path)), [make_sample(i) for i in range(3)]
    )
    written = json.loads(path.read_text())
    totals = {key: value for key, value in written.items() if key.count('/') == 1}
    assert totals == {
        key: None if math.isnan(value) else value for key, value in figures.items()
    }
    assert {key.split('/')[2] for key in written if key.count('/') == 2} == set(CLASSES)


@pytest.mark.parametrize('which', ['boundary', 'objects', 'pixels', 'points'])
def test_mean_of_the_classes(which, tmp_path):
    """Of what the file says of single classes, undefined ones left out."""
    path = tmp_path / 'figures.json'
    metric = metrics()[which]
    metric.out_json = str(path)
    figures = evaluate(metric, [make_sample(i) for i in range(3)])
    written = json.loads(path.read_text())
    keys = [key for key in figures if f'{key}/star' in written]
    assert keys
    for key in keys:
        classes = [
            written[f'{key}/{c}'] for c in CLASSES if written[f'{key}/{c}'] is not None
        ]
        total = figures[key.replace('/PxAP', '/mPxAP')]
        expected = sum(classes) / len(classes) if classes else math.nan
        assert total == pytest.approx(expected, nan_ok=True)


def test_table():
    nan = math.nan
    figures = {
        'lam/A': (1.5, torch.tensor([nan, 1.0, 2.0])),
        'lam/B': (nan, torch.tensor([nan, nan, nan])),
        'lam/C': (7.25, None),
    }
    lines = format_classes(figures, ('background', 'cat', 'dog')).splitlines()
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in lines
        if line.startswith('|')
    ]
    assert rows == [
        ['class', 'lam/A', 'lam/B'],
        ['cat', '1.00', '-'],
        ['dog', '2.00', '-'],
        ['all', '1.50', '-'],
    ]
    assert lines[-1] == 'lam/C 7.25'
    many = {f'{m}/{n}': figures['lam/A'] for m in ('cam', 'lam') for n in 'ABCD'}
    heads = [x for x in format_classes(many, ('b', 'c', 'd')).splitlines() if 'class' in x]
    assert [head.count('cam/') for head in heads] == [4, 0]
    assert [head.count('lam/') for head in heads] == [0, 4]
