"""What users give to the tools by mistake, and what is to happen: cases and their table.

python tests/bad_inputs.py > docs/inputs.md
"""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from PIL import Image

from mmseg_more.apis.inference_inputs import list_inputs
from mmseg_more.datasets import ImageLevelDataset
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import mistake
from mmseg_more.engine.hooks.sanity_check_hook import weights_of
from mmseg_more.files import write_bytes

CONFIG = Path(__file__).resolve().parent.parent / 'configs/more/more_vit-b_voc.py'
CLASSES = ('background', 'cat', 'dog')
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)

INTRODUCTION = """# Inputs that are not as expected

What a mistake in the data, a config or a place to write to leads to. **A mistake is one
line**, `error: ...`, and exit status 2, of every command line under `tools/`; nothing
half-written is left behind. With `MMSEG_MORE_TRACEBACK=1` in the environment the
traceback is printed as well; that of a training or test is always in its log file. An
exception that shows a traceback without being asked is a fault of the program.
(`tools/infer.py` ends with 1 if it could not read some of the images, and names them.)

**Images** are .jpg, .jpeg, .png, .bmp, .gif, .pgm, .ppm, .tif, .tiff and .webp, for data
sets and inference alike; other files of a folder are counted and named in a warning.
Training with `LoadAnyImage` (as in the configs of `make_config`) and inference read them by
one policy: upright as EXIF says, and so are masks; of more than 8 bits the 8 highest that
the image uses, out of 8, 10, 12, 14 or 16; transparency on white; of several pictures the
first. MMSegmentation's `LoadImageFromFile` takes the highest 8 of 16 bits, and what is
hidden under transparency.

A **broken image in a training** is left out, with a warning, and another takes its place,
up to a share of `max_broken=0.01` of the data set's images (an argument of
`ImageLevelDataset` and those built on it; 0 makes the first one an error). All are named
again at the end of the training. `HealthHook` leaves them out as well. In a test and in
validation every broken image is an error.

This page is made by `python tests/bad_inputs.py > docs/inputs.md` from the cases that the
tests run.
"""


class Case(NamedTuple):
    """A bad input."""

    topic: str
    """Section of the table."""
    name: str
    """What is given."""
    expected: str
    """What comes of it: ``error: `` and a part of the message, or the result."""
    run: Callable[[Path], Any]
    """Gives it to the program, in an empty folder; returns the result, or raises."""


def outcome(case: Case, folder: Path) -> str:
    """What comes of a case: ``error: MESSAGE``, or the result as text."""
    init_default_scope('mmseg')
    try:
        return str(case.run(folder))
    except Exception as error:
        message = mistake(error)
        if message is None:
            raise
        return f'error: {message}'


# ------------------------------------------------------------------------------- images
def encoded(image: Image.Image, kind: str = 'PNG', **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode('.png', pixels)[1].tobytes()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter of a turn
    return encoded(Image.fromarray(PIXELS), 'JPEG', exif=exif)


def animated() -> bytes:
    frames = [Image.new('RGB', (30, 20), color) for color in ('red', 'blue')]
    return encoded(frames[0], save_all=True, append_images=frames[1:])


def dataset(folder: Path, **options: Any) -> ImageLevelDataset:
    (folder / 'images').mkdir(exist_ok=True)
    if not (folder / 'labels.json').exists() and 'label_file' not in options:
        names = [path.stem for path in (folder / 'images').iterdir()]
        (folder / 'labels.json').write_text(json.dumps({name: ['cat'] for name in names}))
    settings = dict(
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        label_file='labels.json',
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type='LoadAnyImage'), dict(type='PackImageLevelInputs')],
    )
    return ImageLevelDataset(**{**settings, **options})


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def image_case(name: str, content: bytes, expected: str, file: str = 'x.png') -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / file, content)
        height, width = dataset(folder)[0]['inputs'].shape[1:]
        return f'an image of {height} x {width}'

    return Case('Images', name, expected, run)


def brightness_case(name: str, content: bytes, expected: str) -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / 'x.png', content)
        pixels = dataset(folder)[0]['inputs']
        return f'values from {pixels.min()} to {pixels.max()}'

    return Case('Images', name, expected, run)


