import pytest
from torch.utils.data import DataLoader, Dataset

from mmseg_more.masks.images import list_images
from mmseg_more.masks.loop import MaskLoader


class Images(Dataset):
    """A data set as MMSegmentation's; images below ``/data/images``."""

    metainfo = dict(classes=('background', 'a'))

    def __init__(self, infos, folder='/data/images'):
        self.infos = infos
        self.data_prefix = dict(img_path=folder)

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]

    def __getitem__(self, index):
        if 'error' in self.infos[index]:
            raise self.infos[index]['error']
        return index


def names(*infos, **kwargs):
    return [image.name for image in list_images(Images(infos, **kwargs))]


def test_names():
    assert names(
        dict(img_path='/data/images/a.jpg', img_id='000'),
        dict(img_path='/data/images/below/a.b.jpg'),
    ) == ['a', 'below/a.b']
    # images of another place
    assert names(
        dict(img_path='/other/a.jpg', img_id='x/a'),
        dict(img_path='/other/b.jpg'),
        dict(img_path='/other/c.jpg', img_id=17),
    ) == ['x/a', 'b', '17']
    # an ID of a split file, by which the mask would lie outside of its folder
    assert names(
        dict(img_path='/data/images/../b.jpg', img_id='../b'),
        dict(img_path='/other/c.jpg', img_id='/other/c'),
    ) == ['b', 'c']
    assert names(dict(img_path='rel/a.jpg'), folder='rel/') == ['a']
    assert names(dict(img_path='/other/b.jpg'), folder=None) == ['b']


def test_labels():
    images = list_images(
        Images(
            [
                dict(img_path='/data/images/a.jpg', gt_label=[0, 3]),
                dict(img_path='/data/images/b.jpg', gt_label=[]),
                dict(img_path='/data/images/c.jpg'),
            ]
        )
    )
    assert [image.labels for image in images] == [(0, 3), (), None]
    assert [image.position for image in images] == [0, 1, 2]


def test_two_images_of_one_name():
    with pytest.raises(
        ValueError, match='a.jpg and /data/images/a.png would share the mask a.png: rename'
    ):
        names(dict(img_path='/data/images/a.jpg'), dict(img_path='/data/images/a.png'))
    with pytest.raises(ValueError, match='would share the mask a.png'):
        names(dict(img_path='/one/a.jpg'), dict(img_path='/two/a.jpg'))


def test_data_set_of_another_kind():
    with pytest.raises(ValueError, match='list has no `get_data_info`'):
        list_images([1, 2])


@pytest.mark.parametrize('workers', [0, 2])
def test_one_image_at_a_time(workers):
    dataset = Images([dict(img_path=f'/data/images/{i}.jpg') for i in range(5)])
    dataset.infos[2]['error'] = OSError('no such file')
    images = list_images(dataset)
    failed, seen = [], []
    loader = MaskLoader(
        DataLoader(
            dataset,
            batch_size=3,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=list,
        ),
        images[1:],
        lambda image, message: failed.append((image.name, message)),
    )
    assert len(loader) == len(loader.dataset) == 4
    assert loader.dataset.metainfo == dataset.metainfo
    for image, batch in loader:
        seen.append((image.name, batch))
    assert seen == [('1', [1]), ('3', [3]), ('4', [4])]
    assert failed == [('2', 'OSError: no such file')]


@pytest.mark.parametrize('workers', [0, 2])
def test_a_share_of_nothing(workers):
    dataset = Images([dict(img_path='/data/images/a.jpg')])
    loader = MaskLoader(DataLoader(dataset, num_workers=workers), [], None)
    assert list(loader) == [] and len(loader) == 0
