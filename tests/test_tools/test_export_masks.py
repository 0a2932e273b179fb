import json

import numpy as np
import pytest

from mmseg_more.files import palette_png
from scripts import load_script


@pytest.fixture
def main(repo_root):
    return load_script(repo_root / 'tools/export_masks.py').main


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / 'masks'
    folder.mkdir()
    labels = np.array([[0, 1, 255]], np.uint8)
    (folder / 'a.png').write_bytes(palette_png(labels, [[0, 0, 0]]))
    manifest = dict(
        settings={},
        checkpoint={},
        failed={},
        classes=['background', 'cat'],
        images={'a': dict(size=[1, 3], classes=['cat'])},
    )
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ('tool', 'out', 'said'),
    [
        ('coco', 'a.json', 'the class "ignored"'),
        ('cvat', 'a.zip', 'the class "ignored"'),
        ('yolo', 'a', 'left out, which YOLO takes for background'),
    ],
)
def test_what_is_said(main, masks, tmp_path, capsys, tool, out, said):
    assert main([str(masks), '--to', tool, '--out', str(tmp_path / out)]) == 0
    printed = capsys.readouterr().out
    assert '1 masks for' in printed and said in printed
    assert (tmp_path / out).exists()


def test_mistakes_are_one_line(main, masks, tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path), '--to', 'coco', '--out', 'a.json'], 'holds no manifest.json'),
        ([str(masks), '--to', 'labelme', '--out', str(masks)], 'exists, maybe with'),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count('\n') == 1