def vanishing(folder: Path) -> str:
    for name in 'ab':
        write(folder / 'images' / f'{name}.png', png(PIXELS))
    data = dataset(folder, max_broken=0.5)
    (folder / 'images' / 'a.png').unlink()
    other = data[0]['data_samples'].img_path
    left_out = [Path(path).name for path in data.broken_images()]
    return f'{Path(other).name} takes its place; left out: {", ".join(left_out)}'


def vanished(folder: Path) -> Any:
    write(folder / 'images' / 'a.png', png(PIXELS))
    data = dataset(folder)
    (folder / 'images' / 'a.png').unlink()
    return data[0]


def folder_named_as_an_image(folder: Path) -> str:
    (folder / 'images' / 'x.jpg').mkdir(parents=True)
    write(folder / 'images' / 'a.png', png(PIXELS))
    found = [item.name for item in list_inputs(str(folder / 'images'))]
    return f'{len(dataset(folder))} image in the data set, {len(found)} in the inference'


SIZE = 'an image of 20 x 30'
IMAGES = [
    image_case('CMYK', encoded(Image.new('CMYK', (30, 20)), 'JPEG'), 'an image of 20 x 30'),
    image_case('16 bit', png(PIXELS.astype(np.uint16) * 256), 'an image of 20 x 30'),
    brightness_case(
        '16 bit that hold 12, from 0 to 4095: the 8 highest that are used count',
        png(np.array([[0, 4095]], np.uint16)),
        'values from 0 to 255',
    ),
    brightness_case(
        'black under full transparency: laid on white',
        png(np.zeros((2, 2, 4), np.uint8)),
        'values from 255 to 255',
    ),
    image_case('WebP', encoded(Image.fromarray(PIXELS), 'WEBP'), SIZE, 'x.webp'),
    image_case('BMP', encoded(Image.fromarray(PIXELS), 'BMP'), SIZE, 'x.bmp'),
    image_case('GIF', encoded(Image.fromarray(PIXELS), 'GIF'), SIZE, 'x.gif'),
    image_case('TIFF', encoded(Image.fromarray(PIXELS), 'TIFF'), SIZE, 'x.TIFF'),
    image_case('alpha', png(np.dstack([PIXELS, PIXELS[..., 0]])), 'an image of 20 x 30'),
    image_case(
        'palette', encoded(Image.fromarray(PIXELS).quantize(8)), 'an image of 20 x 30'
    ),
    image_case('EXIF: turned', turned(), 'an image of 30 x 20', 'x.jpg'),
    image_case('animated: the first picture', animated(), 'an image of 20 x 30'),
    image_case(
        'JPEG that was cut off',
        encoded(Image.fromarray(PIXELS).resize((300, 200)), 'JPEG')[:4000],
        'error: x.jpg (4000 bytes) does not decode as an image; replace the file or take',
        'x.jpg',
    ),
    image_case(
        'a few bytes of a PNG',
        png(PIXELS)[:40],
        'error: x.png (40 bytes) does not decode as an image; replace the file or take it '
        'out of the split',
    ),
    image_case('empty', b'', 'error: x.png (0 bytes) does not decode as an image'),
    image_case('text', b'<html>', 'error: x.png (6 bytes) does not decode as an image'),
    image_case('one pixel', png(PIXELS[:1, :1]), 'an image of 1 x 1'),
    image_case('5 x 400', png(np.zeros((5, 400, 3), np.uint8)), 'an image of 5 x 400'),
    image_case(
        '20000 x 100', png(np.zeros((20000, 100, 3), np.uint8)), 'an image of 20000 x 100'
    ),
    image_case('PNG named .jpg', png(PIXELS), 'an image of 20 x 30', 'x.jpg'),
    image_case(
        'name without a suffix of an image',
        png(PIXELS),
        'error: no image (.jpg, .jpeg, .png, .bmp, .gif, .pgm, .ppm, .tif, .tiff, .webp) '
        'below images',
        'x.dat',
    ),
    Case(
        'Images',
        'folder named x.jpg',
        '1 image in the data set, 1 in the inference',
        folder_named_as_an_image,
    ),
    Case(
        'Images',
        'one of two vanishes while training, `max_broken=0.5`',
        'b.png takes its place; left out: a.png',
        vanishing,
    ),
    Case(
        'Images',
        'more vanish than `max_broken` allows',
        'error: a.png cannot be read (No such file or directory); replace the file or take '
        'it out of the split',
        vanished,
    ),
]


