import json
import sys

import numpy as np
import pytest
from PIL import Image

from golden import ROOT
from scripts import load_script

TOOL = ROOT / 'tools/analysis/evaluate_masks.py'
TRUTH = {'a': [[0, 1], [1, 255]], 'below/a': [[2, 2, 0]]}
MASKS = {'a': [[0, 1], [0, 2]], 'below/a': [[2, 0, 0]]}


def save(folder, labels):
    for name, values in labels.items():
        path = folder / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(values, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    save(tmp_path / 'masks', MASKS)
    save(tmp_path / 'truth', TRUTH)
    return tmp_path / 'masks', tmp_path / 'truth'


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Run the tool in this process; its output, or its error."""
    module = load_script(TOOL)

    def evaluate(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        try:
            module.main()
        except SystemExit as stop:
            assert stop.code == 2
            return capsys.readouterr().err.splitlines()[-1]
        return capsys.readouterr().out

    return evaluate


def rows(output):
    return {
        line.split('|')[1].strip(): [cell.strip() for cell in line.split('|')[2:-1]]
        for line in output.splitlines()
        if '|' in line
    }


def test_figures(folders, evaluate, tmp_path):
    output = evaluate(*folders, '--num-classes', 3, '--json', tmp_path / 'out.json')
    table = rows(output)
    # background: 2 right (a: 1, below/a: 1), 2 false positives, none missed
    assert table['background'] == ['50.00', '50.00', '100.00']
    assert table['1'] == ['50.00', '100.00', '50.00']
    assert table['2'] == ['50.00', '100.00', '50.00']
    assert table['3'] == ['-', '-', '-']
    assert table['mean'] == ['50.00', '83.33', '66.67']
    assert '2 images, mIoU 50.00 over the 3 labels' in output
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert figures == {
        'images': 2,
        'mIoU': 50.0,
        'IoU/background': 50.0,
        'IoU/1': 50.0,
        'IoU/2': 50.0,
        'IoU/3': None,
    }


def test_list_of_images(folders, evaluate, tmp_path):
    (tmp_path / 'list.txt').write_text('below/a\n\n')
    output = evaluate(
        *folders, '--classes', 'cat', 'dog', '--ann-file', tmp_path / 'list.txt'
    )
    assert rows(output)['dog'] == ['50.00', '100.00', '50.00']
    assert '1 images, mIoU 50.00' in output


def test_list_with_dots_suffixes_and_a_byte_order_mark(folders, evaluate, tmp_path):
    """Masks ``frame.0001.png``, and of an image ``b.jpg.png``, which is no ``b``."""
    for folder, labels in zip(folders, (MASKS, TRUTH)):
        save(folder, dict.fromkeys(('frame.0001', 'b.jpg', 'c'), labels['a']))
    lines = '\ufeffframe.0001\r\nb.jpg\r\nc.JPG\r\nbelow/a.png\r\n'
    (tmp_path / 'list.txt').write_bytes(lines.encode())
    arguments = (*folders, '--num-classes', 2, '--ann-file', tmp_path / 'list.txt')
    assert '4 images, mIoU' in evaluate(*arguments)
    (tmp_path / 'list.txt').write_bytes('größe'.encode('utf-16'))
    assert 'list.txt is not text in UTF-8' in evaluate(*arguments)


def test_classes_of_the_manifest(folders, evaluate):
    message = evaluate(*folders)
    assert 'has no manifest.json: give --classes or --num-classes' in message
    (folders[0] / 'manifest.json').write_text(
        json.dumps(
            dict(
                settings={},
                checkpoint={},
                images={},
                failed={},
                classes=['background', 'cat', 'dog'],
            )
        )
    )
    assert rows(evaluate(*folders))['cat'] == ['50.00', '100.00', '50.00']


def test_missing_files(folders, evaluate, tmp_path):
    (tmp_path / 'list.txt').write_text('a\nb\nc\n')
    message = evaluate(*folders, '--num-classes', 2, '--ann-file', tmp_path / 'list.txt')
    assert '2 of 3 images of' in message and 'have no mask' in message
    assert "'b', 'c'" in message
    (folders[1] / 'a.png').unlink()
    message = evaluate(*folders, '--num-classes', 2)
    assert 'truth/a.png does not exist' in message
    assert 'nowhere does not exist' in evaluate('nowhere', folders[1])
    (tmp_path / 'empty').mkdir()
    assert 'names no mask' in evaluate(tmp_path / 'empty', folders[1])


def test_files_that_do_not_fit(folders, evaluate):
    message = evaluate(*folders, '--num-classes', 1)
    assert 'masks/a.png holds the labels [2], expected 0..1: are --classes' in message
    save(folders[0], {'a': [[0, 255], [0, 0]]})
    message = evaluate(*folders, '--num-classes', 2)
    assert 'masks/a.png holds the labels [255], expected 0..2:' in message
    save(folders[0], {'a': [[0, 0, 0]]})
    message = evaluate(*folders, '--num-classes', 2)
    assert 'masks/a.png has 1x3 pixels' in message and 'truth/a.png 2x2' in message
    Image.new('RGB', (2, 2)).save(folders[0] / 'a.png')
    assert 'is a picture (RGB)' in evaluate(*folders, '--num-classes', 2)
