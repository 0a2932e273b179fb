"""Benchmarks of large pictures, on small ones."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import large_image, large_image_quality
from golden import ROOT


@pytest.mark.slow
def test_both_commands_are_measured(tmp_path, capsys):
    config = str(ROOT / 'configs/more/more_vit-t_shapes.py')
    options = [
        '--size',
        '60x80',
        '--max-pixels',
        '1200',
        '--json',
        str(tmp_path / 'a.json'),
    ]
    assert large_image.main([config, *options]) == 0
    found = json.loads((tmp_path / 'a.json').read_text())
    assert found.pop('size') == [60, 80]
    assert set(found) == {'infer', 'masks'}
    for figures in found.values():
        assert 0 < figures['user_seconds'] and 0 < figures['seconds']
        assert 100 < figures['largest_mb'] and 100 < figures['all_mb']
    assert 'user_seconds' in capsys.readouterr().out


def test_ways_to_the_full_size(tmp_path, capsys):
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (tmp_path / folder).mkdir(parents=True)
    truth = np.zeros((24, 32), np.uint8)
    truth[6:18, 8:24], truth[0, 0] = 3, 255
    image = np.where(truth[..., None] == 3, np.uint8(220), np.uint8(30)).repeat(3, 2)
    cv2.imwrite(str(tmp_path / 'JPEGImages/a.jpg'), image)
    Image.fromarray(truth).save(tmp_path / 'SegmentationClass/a.png')
    (tmp_path / 'ImageSets/Segmentation/val.txt').write_text('a\n')
    options = ['--enlarge', '4', '--share', '4', '--json', str(tmp_path / 'a.json')]
    assert large_image_quality.main([str(tmp_path), *options]) == 0
    found = json.loads((tmp_path / 'a.json').read_text())
    assert [*found] == ['unlimited', 'nearest', 'interpolated', 'guided', 'tiles']
    assert found['unlimited']['unlimited'] == 1
    assert all(0.5 < row['truth'] <= 1 and row['seconds'] > 0 for row in found.values())
    assert 'guided' in capsys.readouterr().out
