import json

import pytest

from mmseg_more.masks import MaskFolder, read_manifest

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
