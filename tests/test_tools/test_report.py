"""tools/report.py, run as a user runs it."""

import json
import re

import pytest

import mask_run
from scripts import load_script


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return mask_run.make_data(tmp_path_factory.mktemp('data'))


@pytest.fixture
def arguments(data, tmp_path):
    """CONFIG and CHECKPOINT; the validation images have no masks."""
    cfg = mask_run.config(data)
    pipeline = cfg.val_dataloader.dataset.pipeline
    cfg.val_dataloader.dataset.pipeline = [
        step for step in pipeline if step['type'] != 'LoadAnnotations'
    ]
    cfg.dump(tmp_path / 'config.py')
    return [str(tmp_path / 'config.py'), str(data / 'weights.pth')]


@pytest.fixture
def report(repo_root):
    return load_script(repo_root / 'tools' / 'report.py').main


def images_of(path):
    text = path.read_text()
    data = re.search(r'<script type="application/json" id="data">(.*)</script>', text)
    return json.loads(data.group(1))['images']


@pytest.mark.slow
def test_model(report, arguments, tmp_path, capsys):
    out = tmp_path / 'new' / 'report.html'
    report([*arguments, str(out), '--device', 'cpu'])
    assert f'6 images, 6 of them shown, 0.0 MB: {out}' in capsys.readouterr().out
    images = images_of(out)
    confidence = [image['confidence'] for image in images]
    assert confidence == sorted(confidence)
    report([*arguments, str(out), '--device', 'cpu', '--limit', '2', '--split', 'train'])
    assert sorted(image['name'] for image in images_of(out)) == ['a', 'e']
    assert '2 of the 6 of the train split' in out.read_text()


@pytest.mark.slow
def test_masks(report, arguments, data, tmp_path, monkeypatch):
    mask_run.run_masks(data, tmp_path / 'masks')
    out = tmp_path / 'report.html'
    report([arguments[0], str(out), '--masks', str(tmp_path / 'masks')])
    manifest = mask_run.manifest(tmp_path / 'masks')
    expected = {
        name: entry['image_confidence'] for name, entry in manifest['images'].items()
    }
    assert {image['name']: image['confidence'] for image in images_of(out)} == expected
    monkeypatch.chdir(tmp_path / 'masks')
    report([arguments[0], str(out), '--masks', '.'])
    assert '<h1>masks</h1>' in out.read_text()


def test_mistakes(report, arguments, tmp_path, mistake_of):
    config, checkpoint = arguments
    out = str(tmp_path / 'out.html')
    assert 'needs CHECKPOINT, --masks or both' in mistake_of(report, [config, out])
    assert 'must be named *.html' in mistake_of(report, [config, checkpoint])
    assert '--limit' in mistake_of(report, [*arguments, out, '--limit', '0'])
    masks = [config, out, '--masks', str(tmp_path / 'nothing')]
    assert 'nothing/manifest.json' in mistake_of(report, masks)
    assert not (tmp_path / 'out.html').exists()
