"""Every format, in every kind of size, against the segmentor itself."""

import math
import sys

import pytest
import torch

from mmseg_more.deployment import (
    LocalizationGraph,
    SegmentationGraph,
    describe,
    export_network,
    formats,
    load_exported,
    serialize,
)
from tiny_model import tiny_config, tiny_model

CLASSES = dict(classes=['background', 'a', 'b', 'ç'], palette=[[0, 0, 0]] * 4)
# (B, H, W); patches of 8 pixels, positions of 64 x 64
SIZES = [(1, 64, 64), (2, 64, 70), (3, 61, 85), (1, 96, 40), (3, 128, 128), (2, 16, 16)]
ROUNDING = 1e-5  # ten times what is seen; outputs are up to 3


def deployed(kind, **overrides):
    """A graph of a network whose outputs are not nearly constant."""
    model = tiny_model(**overrides).eval()
    backbone = model.backbone
    for weight in (
        backbone.pos_embed,
        backbone.cls_token,
        model.classifier.weight,
        model.decode_head.conv_seg.weight,
    ):
        torch.nn.init.normal_(weight, std=0.5)
    graph = SegmentationGraph(model) if kind == 'seg' else LocalizationGraph(model, kind)
    return graph.eval()


def differences(graph, format, sizes=SIZES):
    """Largest difference from the segmentor in each size."""
    network = load_exported(serialize(graph, format, {}), format)
    generator = torch.Generator().manual_seed(1)
    found = {}
    for batch_size, *size in sizes:
        images = torch.randn(batch_size, 3, *size, generator=generator)
        outputs, expected = network.run(images), graph.expected(images)
        assert [value.shape for value in outputs] == [value.shape for value in expected]
        assert all(value.std() > 0.05 for value in expected)
        found[(batch_size, *size)] = max(
            (value - wanted).abs().max().item() for value, wanted in zip(outputs, expected)
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['seg', 'fused'])
@pytest.mark.parametrize('format', ['onnx', 'export', 'torchscript'])
def test_every_size_is_as_in_the_segmentor(format, kind):
    found = differences(deployed(kind), format)
    assert max(found.values()) < ROUNDING, found


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['cam', 'lam', 'attention'])
def test_every_map(kind):
    found = differences(deployed(kind), 'torchscript')
    assert max(found.values()) < ROUNDING, found


@pytest.mark.slow
@pytest.mark.parametrize('format', ['onnx', 'export', 'torchscript'])
def test_fewer_patches_than_neighbors(format):
    """The number of neighbours follows the size of the image."""
    graph = tiny_config().graph
    graph.update(num_neighbors=70, tail='patches')
    found = differences(deployed('lam', graph=graph), format)
    assert max(found.values()) < ROUNDING, found


def test_positions_by_size():
    backbone = tiny_config().backbone
    backbone.interpolate = 'size'
    found = differences(deployed('seg', backbone=backbone), 'torchscript', SIZES[:4])
    assert max(found.values()) < ROUNDING, found


@pytest.mark.slow
@pytest.mark.parametrize('format', ['export', 'torchscript', 'onnx'])
def test_file_and_metadata(format, tmp_path):
    graph = deployed('lam' if format == 'export' else 'seg')
    pipeline = [dict(type='Resize', scale=(64, 48)), dict(type='PackSegInputs')]
    metadata = describe(graph, CLASSES, pipeline)
    assert metadata['mean'] == [123.675, 116.28, 103.53] and metadata['channels'] == 'RGB'
    assert metadata['input_size'] == [48, 64] and metadata['patch_size'] == 8
    assert metadata['output'] == ('maps' if format == 'export' else 'seg')
    path = tmp_path / 'folder' / 'network'
    difference = export_network(graph, path, format, metadata)
    assert 0 < difference < ROUNDING
    network = load_exported(path, format)
    assert network.metadata == metadata
    assert [file.name for file in path.parent.iterdir()] == ['network']


@pytest.mark.slow
def test_onnx_names_its_axes():
    import onnxruntime

    session = onnxruntime.InferenceSession(serialize(deployed('lam'), 'onnx', {}))
    (images,), outputs = session.get_inputs(), session.get_outputs()
    assert images.name == 'images'
    assert images.shape == ['batch', 3, 'height', 'width']
    assert {value.name: value.shape for value in outputs} == dict(
        maps=['batch', 3, 'height', 'width'], scores=['batch', 3]
    )


@pytest.mark.parametrize('keep_ratio, size', [(True, None), (False, [32, 32])])
def test_input_size(keep_ratio, size):
    pipeline = [dict(type='Resize', scale=32, keep_ratio=keep_ratio)]
    assert describe(deployed('seg'), CLASSES, pipeline)['input_size'] == size
    assert describe(deployed('seg'), CLASSES)['input_size'] is None


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    graph, path = deployed('seg'), tmp_path / 'network.pt'

    def wrong_by_a_percent(content, format):
        def run(images):
            return tuple(1.01 * value for value in graph.expected(images))

        return formats.ExportedNetwork(run, {})

    monkeypatch.setattr(formats, 'load_exported', wrong_by_a_percent)
    with pytest.raises(ValueError, match='differs in logits of 1 images of 64x64 pixels'):
        export_network(graph, path, 'torchscript', {})
    assert not list(tmp_path.iterdir())
    assert math.isnan(export_network(graph, path, 'torchscript', {}, check=False))
    assert path.exists()


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs the package {package}: pip install'):
        if package == 'onnxruntime':
            load_exported(b'', 'onnx')
        else:
            serialize(deployed('seg'), 'onnx', {})


def test_unknown_names():
    graph = deployed('seg')
    for function in (lambda: serialize(graph, 'tf', {}), lambda: load_exported(b'', 'tf')):
        with pytest.raises(ValueError, match='format must be one of onnx, export, torch'):
            function()
    with pytest.raises(ValueError, match='source must be one of cam, lam, fused'):
        LocalizationGraph(graph.model, 'seg')


def test_too_large_for_onnx(monkeypatch):
    monkeypatch.setattr(formats, '_PROTOBUF_LIMIT', 1000)
    with pytest.raises(ValueError, match="at most 1000: use the format 'export'"):
        serialize(deployed('seg'), 'onnx', {})
