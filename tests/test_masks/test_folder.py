import hashlib
import io
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given

from mmseg_more.masks import MaskFolder, read_manifest
from mmseg_more.masks import folder as folder_module
from mmseg_more.masks.folder import soft_map
from mmseg_more.masks.probabilities import ClassProbabilities
from strategies import maps

IDENTITY = dict(
    settings=dict(source='lam', scales=(1.0, 0.5)),
    classes=('b', 'c'),
    palette=[(0, 0, 0), (1, 1, 1)],
)
WEIGHTS = dict(weights_sha256='0' * 64, path='a.pth', sha256='1')


def start(folder, *names, **changes):
    return MaskFolder.start(
        folder, dict(IDENTITY, **changes), WEIGHTS, dict.fromkeys(names)
    )


def finish_image(folder, name, **entry):
    folder.write(folder.mask_path(name), b'mask')
    folder.record(name, dict(dict(size=[1, 1], classes=['c'], confidence={}), **entry))


def manifest(folder):
    return read_manifest(folder.root / 'manifest.json')


def test_from_start_to_end(tmp_path):
    folder = MaskFolder(tmp_path / 'new')
    assert start(folder, 'a', 'x/b', 'c') == []
    assert manifest(folder)['images'] == {} and not manifest(folder)['complete']
    folder.open_journal(0)
    finish_image(folder, 'x/b', classes=[])
    folder.record('c', dict(error='broken'))
    folder.close_journal()
    assert folder.finish(['a', 'x/b', 'c']) == dict(
        a='no process has reported it', c='broken'
    )
    found = manifest(folder)
    assert list(found['images']) == ['x/b'] and found['failed'] == dict(c='broken')
    assert found['without_class'] == ['x/b'] and not found['complete']
    assert found['checkpoint'] == WEIGHTS
    assert not list(folder.root.glob('.journal*'))

    again = MaskFolder(tmp_path / 'new')
    assert start(again, 'a', 'x/b', 'c') == ['x/b']
    again.open_journal(0)
    finish_image(again, 'a')
    finish_image(again, 'c')
    again.close_journal()
    assert again.finish(['a', 'x/b', 'c']) == {}
    assert manifest(again)['complete'] and manifest(again)['failed'] == {}
    assert list(manifest(again)['images']) == ['a', 'c', 'x/b']


@pytest.mark.parametrize('foreign', ['of_something_else.png', 'x/b.png', 'x/c.png'])
def test_pngs_without_a_manifest(tmp_path, foreign):
    file = tmp_path / foreign
    file.parent.mkdir(exist_ok=True)
    (tmp_path / '.hidden.png').write_bytes(b'')
    file.write_bytes(b'theirs')
    with pytest.raises(ValueError, match=f'{foreign}.*: give another folder'):
        start(MaskFolder(tmp_path), 'a', 'x/b')
    assert sorted(path for path in tmp_path.rglob('*.*')) == [
        tmp_path / '.hidden.png',
        file,
    ]
    file.unlink()
    assert start(MaskFolder(tmp_path), 'a', 'x/b') == []


def test_journals_of_a_run_that_was_killed(tmp_path):
    folder = MaskFolder(tmp_path)
    start(folder, 'a', 'b', 'c')
    for rank, name in enumerate('abc'):
        folder.open_journal(rank)
        finish_image(folder, name)
        folder.close_journal()
    with open(tmp_path / '.journal-1.jsonl', 'a') as journal:
        journal.write('{"image": "d", "size": [1')
    folder.mask_path('c').write_bytes(b'')  # the machine went down as well
    (tmp_path / '.c.png.x_1234ab').write_bytes(b'half a mask')
    (tmp_path / '.keep.png').write_bytes(b'not ours')
    again = MaskFolder(tmp_path)
    assert start(again, 'a', 'b', 'c', 'd') == ['a', 'b']
    assert sorted(path.name for path in tmp_path.glob('.*')) == ['.keep.png']
    # once more: nothing is lost by folding twice
    assert start(MaskFolder(tmp_path), 'a', 'b', 'c', 'd') == ['a', 'b']


def test_masks_and_soft_maps_that_are_gone(tmp_path):
    folder = MaskFolder(tmp_path)
    start(folder, 'a', 'b')
    folder.open_journal(0)
    for name in 'ab':
        finish_image(folder, name)
        folder.write(folder.soft_path(name), b'soft')
    folder.close_journal()
    folder.finish(['a', 'b'])
    folder.soft_path('b').unlink()
    expected = dict(a=['c'], b=['c'])
    assert folder.start(IDENTITY, WEIGHTS, expected) == ['a', 'b']
    assert folder.start(IDENTITY, WEIGHTS, expected, soft_maps=True) == ['a']
    folder.mask_path('a').unlink()
    assert folder.start(IDENTITY, WEIGHTS, expected) == ['b']
    assert folder.start(IDENTITY, WEIGHTS, dict(b=['d'])) == []  # other labels


