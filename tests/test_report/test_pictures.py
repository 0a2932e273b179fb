import base64
import io

import numpy as np
import torch
from PIL import Image

from mmseg_more.report.pictures import draw_pictures
from report_samples import PALETTE, make_seen


def decode(uri):
    kind, content = uri.split(',')
    assert kind == 'data:image/webp;base64'
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert('RGB'))


def test_small_images_keep_their_size_and_labels_their_colours():
    seen = make_seen('a')
    pictures = draw_pictures(seen, PALETTE, 64**2)
    for picture in pictures.values():
        assert decode(picture).shape == (12, 16, 3)
    assert (decode(pictures['truth']) == np.array(PALETTE)[seen.truth]).all()
    assert np.abs(decode(pictures['image']).astype(int) - 90).max() < 8


def test_large_images_are_reduced():
    size = (600, 400)
    truth = torch.zeros(size, dtype=torch.long)
    truth[:300] = 2
    seen = make_seen(
        'a',
        image=np.zeros((*size, 3), np.uint8),
        truth=truth,
        labels={'prediction': torch.full(size, 255)},
        maps={'cam': torch.ones(1, *size)},
    )
    pictures = draw_pictures(seen, PALETTE, 100**2)
    small = decode(pictures['truth'])
    assert small.shape == (122, 81, 3)  # 9882 pixels, of the same aspect
    assert (small[:61] == PALETTE[2]).all() and (small[61:] == PALETTE[0]).all()
    assert (decode(pictures['prediction']) == 224).all()  # ignored
    assert decode(pictures['CAM']).shape == small.shape


def test_longer_images_than_a_webp_can_be():
    for size, reduced in (((20000, 2), (16383, 1)), ((1, 16384), (1, 16383))):
        seen = make_seen(
            'a',
            image=np.zeros((*size, 3), np.uint8),
            truth=torch.full(size, 2),
            labels={'prediction': torch.zeros(size, dtype=torch.long)},
            maps={'cam': torch.ones(1, *size)},
        )
        pictures = draw_pictures(seen, PALETTE, 224**2)
        for picture in pictures.values():
            assert decode(picture).shape == (*reduced, 3)
        assert (decode(pictures['truth']) == PALETTE[2]).all()


def test_an_image_of_no_class_has_cold_maps():
    seen = make_seen('a', maps={'lam': torch.zeros(0, 12, 16)})
    picture = decode(draw_pictures(seen, PALETTE, 64**2)['LAM']).astype(int)
    assert (picture[..., 2] > picture[..., 0]).all()