# ------------------------------------------------------------------------------- labels
def label_case(
    name: str, content: bytes, expected: str, suffix: str = '.json', id: str = 'x'
) -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / f'{id}.png', png(PIXELS))
        write(folder / f'labels{suffix}', content)
        data = dataset(folder, label_file=f'labels{suffix}')
        return f'labels {data[0]["data_samples"].gt_label.tolist()}'

    return Case('Labels', name, expected, run)


DEEP = b'{"x": ' + b'[' * 200_000 + b']' * 200_000 + b'}'
LABELS = [
    label_case('byte order mark', b'\xef\xbb\xbf{"x": ["cat"]}', 'labels [0]'),
    label_case(
        'UTF-16',
        '{"x": ["cat"]}'.encode('utf-16'),
        'error: the label file labels.json is not text in UTF-8',
    ),
    label_case(
        'CSV with semicolons',
        b'image;labels\nx;cat\n',
        "error: the label file labels.csv must begin with the line 'image,labels', got "
        "['image;labels']: a comma stands behind the image, ';' between its classes",
        '.csv',
    ),
    label_case(
        'an image twice',
        b'{"x": ["cat"], "x": ["dog"]}',
        "error: the label file labels.json: listed more than once: 'x'",
    ),
    label_case(
        'an image twice, CSV',
        b'image,labels\nx,cat\nx,dog\n',
        "error: labels.csv, row 3: 'x' is listed more than once",
        '.csv',
    ),
    label_case(
        'unknown class',
        b'{"x": ["cap"]}',
        "error: labels.json, image 'x': unknown class 'cap'; did you mean 'cat'?",
    ),
    label_case(
        'other case',
        b'{"x": ["CAT"]}',
        "error: labels.json, image 'x': unknown class 'CAT'; did you mean 'cat'?",
    ),
    label_case(
        'one image twice, with and without suffix',
        b'{"x": ["cat"], "x.png": ["dog"]}',
        "error: labels.json lists 1 images more than once, with and without suffix: 'x'",
    ),
    label_case('no class: kept, with a warning', b'{"x": []}', 'labels []'),
    label_case(
        'empty name of a class',
        b'{"x": [""]}',
        "error: labels.json, image 'x': an empty class name in [''];",
    ),
    label_case(
        'empty file', b'', 'error: the label file labels.json is not valid JSON: Expecting'
    ),
    label_case(
        'a list',
        b'["x"]',
        'error: the label file labels.json must hold an object {"ID": ["class", ...]}',
    ),
    label_case(
        'a text in place of a list',
        b'{"x": "cat"}',
        "error: labels.json, image 'x': expected a list of class names, got 'cat'",
    ),
    label_case(
        'JSON, 200000 deep',
        DEEP,
        'error: the label file labels.json is nested too deeply: it must hold an object',
    ),
    label_case(
        'ten million images',
        b'image,labels\n' + b'\n' * 10_000_000,
        'error: the label file labels.csv has 10000001 entries, more than the 2000000 that '
        'are read: keep those of the images that are used',
        '.csv',
    ),
    label_case(
        'an image is missing',
        b'{"y": ["cat"]}',
        "error: labels.json has no labels for 1 of 1 images: 'x'; add them",
    ),
    label_case(
        'names such as `../../x`: no file outside is read',
        b'{"../../x": ["cat"], "x": ["dog"]}',
        'labels [1]',
    ),
    label_case(
        'labels of an image that does not exist: named in a warning',
        b'{"x": ["cat"], "y": ["cap"]}',
        'labels [0]',
    ),
    label_case(
        'pickle', b'', 'error: the label file labels.pkl must be .json or .csv', '.pkl'
    ),
]


# ---------------------------------------------------------------------- masks and splits
def mask_case(name: str, content: Optional[bytes], expected: str) -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / 'x.png', png(PIXELS))
        (folder / 'masks').mkdir()
        if content is not None:
            write(folder / 'masks' / 'x.png', content)
        data = dataset(
            folder,
            test_mode=True,
            pipeline=[
                dict(type='LoadAnyImage'),
                dict(type='LoadMask'),
                dict(type='PackImageLevelInputs'),
            ],
        )
        return f'labels {data[0]["data_samples"].gt_sem_seg.data.unique().tolist()}'

    return Case('Masks', name, expected, run)


