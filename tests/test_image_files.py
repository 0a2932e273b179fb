"""Images of every kind, read by one policy."""

import io
import struct

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmseg_more.image_files import (
    IMAGE_SUFFIXES,
    decode_image,
    find_images,
    opacity,
    orientation,
    stored_pixels,
    without_suffix,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GRAY = np.arange(600, dtype=np.uint16).reshape(20, 30)
PLAIN = {
    'JPEG': {},
    'PNG': {},
    'BMP': {},
    'PPM': {},
    'TIFF': {},
    'WEBP': dict(lossless=True),
    'GIF': {},
}


def encoded(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(turn):
    data = Image.Exif()
    data[0x0112] = turn
    return data


def stored(pixels, suffix='.png'):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', '1'])
@pytest.mark.parametrize('kind', PLAIN)
def test_plain_images_are_those_of_mmcv(kind, mode):
    if (kind, mode) in {('JPEG', 'P'), ('PPM', 'P'), ('WEBP', '1')}:
        pytest.skip('there is no such file')
    content = encoded(Image.fromarray(PIXELS).convert(mode), kind, **PLAIN[kind])
    expected = mmcv.imfrombytes(content)
    if expected is None:  # OpenCV 4.11 reads no GIF
        assert kind == 'GIF'
        expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(decode_image(content), expected)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_exif_is_followed(kind, turn):
    content = encoded(Image.fromarray(PIXELS), kind, exif=exif(turn), **PLAIN[kind])
    assert orientation(content) == turn
    image = decode_image(content)
    assert image.shape[:2] == ((30, 20) if turn > 4 else (20, 30))
    expected = mmcv.imfrombytes(content)
    if kind == 'WEBP':  # which OpenCV 4.11 does not turn
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        expected = np.asarray(upright.convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('kind', ['PNG', 'WEBP'])
def test_transparent_images_are_turned_as_pillow_turns_them(kind, turn):
    image = Image.fromarray(PIXELS)
    image.putalpha(Image.fromarray(np.full((20, 30), 255, np.uint8)))
    image.putpixel((0, 0), (1, 2, 3, 0))  # or the file has no alpha
    content = encoded(image, kind, exif=exif(turn), **PLAIN[kind])
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    expected = Image.new('RGBA', upright.size, 'white')
    expected.alpha_composite(upright)
    found = decode_image(content)[..., ::-1]
    np.testing.assert_array_equal(found, np.asarray(expected.convert('RGB')))


@pytest.mark.parametrize('bits', [9, 10, 12, 14, 16])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_the_highest_bits_that_are_used_count(bits, suffix):
    brightest = (1 << bits) - 1
    pixels = np.full((4, 5), brightest, np.uint16)
    pixels[0] = brightest // 2
    for content in (stored(pixels, suffix), stored(np.dstack([pixels] * 3), suffix)):
        image = decode_image(content)
        assert image.shape == (4, 5, 3) and image.dtype == np.uint8
        # 9 bits are those of 10
        expected = 255 if bits > 9 else 127
        assert image[1:].min() == image[1:].max() == expected
        assert image[0].max() == expected // 2


def test_dark_image_of_16_bits_with_8_bits_of_use():
    np.testing.assert_array_equal(
        decode_image(stored(GRAY[:8])), np.dstack([GRAY[:8].astype(np.uint8)] * 3)
    )


def test_floats_are_stretched():
    values = np.array([[-1, 0, 1], [3, np.nan, 3]], np.float32)
    image = decode_image(stored(values, '.tif'))
    assert image[..., 0].tolist() == [[0, 64, 128], [255, 64, 255]]
    flat = decode_image(stored(np.full((2, 2), 5, np.float32), '.tif'))
    assert not flat.any()


def test_what_is_hidden_under_transparency_is_white():
    image = Image.fromarray(PIXELS)
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:5], alpha[5:10] = 0, 51
    image.putalpha(Image.fromarray(alpha))
    found = decode_image(encoded(image))[..., ::-1]
    assert (found[:5] == 255).all()
    np.testing.assert_array_equal(found[10:], PIXELS[10:])
    # a fifth of the colour
    expected = np.round(PIXELS[5:10] * 0.2 + 255 * 0.8)
    np.testing.assert_array_equal(found[5:10], expected)


def test_transparency_of_16_bits():
    colors = np.full((3, 4, 4), 0xFFF, np.uint16)
    colors[..., 3] = 0xFFFF
    colors[0, :, 3] = 0
    colors[0, :, :3] = 0
    assert (decode_image(stored(colors)) == 255).all()


def four_bands(color, dtype, extra, big=False):
    """A TIFF of four bands that says what the fourth is."""
    pixels = np.full((4, 5, 4), color, np.uint8).astype(dtype)
    pixels *= np.iinfo(dtype).max // 255
    head, offset = (16, 8) if big else (8, 4)
    data = pixels.tobytes()
    at = head + len(data)  # of what does not fit into an entry: the bits
    bits = struct.pack('<4H', *[8 * pixels.itemsize] * 4)
    tags = {256: 5, 257: 4, 258: None, 259: 1, 262: 2, 273: head, 277: 4, 278: 4}
    tags |= {279: len(data), 284: 1, 338: extra}
    count, link = ('Q', 'Q') if big else ('H', 'I')
    entries = b''
    for tag, value in tags.items():
        if value is not None:
            field = struct.pack('<HH', value, 0)
        else:
            field = bits if big else struct.pack('<I', at)
        entries += struct.pack(f'<HH{link}', tag, 3, 4 if value is None else 1)
        entries += field.ljust(offset, b'\0')
    start = struct.pack('<2sHHHQ', b'II', 43, 8, 0, at + 8)
    if not big:
        start = struct.pack('<2sHI', b'II', 42, at + 8)
    end = struct.pack(f'<{link}', 0)
    return start + data + bits + struct.pack(f'<{count}', len(tags)) + entries + end


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize(
    'extra, color',
    [(1, (100, 50, 25, 128)), (2, (200, 100, 50, 128))],
    ids=['multiplied', 'as it is'],
)
def test_half_transparent_tiff_is_that_of_png(extra, color, dtype, big):
    png = decode_image(encoded(Image.new('RGBA', (5, 4), (200, 100, 50, 128))))
    found = decode_image(four_bands(color, dtype, extra, big))
    np.testing.assert_allclose(found.astype(int), png, atol=1)
    too_bright = decode_image(four_bands((255, 255, 255, 128), dtype, extra, big))
    assert (too_bright == 255).all()


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_fourth_band_that_is_no_opacity(dtype):
    content = four_bands((200, 100, 50, 20), dtype, 0)
    assert decode_image(content)[0, 0].tolist() == [50, 100, 200]
    assert opacity(stored_pixels(content), content) is None


def test_first_picture_of_an_animation():
    frames = [Image.new('RGB', (30, 20), color) for color in ('red', 'blue')]
    for kind in ('GIF', 'WEBP', 'TIFF', 'PNG'):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        blue, _, red = decode_image(content)[0, 0].tolist()
        assert red > 200 > 50 > blue, kind


@pytest.mark.parametrize('transparent', [False, True])
def test_a_gif_that_opencv_does_not_read(monkeypatch, transparent):
    picture = Image.fromarray(PIXELS).quantize(16)
    options = dict(transparency=int(picture.getpixel((3, 4)))) if transparent else {}
    content = encoded(picture, 'GIF', **options)
    image = Image.open(io.BytesIO(content)).convert('RGBA')
    expected = Image.new('RGBA', image.size, 'white')
    expected.alpha_composite(image)
    for _ in ('as it is installed', 'as version 4.11'):
        found = decode_image(content)[..., ::-1]
        np.testing.assert_array_equal(found, np.asarray(expected.convert('RGB')))
        monkeypatch.setattr(cv2, 'imdecode', lambda *args: None)
    assert decode_image(content[:50]) is None and decode_image(encoded(image)) is None


@pytest.mark.parametrize('content', [b'', b'text', encoded(Image.fromarray(PIXELS))[:60]])
def test_what_is_no_image(content):
    assert decode_image(content) is None
    assert orientation(content) == 1


def test_folders_are_looked_through(tmp_path):
    for name in ('b.JPG', 'a.png', 'sub/deep/c.tiff', 'sub/x.heic', 'notes.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ('.hidden/d.png', '.e.png', 'out/pred/a.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'sub' / 'loop').symlink_to(tmp_path)
    found = find_images(str(tmp_path), [str(tmp_path / 'out')])
    assert found.images == ['a.png', 'b.JPG', 'sub/deep/c.tiff']
    assert found.left_out == ['notes.txt', 'sub/x.heic']
    assert 'out/pred/a.png' in find_images(str(tmp_path)).images


def test_suffixes():
    assert {without_suffix(f'x.y{suffix}') for suffix in IMAGE_SUFFIXES} == {'x.y'}
    assert without_suffix('x.JPG') == 'x' and without_suffix('v1.2') == 'v1.2'