def finish_all(folder, *names):
    """All files of these images, written and noted."""
    start(folder, *names)
    folder.open_journal(0)
    for name in names:
        for path in (folder.soft_path, folder.confidence_path):
            folder.write(path(name), b'beside')
        finish_image(folder, name)
    folder.close_journal()
    folder.finish(names)


@pytest.mark.parametrize('content', [b'mas', b'mast', b'mask and more', b''])
def test_files_that_were_cut_or_overwritten(tmp_path, content, caplog):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a', 'x/b', 'c')
    names = ['a', 'x/b', 'c']
    assert start(MaskFolder(tmp_path), *names) == names
    folder.mask_path('x/b').write_bytes(content)
    with caplog.at_level('WARNING'):
        assert start(MaskFolder(tmp_path), *names) == ['a', 'c']
    # its entry is gone: a run that ends here does not call the folder complete
    assert list(manifest(folder)['images']) == ['a', 'c']
    again = MaskFolder(tmp_path)
    assert start(again, *names) == ['a', 'c']
    assert again.finish(names) == {'x/b': 'no process has reported it'}
    assert not manifest(folder)['complete']


@pytest.mark.parametrize('kind', ['soft', 'confidence'])
def test_files_beside_a_mask_that_were_cut(tmp_path, kind):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a', 'b')
    getattr(folder, f'{kind}_path')('a').write_bytes(b'besid')
    needs = {f'{kind}_maps': True}
    expected = dict.fromkeys('ab')
    assert MaskFolder(tmp_path).start(IDENTITY, WEIGHTS, expected) == ['a', 'b']
    assert MaskFolder(tmp_path).start(IDENTITY, WEIGHTS, expected, **needs) == ['b']


def test_size_and_hash_stand_in_the_entry(tmp_path):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a')
    start(folder, 'a', 'b')
    folder.open_journal(0)
    finish_image(folder, 'b')
    folder.write(folder.soft_path('c'), b'of an image that fails')
    folder.record('c', dict(error='broken'))
    folder.close_journal()
    folder.finish('abc')
    images = manifest(folder)['images']
    fingerprint = dict(bytes=4, sha256=hashlib.sha256(b'mask').hexdigest())
    assert images['b']['files'] == dict(mask=fingerprint)
    assert images['a']['files']['mask'] == fingerprint
    assert set(images['a']['files']) == {'mask', 'soft', 'confidence'}
    assert manifest(folder)['failed'] == dict(c='broken')


def test_a_manifest_of_before_there_were_hashes(tmp_path):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a', 'b', 'c')
    old = manifest(folder)
    for entry in old['images'].values():
        del entry['files']
    (tmp_path / 'manifest.json').write_text(json.dumps(old))
    folder.mask_path('b').write_bytes(b'')
    assert start(MaskFolder(tmp_path), 'a', 'b', 'c') == ['a', 'c']
    again = MaskFolder(tmp_path)
    start(again, 'a', 'b', 'c')
    again.open_journal(0)
    finish_image(again, 'b')
    again.close_journal()
    assert again.finish('abc') == {}
    images = manifest(folder)['images']
    assert 'files' in images['b'] and 'files' not in images['a']


@pytest.mark.parametrize(
    'files', [None, 3, [], dict(mask=None), dict(mask=[4]), dict(mask=dict(bytes=4))]
)
def test_fingerprints_that_are_none(tmp_path, files):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a')
    forged = manifest(folder)
    forged['images']['a']['files'] = files
    (tmp_path / 'manifest.json').write_text(json.dumps(forged))
    assert start(MaskFolder(tmp_path), 'a') == []


def test_another_split_of_the_same_kind_joins(tmp_path):
    folder = MaskFolder(tmp_path)
    for name in 'ab':
        start(folder, name)
        folder.open_journal(0)
        finish_image(folder, name)
        folder.close_journal()
        assert folder.finish([name]) == {}
    assert list(manifest(folder)['images']) == ['a', 'b']


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            dict(settings=dict(source='cam', scales=(1.0, 0.5))),
            'settings.source is lam there',
        ),
        (
            dict(settings=dict(source='lam')),
            r'settings.scales is \[1.0, 0.5\] there, \(noth',
        ),
        (dict(classes=('b', 'd')), r'classes\[1\] is c there, d now'),
        (dict(classes=('b',)), 'classes is .* there, .* now'),
        (dict(palette=[(0, 0, 0), (1, 1, 2)]), r'palette\[1\]\[2\] is 1 there, 2 now'),
    ],
)
def test_other_settings(tmp_path, changes, message):
    start(MaskFolder(tmp_path))
    before = (tmp_path / 'manifest.json').read_bytes()
    with pytest.raises(ValueError, match=message + '.*. Choose another folder'):
        start(MaskFolder(tmp_path), **changes)
    assert (tmp_path / 'manifest.json').read_bytes() == before
    start(MaskFolder(tmp_path))  # lists and tuples are the same


