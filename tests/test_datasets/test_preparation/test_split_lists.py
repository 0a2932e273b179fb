import pytest

from mmseg_more.datasets.preparation.split_lists import read_split, write_split


def test_written_once_and_kept(tmp_path):
    path = tmp_path / 'lists' / 'train_aug.txt'
    assert write_split(path, ['b', 'a']) == f'{path}: written, 2 images'
    assert path.read_text() == 'b\na\n' and read_split(path) == ['b', 'a']
    assert write_split(path, ['a', 'b']) == f'{path}: already there, 2 images'
    said = write_split(path, ['a', 'c', 'd', 'e', 'f'])
    assert 'kept as it is, with 2 images where 5 were expected' in said
    assert "1 only there ('b')" in said
    assert "4 missing there ('c', 'd', 'e' and 1 more)" in said
    assert path.read_text() == 'b\na\n'


def test_lists_of_other_systems(tmp_path):
    (tmp_path / 'a.txt').write_bytes('\ufeffone\r\n\r\ntwo words \r\n'.encode())
    assert read_split(tmp_path / 'a.txt') == ['one', 'two words']
    (tmp_path / 'a.txt').write_bytes(b'\xff\xfe1')
    with pytest.raises(ValueError, match='a.txt is not text in UTF-8'):
        read_split(tmp_path / 'a.txt')