MASKS = [
    mask_case('as it should be', png(np.ones((20, 30), np.uint8)), 'labels [1]'),
    mask_case(
        'missing',
        None,
        "error: 1 of 1 images have no mask (.png) in masks: 'x'; add them, or set "
        '`with_masks=False`',
    ),
    mask_case('empty', b'', 'error: masks/x.png (0 bytes) does not decode as an image'),
    mask_case(
        'of another size',
        png(np.ones((30, 20), np.uint8)),
        'error: masks/x.png has shape (30, 20), its image images/x.png (20, 30); a mask '
        'holds one index per pixel of its image',
    ),
    mask_case(
        'more classes than there are',
        png(np.full((20, 30), 9, np.uint8)),
        'error: masks/x.png holds the values [9]; 0 is background, 1..2 are the classes '
        'and 255 is ignored: correct the mask or `classes`',
    ),
]


def corrected_case(
    name: str,
    content: Optional[bytes],
    expected: str,
    classes: Sequence[str] = CLASSES,
    image: str = 'x',
) -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / 'x.png', png(PIXELS))
        if content is not None:
            write(folder / 'x.png', content)
        file = folder / 'masks.json'
        file.write_text(json.dumps(dict(classes=list(classes), masks={image: 'x.png'})))
        data = dataset(folder, mask_file=str(file))
        mask = data[0]['data_samples'].corrected_sem_seg.data
        return f'labels {mask.unique().tolist()}'

    return Case('Corrected masks', name, expected, run)


CORRECTED = [
    corrected_case('as it should be', png(np.ones((20, 30), np.uint8)), 'labels [1]'),
    corrected_case('missing', None, 'error: the corrected mask x.png does not exist'),
    corrected_case(
        'of other classes',
        png(np.ones((20, 30), np.uint8)),
        'error: the masks of masks.json are of the 2 classes',
        classes=CLASSES[:2],
    ),
    corrected_case(
        'of an image that is not there',
        png(np.ones((20, 30), np.uint8)),
        "error: masks.json names masks of images that are not in images: 'y'; correct its "
        'entries',
        image='y',
    ),
    corrected_case(
        'of another size',
        png(np.ones((30, 20), np.uint8)),
        "error: masks.json, image 'x': the mask has 30x20 pixels, the image 20x30: correct "
        'the image that is trained on',
    ),
    corrected_case(
        'of a class that the image labels do not name',
        png(np.full((20, 30), 2, np.uint8)),
        "error: masks.json, image 'x': the mask shows 'dog', the image labels say 'cat': "
        'correct whichever is wrong (a class may also lie where the mask is 255, not '
        'labelled)',
    ),
    corrected_case(
        'more classes than there are',
        png(np.full((20, 30), 9, np.uint8)),
        'error: x.png holds the value 9; 0 is background, 1..2 are the classes and 255 is '
        'not labelled: correct the mask or `classes`',
    ),
]


def split_case(name: str, content: Optional[bytes], expected: str) -> Case:
    def run(folder: Path) -> str:
        write(folder / 'images' / 'x.png', png(PIXELS))
        if content is not None:
            write(folder / 'train.txt', content)
        return f'{len(dataset(folder, ann_file="train.txt"))} image'

    return Case('Splits', name, expected, run)


SPLITS = [
    split_case(
        'missing',
        None,
        'error: the split file train.txt does not exist; correct `ann_file`',
    ),
    split_case('empty', b'', 'error: train.txt lists no image'),
    split_case('byte order mark, Windows line ends', b'\xef\xbb\xbfx\r\n', '1 image'),
    split_case('with suffixes', b'x.png\n', '1 image'),
    split_case(
        'an image twice',
        b'x\nx\n',
        "error: train.txt lists 1 images more than once: 'x'; remove the repetitions",
    ),
    split_case(
        'an image that does not exist',
        b'x\ny\n',
        "error: train.txt lists 1 of 2 images that do not exist in images: 'y'",
    ),
    split_case(
        'names such as `../../x`',
        b'../../x\n',
        "error: train.txt lists 1 of 1 images that do not exist in images: '../../x'",
    ),
    split_case(
        'UTF-16',
        'x'.encode('utf-16'),
        'error: the split file train.txt is not text in UTF-8',
    ),
]


