import os
import pickle
import subprocess

import numpy as np
import pytest

from mmseg_more.datasets.preparation.pickled_labels import read_pickled_labels

CLASSES = ('cat', 'dog', 'bird')
VECTORS = {'2007_000032': [1, 0, 1], '2007_000039': [0, 0, 0]}
NAMES = {'2007_000032': ['cat', 'bird'], '2007_000039': []}


def vectors(dtype=np.float32, keys=str):
    return {keys(key): np.array(value, dtype) for key, value in VECTORS.items()}


def save_npy(path, content, protocol=3):
    """As numpy.save does, with any protocol and any object in place of the array."""
    with open(path, 'wb') as file:
        header = dict(descr='|O', fortran_order=False, shape=())
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(content, file, protocol=protocol)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'cls_labels.npy'


@pytest.mark.parametrize('dtype', ['float32', '>f8', 'int64', 'uint8', 'bool'])
def test_label_file_of_the_field(path, dtype):
    np.save(path, vectors(dtype))
    assert read_pickled_labels(path, CLASSES) == NAMES


@pytest.mark.parametrize('keys', [lambda key: int(key.replace('_', '')), np.str_])
def test_keys_of_other_label_files(path, keys):
    np.save(path, vectors(keys=keys))
    assert read_pickled_labels(path, CLASSES) == NAMES


@pytest.mark.parametrize('protocol', [2, 3, 4])
@pytest.mark.parametrize('core', [b'numpy.core.', b'numpy._core.'])
def test_protocols_and_versions_of_numpy(path, protocol, core):
    content = np.empty((), object)
    content[()] = vectors()
    save_npy(path, content, protocol)
    written = path.read_bytes()
    ours = next(name for name in (b'numpy._core.', b'numpy.core.') if name in written)
    if len(ours) == len(core) or protocol < 4:  # protocol 4 counts the letters
        path.write_bytes(written.replace(ours, core))
    assert read_pickled_labels(path, CLASSES) == NAMES


def test_written_by_python_2(path):
    """Its pickles tell text from bytes in nothing."""
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR'
        b'(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R'
        b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
        b'\x89U\x0c' + np.array([1, 0, 1], '<f4').tobytes() + b'tb'
    )
    save_npy(path, None)
    header = path.read_bytes()[: -len(pickle.dumps(None, 3))]
    path.write_bytes(header + b'\x80\x02}U\x0b2007_000032' + array + b's.')
    assert read_pickled_labels(path, CLASSES) == {'2007_000032': ['cat', 'bird']}


class RunsOnUnpickling:
    """What a hostile file holds."""

    def __init__(self, function, arguments, *state):
        self.reduced = (function, arguments, *state)

    def __reduce__(self):
        return self.reduced


def object_array(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def wrappers(hostile):
    """The hostile object wherever one may stand."""
    zero = np.empty((), object)
    zero[()] = {'a': hostile}
    return dict(
        alone=hostile,
        in_dict={'a': hostile},
        as_key_part={('a', hostile): 1},
        in_array_without_dimensions=zero,
        in_object_array={'a': object_array(1, hostile)},
        in_array_of_arrays={'a': object_array(object_array(hostile), 2)},
    )


@pytest.mark.parametrize('place', wrappers(None))
def test_code_is_refused_and_not_run(path, tmp_path, place):
    mark = tmp_path / 'it-ran'
    hostile = RunsOnUnpickling(os.system, (f'touch {mark}',))
    save_npy(path, wrappers(hostile)[place])
    with pytest.raises(
        ValueError, match=r'cls_labels.npy is refused: .* asks for \w+.system'
    ):
        read_pickled_labels(path, CLASSES)
    assert not mark.exists()
    np.load(path, allow_pickle=True)  # the file is as hostile as it is meant to be
    assert mark.exists()


@pytest.mark.parametrize(
    'function, arguments, name',
    [
        (eval, ('1',), 'builtins.eval'),
        (getattr, ('a', 'b'), 'builtins.getattr'),
        (subprocess.Popen, (['true'],), 'subprocess.Popen'),
        (np.load, ('x',), 'numpy.load'),
        (np.dtype, ({'names': ['a'], 'formats': ['O']},), 'numpy.dtype'),
        (np.dtype, ('V8',), 'numpy.dtype'),
    ],
)
def test_only_arrays_and_dicts(path, function, arguments, name):
    save_npy(path, {'a': RunsOnUnpickling(function, arguments)}, protocol=4)
    with pytest.raises(ValueError, match=f'is refused: its pickle asks for {name}'):
        read_pickled_labels(path, CLASSES)


def test_no_type_that_was_forged(path):
    """A type that hides its objects: NumPy would take numbers for their addresses."""
    fields = {'a': (np.dtype(object), 0)}
    no_flags = 0
    state = (3, '|', None, ('a',), fields, 8, 1, no_flags)
    save_npy(path, {'a': RunsOnUnpickling(np.dtype, ('V8', False, True), state)})
    with pytest.raises(ValueError, match='is refused: its pickle asks for numpy.dtype'):
        read_pickled_labels(path, CLASSES)


@pytest.mark.parametrize(
    'content, message',
    [
        ({'a': np.zeros(4)}, r"vectors of 3 numbers, got 'a' with \(4,\)"),
        ({'a': [0, 1, 0]}, "got 'a' with list"),
        ({3.5: np.zeros(3)}, 'expected image IDs'),
        ({'a': np.array([0, 1, 2])}, "image 'a': expected 0 and 1 alone"),
        ({'a': np.array([0, np.nan, 1])}, "image 'a': expected 0 and 1 alone"),
        ({'a': object_array(0, 1, 'x')}, "image 'a': expected 0 and 1 alone"),
        ([1, 2], 'holds a list, expected a dict'),
        (np.array([{}, {}]), 'holds a ndarray, expected a dict'),
        (
            {'2007_000032': np.zeros(3), 2007000032: np.zeros(3)},
            'an image twice, by its name and by its number',
        ),
    ],
)
def test_other_content(path, content, message):
    save_npy(path, content)
    with pytest.raises(ValueError, match=message):
        read_pickled_labels(path, CLASSES)


def test_other_files(path):
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match='holds an array of float64'):
        read_pickled_labels(path, CLASSES)
    path.write_bytes(b'no array')
    with pytest.raises(ValueError, match='is no .npy file'):
        read_pickled_labels(path, CLASSES)


@pytest.mark.parametrize('damage', [(b"'descr'", b"xdescr'"), (b'{', b'(')])
def test_a_damaged_header(path, damage):
    """Each Python has its own error for what does not come to an end."""
    np.save(path, vectors())
    path.write_bytes(path.read_bytes().replace(*damage, 1))
    with pytest.raises(ValueError, match='is no .npy file'):
        read_pickled_labels(path, CLASSES)


def test_any_damage_is_one_error(path):
    np.save(path, vectors())
    content = path.read_bytes()
    for cut in range(0, len(content) - 1, 7):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match='cls_labels.npy'):
            read_pickled_labels(path, CLASSES)
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[generator.integers(10, len(content))] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_pickled_labels(path, CLASSES)
        except ValueError as error:
            assert 'cls_labels.npy' in str(error)
