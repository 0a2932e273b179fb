"""What is seen before the first iteration."""

import errno
import json
import random
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

import iteration_run
from mmseg_more.engine import training_checks
from mmseg_more.engine.training_checks import (
    check_classes,
    check_images,
    check_text_classes,
    check_writable,
    checkpoint_sizes,
)
from mmseg_more.text_vectors import TextVectors, write_text_vectors

from mmseg.registry import DATASETS

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def dataset(tmp_path):
    """Four images, of the classes cat, dog and none."""

    def build(labels, **options):
        (tmp_path / 'images').mkdir(exist_ok=True)
        for name in labels:
            path = tmp_path / 'images' / f'{name}.png'
            cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
        (tmp_path / 'labels.json').write_text(json.dumps(labels))
        classes = ('background', 'cat', 'dog', 'cow')
        return DATASETS.build(
            dict(
                type='ImageLevelDataset',
                data_root=str(tmp_path),
                data_prefix=dict(img_path='images'),
                label_file='labels.json',
                metainfo=dict(classes=classes),
                pipeline=[],
                **options,
            )
        )

    return build


def test_classes_without_an_image(dataset):
    check_classes(dataset(dict(a=['cat', 'dog'], b=['cow'], c=[])))
    with pytest.raises(ValueError, match='no training image shows .*dog.*') as error:
        check_classes(dataset(dict(a=['cat'], b=['cow'], c=[])))
    assert 'classes_without_images=True' in str(error.value)
    assert 'cow' not in str(error.value)


class MasksAlone:
    metainfo = dict(classes=('background', 'cat'))

    def __len__(self):
        return 1

    def get_data_info(self, index):
        return {}


def test_data_without_image_labels_are_passed_over(dataset):
    check_classes(iteration_run.Images())
    check_images(iteration_run.Images(), 10)
    check_classes(MasksAlone())
    check_images(MasksAlone(), 10)


@pytest.mark.parametrize(
    'content, reason',
    [(b'', 'it is empty'), (b'no image', 'do not decode'), (None, 'FileNotFoundError')],
)
def test_images_that_cannot_be_read(dataset, tmp_path, content, reason):
    data = dataset(dict(a=[], b=[], c=['cat'], d=[]))
    check_images(data, 100)
    broken = tmp_path / 'images' / 'c.png'
    broken.unlink()
    if content is not None:
        broken.write_bytes(content)
    with pytest.raises(ValueError, match=f'1 of 4 .*c.png.*{reason}'):
        check_images(data, 100)
    check_images(data, 0)


def test_a_sample_leaves_random_states_alone(dataset):
    data = dataset({str(number): [] for number in range(9)})
    read = []
    get_data_info = data.get_data_info
    data.get_data_info = lambda index: read.append(index) or get_data_info(index)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    for seed in (0, 0, 1):
        check_images(data, 3, seed)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert len(set(read[:3])) == 3 and read[:3] == read[3:6] != read[6:]


@pytest.mark.parametrize(
    'names, message',
    [
        (['cat', 'dog', 'cow'], None),
        (['dog', 'cat', 'cow'], 'they are in another order: dog, cat, cow; make it with'),
        (['cat', 'dog', 'horse'], 'the file alone has horse; the data set alone has cow'),
    ],
    ids=str,
)
def test_text_vectors_of_other_classes(dataset, tmp_path, names, message):
    file = str(tmp_path / 'text.npz')
    channels = np.ones((3, 4), 'float32')
    vectors = TextVectors(np.array(names), channels, np.array(['sky']), channels[:1])
    write_text_vectors(file, vectors)
    images = dataset(dict(a=['cat']))
    check_text_classes(file, torch.utils.data.TensorDataset())  # says no classes
    if message is None:
        check_text_classes(file, images)
        return
    with pytest.raises(ValueError, match=message) as error:
        check_text_classes(file, images)
    assert f'model.text_classifier.file={file} are not those' in str(error.value)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    check_writable(tmp_path / 'new' / 'folder')
    assert not list((tmp_path / 'new' / 'folder').iterdir())
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='choose another one by --work-dir') as error:
        check_writable(tmp_path / 'file' / 'run')
    assert error.value.filename == str(tmp_path / 'file' / 'run')

    def refuse(**options):
        raise PermissionError(errno.EACCES, 'Permission denied', str(options['dir']))

    monkeypatch.setattr(training_checks.tempfile, 'TemporaryFile', refuse)
    with pytest.raises(PermissionError, match='Permission denied: nothing can be written'):
        check_writable(tmp_path)