# -------------------------------------------------------------- checkpoints and configs
def checkpoint_case(name: str, content: Optional[bytes], expected: str) -> Case:
    def run(folder: Path) -> None:
        if content is not None:
            write(folder / 'iter_9.pth', content)
        write(folder / 'iter_8.pth', b'other')
        launch.check_checkpoint(str(folder / 'iter_9.pth'))

    return Case('Checkpoints', name, expected, run)


CHECKPOINTS = [
    checkpoint_case(
        'missing',
        None,
        'error: checkpoint iter_9.pth does not exist. In there are: iter_8.pth.',
    ),
    checkpoint_case(
        '0 bytes',
        b'',
        'error: checkpoint iter_9.pth is empty; take an earlier one, or copy it again',
    ),
    checkpoint_case(
        'cut off',
        b'PK\x03\x04' + bytes(100),
        'error: checkpoint iter_9.pth was cut off: its 104 bytes have no end; take an',
    ),
]


def loaded_case(name: str, content: Optional[bytes], expected: str) -> Case:
    """Of what MMEngine loads: ``load_from``, ``model.pretrained``, all commands."""

    def run(folder: Path) -> None:
        if content is not None:
            write(folder / 'a.pth', content)
        CheckpointLoader.load_checkpoint(str(folder / 'a.pth'), 'cpu')

    return Case('Checkpoints', name, expected, run)


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


CHECKPOINTS += [
    loaded_case(
        '`load_from`, `model.pretrained`: missing',
        None,
        'error: checkpoint a.pth is no file that exists: correct the path',
    ),
    loaded_case(
        'text', b'hello', 'error: a.pth does not read as a PyTorch checkpoint (KeyError: '
    ),
    loaded_case(
        'an image',
        encoded(Image.fromarray(PIXELS), 'JPEG'),
        'error: a.pth does not read as a PyTorch checkpoint (UnpicklingError: Unsupported',
    ),
    Case(
        'Checkpoints',
        'a list',
        'error: the checkpoint holds an object of type list, not the weights of a model by',
        lambda folder: weights_of([1]),
    ),
    Case(
        'Checkpoints',
        'a tensor in place of the weights',
        'error: the checkpoint holds an object of type Tensor, not the weights of a model',
        lambda folder: weights_of(dict(state_dict=torch.zeros(1))),
    ),
    loaded_case(
        'a whole model, not its weights',
        saved(torch.nn.Identity()),
        'error: a.pth holds more than weights (an object of torch.nn.modules.linear',
    ),
    *(
        Case(
            'Checkpoints',
            f'`--device {device}`{where}',
            f"error: device '{device}' cannot be used: take cpu, or cuda or cuda:N where",
            lambda folder, device=device: launch.check_device(device),
        )
        for device, where in (('gpu', ''), ('cuda:99', ' (or cuda), and no such GPU'))
    ),
]


def option_case(key: str, value: Any, expected: str) -> Case:
    def run(folder: Path) -> None:
        launch.load_config(str(CONFIG), {key: value})

    return Case('Configs', f'`--cfg-options {key}={value}`', expected, run)


def config_case(name: str, content: str, expected: str) -> Case:
    def run(folder: Path) -> None:
        write(folder / 'a.py', content.encode())
        launch.load_config(str(folder / 'a.py'))

    return Case('Configs', name, expected, run)


def unknown(key: str, meant: str) -> str:
    return f"error: config key {key} is not known, did you mean '{meant}'?"


