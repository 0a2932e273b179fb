"""Files are whole or not there."""

import errno
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from mmseg_more.files import json_bytes, palette_png, write_bytes, write_folder


def test_writes_and_replaces(tmp_path):
    path = tmp_path / 'new' / 'file.bin'
    for content in (b'first', b'second'):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ['file.bin']
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    'name',
    ['图' * 83 + 'ab.png', 'a' * 242 + '.png', 'ä.png'],
    ids=['255 bytes', '246 bytes', 'short'],
)
def test_a_name_as_long_as_a_name_can_be(tmp_path, monkeypatch, name):
    """The file has room for its name; while it is written it goes by the end of that."""
    unfinished = []

    def replace(source, target, whole=os.replace):
        unfinished.append(os.path.basename(source))
        whole(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    write_bytes(tmp_path / name, b'content')
    assert (tmp_path / name).read_bytes() == b'content' and os.listdir(tmp_path) == [name]
    (hidden,) = unfinished
    assert re.fullmatch(r'\.(.+)\.png\.\w{8}', hidden)
    assert name.endswith(hidden[1:-9]) and len(os.fsencode(hidden)) <= 255
    write_folder(tmp_path / name[:-4], [(name, b'content')])
    assert os.listdir(tmp_path / name[:-4]) == [name]


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / 'file.bin'
    write_bytes(path, b'first')

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space left on device.*file.bin') as error:
        write_bytes(path, b'second')
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b'first'
    assert os.listdir(tmp_path) == ['file.bin']


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file/below/a.bin'):
        write_bytes(tmp_path / 'file' / 'below' / 'a.bin', b'')


def test_json_holds_names_that_are_not_utf_8():
    value = {'größe': 1, os.fsdecode(b'caf\xe9.png'): '图'}
    content = json_bytes(value)
    assert content.decode() == '{"größe": 1, "caf\\udce9.png": "图"}'
    assert json.loads(content) == value and json.loads(json_bytes(value, 1)) == value


def test_palette_png_keeps_labels_and_colours():
    mask = np.array([[0, 1, 2], [2, 2, 255]], np.uint8)
    palette = [(0, 0, 0), (10, 20, 30), (200, 100, 0)]
    image = Image.open(io.BytesIO(palette_png(mask, palette)))
    assert image.mode == 'P'
    assert np.array_equal(np.asarray(image), mask)
    assert np.asarray(image.convert('RGB'))[1, 1].tolist() == [200, 100, 0]


def test_palette_png_of_a_row_that_is_not_contiguous():
    mask = np.arange(12, dtype=np.uint8).reshape(4, 3).T[:1]
    image = Image.open(io.BytesIO(palette_png(mask, [(i, i, i) for i in range(12)])))
    assert np.array_equal(np.asarray(image), mask)