def test_many_differences(tmp_path):
    start(MaskFolder(tmp_path))
    settings = dict(source='lam', scales=(1.0, 0.5), **{f'x{i}': i for i in range(9)})
    with pytest.raises(ValueError, match='x4 is .nothing. there, 4 now; and 4 more'):
        start(MaskFolder(tmp_path), settings=settings)


@pytest.mark.parametrize(
    'content',
    ['[]', '{}', json.dumps(dict(settings={}, checkpoint={}, images=[], failed={}))],
)
def test_manifest_of_something_else(tmp_path, content):
    (tmp_path / 'manifest.json').write_text(content)
    with pytest.raises(ValueError, match='is not the manifest of a folder of masks'):
        start(MaskFolder(tmp_path))


@pytest.mark.parametrize('name', ['../evil', '/evil', 'a/../../evil', ''])
def test_manifest_with_names_outside_of_the_folder(tmp_path, name):
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a', 'b/c')
    path = tmp_path / 'manifest.json'
    content = json.loads(path.read_text())
    content['images'][name] = content['images']['a']
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f'names an image {name!r}, which lies outside'):
        read_manifest(path)


def test_masks_that_are_made_again_are_named(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(folder_module, 'print_log', lambda line, *_: lines.append(line))
    folder = MaskFolder(tmp_path)
    finish_all(folder, 'a', 'b')
    start(MaskFolder(tmp_path), 'a', 'b')
    assert lines == []
    folder.mask_path('b').unlink()
    start(MaskFolder(tmp_path), 'a', 'b')
    assert len(lines) == 1
    assert lines[0].startswith('1 masks in') and lines[0].endswith("have changed: 'b'")


def test_a_closed_journal_is_no_open_file(tmp_path):
    folder = MaskFolder(tmp_path)
    start(folder, 'a')
    folder.open_journal(0)
    journal = folder._journal
    folder.close_journal()
    with pytest.raises(OSError):
        os.fstat(journal)
    with pytest.raises(RuntimeError, match='before open_journal'):
        folder.record('a', dict(error='broken'))
    folder.close_journal()  # once more does nothing


def test_a_manifest_is_json_that_everybody_reads(tmp_path):
    """NaN is none: better an error than a file that other programs refuse."""
    folder = MaskFolder(tmp_path)
    start(folder, 'a')
    before = (tmp_path / 'manifest.json').read_bytes()
    folder.open_journal(0)
    finish_image(folder, 'a', confidence=dict(c=float('nan')))
    folder.close_journal()
    with pytest.raises(ValueError, match='not JSON compliant'):
        folder.finish('a')
    assert (tmp_path / 'manifest.json').read_bytes() == before


@given(maps())
def test_soft_maps_are_means_of_pixels(drawn):
    probs = drawn[0]
    labels = torch.arange(len(probs)) * 2
    soft = np.load(io.BytesIO(soft_map(ClassProbabilities(probs, labels))))
    size = probs.shape[1:]
    assert soft['size'].tolist() == list(size)
    assert soft['labels'].tolist() == labels.tolist()
    small = [max(1, side // 4) for side in size]
    assert soft['probs'].shape == (len(probs), *small) and soft['probs'].dtype == np.uint8
    for row in range(small[0]):
        for column in range(small[1]):
            # the pixels that a cell of the small map lies on
            rows, columns = (
                slice(i * side // n, -(-(i + 1) * side // n))
                for i, side, n in zip((row, column), size, small)
            )
            mean = 255 * probs[:, rows, columns].double().mean((1, 2))
            assert np.abs(soft['probs'][:, row, column] - mean.numpy()).max() <= 0.5001


def test_other_weights(tmp_path):
    MaskFolder(tmp_path).start(IDENTITY, WEIGHTS, {})
    other = dict(WEIGHTS, weights_sha256='1' * 64, path='b.pth')
    message = 'the checkpoint is another one: a.pth .0{12}. there, b.pth .1{12}. now'
    with pytest.raises(ValueError, match=message):
        MaskFolder(tmp_path).start(IDENTITY, other, {})
    MaskFolder(tmp_path).start(IDENTITY, dict(WEIGHTS, path='moved.pth'), {})


def test_a_file_that_cannot_be_written(tmp_path):
    folder = MaskFolder(tmp_path)
    start(folder, 'x/a')
    (tmp_path / 'x').write_bytes(b'a file where the folder should be')
    with pytest.raises(OSError, match='what is finished stays: make room') as error:
        folder.write(folder.mask_path('x/a'), b'mask')
    assert error.value.filename == str(tmp_path / 'x/a.png')
    folder.open_journal(0)
    folder.record(
        'x/a', dict(classes=['c'])
    )  # nothing is noted of a file that is not there
    folder.close_journal()
    folder.finish(['x/a'])
    assert manifest(folder)['images']['x/a']['files'] == {}
