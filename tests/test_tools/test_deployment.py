"""tools/deployment, run as a user runs it."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from golden import Golden, model_config
from mmseg_more.apis import MoReInferencer
from mmseg_more.apis.model_conversion import class_names
from mmseg_more.checkpoints import convert_official
from mmseg_more.deployment import load_exported
from scripts import load_script

GOLDEN = Golden('inference')


@pytest.fixture
def export(repo_root):
    module = load_script(repo_root / 'tools' / 'deployment' / 'export.py')
    return lambda *arguments: module.main([str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    """A config, a checkpoint and two images, one of the size of the network's input."""
    cfg = model_config(GOLDEN.meta)
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 48)
    cfg.dump(tmp_path / 'config.py')
    weights = convert_official(GOLDEN.group('sd.'))
    torch.save(dict(state_dict=weights), tmp_path / 'more.pth')
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for name, size in dict(image=(150, 100), same=(64, 48)).items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), cv2.resize(coarse, size))
    return tmp_path


@pytest.mark.slow
def test_onnx_gives_the_mask_of_the_inferencer(export, files, repo_root, capsys):
    network, mask_file = files / 'more.onnx', files / 'mask.png'
    assert export(files / 'config.py', files / 'more.pth', '--out', network) == 0
    assert 'more.onnx: logits; differs from the segmentor by' in capsys.readouterr().out
    script = repo_root / 'tools' / 'deployment' / 'infer_onnx.py'
    inferencer = MoReInferencer(
        str(files / 'config.py'), str(files / 'more.pth'), device='cpu', show_progress=False
    )
    # The logits come at the size of the input, and are then resized to that of the image.
    for name, size, allowed in (('same', (48, 64), 0), ('image', (100, 150), 0.02)):
        arguments = [script, network, files / f'{name}.png', mask_file]
        subprocess.run([sys.executable, *map(str, arguments)], check=True, cwd=files)
        expected = inferencer(str(files / f'{name}.png'))['predictions']
        written = Image.open(mask_file)
        assert written.mode == 'P' and written.getpalette()[3:6] == [128, 0, 0]
        mask = np.asarray(written)
        assert len(np.unique(expected)) > 1 and mask.shape == size
        assert (mask != expected).mean() <= allowed


def test_infer_onnx_needs_three_packages(repo_root):
    text = (repo_root / 'tools' / 'deployment' / 'infer_onnx.py').read_text()
    imported = {line.split()[1] for line in text.splitlines() if 'import ' in line}
    assert imported == {'json', 'sys', 'numpy', 'onnxruntime', 'PIL'}
    assert len(text.splitlines()) <= 40


@pytest.mark.slow
def test_maps(export, files, capsys):
    path = files / 'maps.pt2'
    options = ['--format', 'export', '--output', 'maps', '--source', 'cam', '--out', path]
    assert export(files / 'config.py', files / 'more.pth', *options) == 0
    assert 'maps.pt2: maps, scores; differs' in capsys.readouterr().out
    network = load_exported(path, 'export')
    maps, scores = network.run(torch.randn(1, 3, 48, 64))
    assert maps.shape == (1, 20, 48, 64) and scores.shape == (1, 20)
    assert network.metadata['source'] == 'cam'
    assert network.metadata['input_size'] == [48, 64]
    assert network.metadata['classes'][:2] == ['background', 'aeroplane']


def test_config_with_a_pipeline_alone(files, repo_root, monkeypatch):
    """As of inference: no data to test on are needed."""
    cfg = Config.fromfile(files / 'config.py')
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    for name in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(name)
    cfg.dump(files / 'config.py')
    checkpoint = torch.load(files / 'more.pth')
    checkpoint['meta'] = dict(dataset_meta=class_names(20))
    torch.save(checkpoint, files / 'more.pth')
    module = load_script(repo_root / 'tools' / 'deployment' / 'export.py')
    found = []

    def export_network(graph, path, kind, metadata, check):
        found.append(metadata['input_size'])
        return 0.0

    monkeypatch.setattr(module, 'export_network', export_network)
    arguments = ['config.py', 'more.pth', '--out', 'more.onnx']
    monkeypatch.chdir(files)
    assert module.main(arguments) == 0
    assert found == [[48, 64]]


def lacks_weights(files):
    checkpoint = torch.load(files / 'more.pth')
    del checkpoint['state_dict']['classifier.weight']
    torch.save(checkpoint, files / 'more.pth')


@pytest.mark.parametrize(
    'arguments, change, message',
    [
        (['--out', 'a.onnx', '--source', 'lam'], None, '--source belongs to --output maps'),
        (['--out', 'a.pt'], None, 'files of --format onnx end with .onnx'),
        (['--out', 'a.onnx'], lacks_weights, 'lacks 1 weights of the model'),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    export, files, mistake_of, monkeypatch, arguments, change, message
):
    monkeypatch.chdir(files)
    if change:
        change(files)
    before = sorted(files.iterdir())
    assert message in mistake_of(export, 'config.py', 'more.pth', *arguments)
    assert sorted(files.iterdir()) == before
