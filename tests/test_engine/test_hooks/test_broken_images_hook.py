"""Images that cannot be read, in the middle of a training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from bad_inputs import PIXELS, dataset, png, write
from mmseg_more.engine.hooks import BrokenImagesHook


@pytest.fixture
def data(tmp_path):
    """Ten images, of which two are broken after the data set is built."""
    init_default_scope('mmseg')
    for index in range(10):
        write(tmp_path / 'images' / f'{index}.png', png(PIXELS))

    def data(**options):
        built = dataset(tmp_path, **options)
        write(tmp_path / 'images' / '3.png', b'broken')
        write(tmp_path / 'images' / '7.png', b'')
        return built

    return data


def names(paths):
    return [path.rpartition('/')[2] for path in paths]


def warnings_at_the_end(dataset):
    warnings = []
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset),
        logger=SimpleNamespace(warning=warnings.append),
    )
    BrokenImagesHook().after_train(runner)
    return warnings


def test_broken_images_are_left_out_and_named_at_the_end(data):
    built = data(max_broken=0.2)
    seen = names(built[index]['data_samples'].img_path for index in range(10))
    assert seen[:3] == ['0.png', '1.png', '2.png'] and not {'3.png', '7.png'} & set(seen)
    assert names(built.broken_images()) == ['3.png', '7.png']
    # wrapped as by RepeatDataset
    (warning,) = warnings_at_the_end(SimpleNamespace(dataset=built))
    assert warning.startswith('2 images could not be read') and '7.png' in warning


def test_more_than_the_limit_end_the_training(data):
    built = data(max_broken=0.1)
    np.random.seed(0)  # the image that takes its place is drawn: not the other broken one
    built[3]
    with pytest.raises(ValueError, match=r'7.png \(0 bytes\).*2 are broken.*allows 1'):
        built[7]


def test_none_are_left_out_of_a_test(data):
    built = data(max_broken=1.0, test_mode=True, with_masks=False)
    with pytest.raises(ValueError, match='3.png .* does not decode'):
        built[3]


def test_nothing_is_said_where_nothing_is_broken(data):
    assert not warnings_at_the_end(data())


def test_max_broken_is_a_share(data):
    with pytest.raises(ValueError, match='`max_broken` is a share in'):
        data(max_broken=3)


@pytest.mark.slow
def test_workers_share_what_they_find(data):
    """Each worker meets one of the two: together they are beyond the limit."""
    loader = torch.utils.data.DataLoader(
        data(max_broken=0.2), num_workers=2, batch_size=None, sampler=[3, 7, 0, 1]
    )
    list(loader)
    assert names(loader.dataset.broken_images()) == ['3.png', '7.png']
    loader = torch.utils.data.DataLoader(
        data(max_broken=0.1), num_workers=2, batch_size=None, sampler=[3, 7, 0, 1, 3, 7]
    )
    with pytest.raises(ValueError, match='2 are broken'):
        list(loader)