@pytest.mark.parametrize(
    'optimizer, options',
    [('AdamW', {}), ('Adam', dict(amsgrad=True)), ('SGD', dict(momentum=0.9)), ('SGD', {})],
)
def test_the_estimate_is_the_size_of_a_checkpoint(tmp_path, optimizer, options):
    model = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200))
    model[1].requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapper = OptimWrapper(getattr(torch.optim, optimizer)(trained, lr=0.1, **options))
    estimate = checkpoint_sizes(model, wrapper, 0, True)
    wrapper.update_params(model(torch.ones(1, 200)).sum())
    files = dict(
        full=dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict()),
        best=dict(state_dict=model.state_dict()),
    )
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        # names and sizes of the tensors are some kB
        size = (tmp_path / name).stat().st_size
        assert 0 <= size - getattr(estimate, name) < 5000
    assert checkpoint_sizes(model, wrapper, 1, False).full == 2 * estimate.best


def needed(tmp_path, monkeypatch, **saving):
    """Bytes that the hook asks for, in multiples of the weights of the model."""
    asked = []

    def usage(path):
        asked.append(path)
        return SimpleNamespace(free=0)

    monkeypatch.setattr(shutil, 'disk_usage', usage)
    net, seen = iteration_run.model()
    weights = sum(value.nbytes for value in net.state_dict().values())
    hooks = dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=False, **saving),
        sanity_check=dict(type='SanityCheckHook', from_scratch=True),
    )
    counted = []
    bytes_to_come = training_checks._bytes_to_come
    monkeypatch.setattr(
        training_checks,
        '_bytes_to_come',
        lambda *args: counted.append(bytes_to_come(*args)) or counted[-1],
    )
    with pytest.raises(OSError, match='the checkpoints of this training need') as error:
        iteration_run.train(net, tmp_path, default_hooks=hooks)
    assert 'sanity_check.disk_space=False' in str(error.value) and seen == []
    assert error.value.errno == errno.ENOSPC and asked
    return counted[0] / weights


@pytest.mark.parametrize(
    'saving, count',
    [  # of SGD without momentum: all are as large as the weights; 6 iterations
        (dict(interval=1), 6),
        (dict(interval=4), 2),  # the last one too
        (dict(interval=4, save_last=False), 1),
        (dict(interval=-1), 1),
        (dict(interval=1, max_keep_ckpts=2), 3),  # one more while it is written
        (dict(interval=1, max_keep_ckpts=2, save_best='mIoU', rule='greater'), 5),
    ],
)
def test_disk_space_of_the_checkpoints_to_come(tmp_path, monkeypatch, saving, count):
    assert needed(tmp_path, monkeypatch, **saving) == count


def test_a_resumed_training_needs_less(tmp_path, monkeypatch):
    saving = dict(type='CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=2)
    net, _ = iteration_run.model()
    cfg = dict(by_epoch=False, max_iters=3)
    iteration_run.train(net, tmp_path, cfg, default_hooks=dict(checkpoint=saving))
    size = (tmp_path / 'iter_3.pth').stat().st_size
    free = SimpleNamespace(free=2 * size)  # of three, two are there
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: free)
    net, seen = iteration_run.model()
    hooks = dict(
        checkpoint=saving, sanity_check=dict(type='SanityCheckHook', from_scratch=True)
    )
    iteration_run.train(net, tmp_path, resume=True, default_hooks=hooks)
    assert seen == [3, 4, 5]