CONFIGS = [
    option_case(
        'train_cgf.max_iters', 1, "error: config key 'train_cgf' is not known, did"
    ),
    option_case(
        'data_root',
        'a',
        "error: --cfg-options data_root: 'data_root' is a variable of the config file, "
        'which has been used when that was read; did you mean train_dataloader.dataset.',
    ),
    option_case('model.decode_hed.channels', 3, unknown('model.decode_hed', 'decode_head')),
    option_case('model.losses.cre.begn', 3, unknown('model.losses.cre.begn', 'begin')),
    option_case(
        'train_dataloader.dataset.lable_file',
        'a.json',
        unknown('train_dataloader.dataset.lable_file', 'label_file'),
    ),
    option_case(
        'optim_wrapper.optimizer.lrr', 1, unknown('optim_wrapper.optimizer.lrr', 'lr')
    ),
    option_case('model.pseudo_label.bkgd', 0.4, unknown('model.pseudo_label.bkgd', 'bkg')),
    option_case(
        'default_hooks.chekpoint.interval',
        9,
        unknown('default_hooks.chekpoint', 'checkpoint'),
    ),
    option_case(
        'test_evaluator',
        'foo',
        'error: config key test_evaluator must be a dict, or a list of them, got',
    ),
    option_case(
        'model.num_classes',
        '',
        "error: config key model.num_classes must be of type int, got ''",
    ),
    option_case(
        'model.type',
        'MoRee',
        "error: config key model.type: 'MoRee' is not registered, did you mean 'MoRe'?",
    ),
    option_case(
        'train_dataloader.dataset.pipeline.9.type',
        'A',
        'error: --cfg-options train_dataloader.dataset.pipeline.9.type=A does not fit the '
        'config:',
    ),
    config_case('no Python', 'model = dict(', 'error: config a.py cannot be read: Syntax'),
    config_case(
        'a base that does not exist',
        "_base_ = './b.py'",
        'error: config a.py cannot be read: ',
    ),
    config_case(
        'an import that fails',
        "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)",
        'error: config a.py cannot be read: ImportError: Failed to import',
    ),
    Case(
        'Configs',
        'missing',
        'error: config more_vit-b_vox.py does not exist. Did you mean',
        lambda folder: launch.load_config(str(folder / 'more_vit-b_vox.py')),
    ),
]


# ------------------------------------------------------------------------------- outputs
def output_case(name: str, number: int, expected: str) -> Case:
    """A place that the system does not let write to; root may, so it is acted."""

    def run(folder: Path) -> None:
        refusal = OSError(number, os.strerror(number))
        with mock.patch('os.fdopen', side_effect=refusal):
            try:
                write_bytes(folder / 'a.json', b'{}')
            finally:
                assert not list(folder.iterdir()), 'something half-written is left'

    return Case('Outputs', name, expected, run)


def file_for_a_folder(folder: Path) -> None:
    write(folder / 'out', b'')
    write_bytes(folder / 'out' / 'a.json', b'{}')


def folder_for_a_file(folder: Path) -> None:
    (folder / 'a.json').mkdir()
    write_bytes(folder / 'a.json', b'{}')


OUTPUTS = [
    output_case(
        'read-only',
        errno.EROFS,
        'error: a.json: Read-only file system: choose a folder that can be written to',
    ),
    output_case(
        'without permission',
        errno.EACCES,
        'error: a.json: Permission denied: change its permissions, or choose another place',
    ),
    output_case(
        'full disk',
        errno.ENOSPC,
        'error: a.json: No space left on device: make room, or choose a folder on another '
        'disk',
    ),
    Case(
        'Outputs',
        'a file in place of a folder',
        'error: out/a.json: File exists: a file stands where a folder is needed; choose',
        file_for_a_folder,
    ),
    Case(
        'Outputs',
        'a folder in place of a file',
        'error: a.json: Is a directory: a folder stands where a file is needed; choose',
        folder_for_a_file,
    ),
]

CASES: List[Case] = [
    *IMAGES,
    *LABELS,
    *MASKS,
    *CORRECTED,
    *SPLITS,
    *CHECKPOINTS,
    *CONFIGS,
    *OUTPUTS,
]


def page() -> str:
    """The page of the documentation."""
    sections = []
    for topic in dict.fromkeys(case.topic for case in CASES):
        rows = [f'| {c.name} | {shown(c.expected)} |' for c in CASES if c.topic == topic]
        head = [f'## {topic}', '', '| input | what happens |', '|---|---|']
        sections.append('\n'.join([*head, *rows]))
    return INTRODUCTION + '\n' + '\n\n'.join(sections) + '\n'


def shown(expected: str) -> str:
    if not expected.startswith('error: '):
        return expected
    return '``' + expected.replace('|', '\\|') + '``'


if __name__ == '__main__':
    print(page(), end='')
