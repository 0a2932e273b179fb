"""Files of vectors that stand for classes."""

import numpy as np
import pytest

from mmseg_more.text_vectors import (
    TextVectors,
    name_differences,
    read_text_vectors,
    write_text_vectors,
)


@pytest.fixture
def vectors():
    return TextVectors(
        np.array(['cat', 'großer Hund']),
        np.arange(6, dtype='float32').reshape(2, 3),
        np.array(['sky']),
        np.ones((1, 3), 'float32'),
    )


def test_round_trip(vectors, tmp_path):
    write_text_vectors(tmp_path / 'text.npz', vectors)
    found = read_text_vectors(tmp_path / 'text.npz')
    for ours, theirs in zip(vectors, found):
        assert np.array_equal(ours, theirs)


def test_without_background(vectors, tmp_path):
    plain = vectors._replace(
        background=np.array([], dtype=str), background_vectors=np.zeros((0, 3), 'float32')
    )
    write_text_vectors(tmp_path / 'text.npz', plain)
    assert read_text_vectors(tmp_path / 'text.npz').background_vectors.shape == (0, 3)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(classes=np.array(['cat'])),
            r'do not fit each other: classes \(1,\), vectors',
        ),
        (dict(background_vectors=np.ones((1, 4), 'float32')), 'do not fit each other'),
        (dict(background=np.array([], dtype=str)), 'do not fit each other'),
        (dict(vectors=np.full((2, 3), np.nan, 'float32')), 'not numbers'),
        # names as objects would have to be unpickled
        (
            dict(classes=np.array(['cat', 'dog'], dtype=object)),
            'is no file of text vectors',
        ),
    ],
)
def test_wrong_arrays(vectors, tmp_path, change, message):
    write_text_vectors(tmp_path / 'text.npz', vectors._replace(**change))
    with pytest.raises(ValueError, match=message):
        read_text_vectors(tmp_path / 'text.npz')


def test_wrong_files(tmp_path):
    file = tmp_path / 'text.npz'
    with pytest.raises(FileNotFoundError, match='text.npz does not exist'):
        read_text_vectors(file)
    for content in (b'', b'PK\3\4 no archive', b'vectors'):
        file.write_bytes(content)
        with pytest.raises(ValueError, match='text.npz is no file of text vectors'):
            read_text_vectors(file)
    np.save(tmp_path / 'text.npy', np.zeros((2, 3)))
    with pytest.raises(ValueError, match='text.npy is no file .* it holds one array'):
        read_text_vectors(tmp_path / 'text.npy')
    np.savez(file, classes=np.array(['cat']))
    with pytest.raises(ValueError, match='vectors'):
        read_text_vectors(file)


@pytest.mark.parametrize(
    'names, difference',
    [
        (('cat', 'dog'), ''),
        (('dog', 'cat'), 'they are in another order: dog, cat'),
        (('cat', 'cow'), 'the file alone has cow; the data set alone has dog'),
        (('cat',), 'the data set alone has dog'),
    ],
)
def test_differences(names, difference):
    assert name_differences(names, ('cat', 'dog')) == difference
