"""Segment an image by ``python infer_onnx.py more.onnx image.jpg mask.png``."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def resize(values, size):
    """Bilinear, without antialiasing, as OpenCV and PyTorch: (H, W, C) to `size`."""
    for axis, count in enumerate(size):
        last = values.shape[axis] - 1
        place = np.clip((np.arange(count) + 0.5) * (last + 1) / count - 0.5, 0, last)
        low = place.astype(int)
        share = (place - low).astype(np.float32).reshape((-1,) + (1,) * (2 - axis))
        high = values.take(np.minimum(low + 1, last), axis)
        values = values.take(low, axis) * (1 - share) + high * share
    return values


def main(network, image_file, mask_file):
    session = onnxruntime.InferenceSession(network)
    meta = session.get_modelmeta().custom_metadata_map.items()
    meta = {key: json.loads(value) for key, value in meta}
    if meta['output'] != 'seg':
        sys.exit(f'error: {network} gives {meta["output"]}: export it with --output seg')
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(image_file)).convert('RGB'))
    image = np.rint(resize(pixels, meta['input_size'] or pixels.shape[:2]))
    image = image if meta['channels'] == 'RGB' else image[..., ::-1]
    image = ((image - meta['mean']) / meta['std']).astype(np.float32).transpose(2, 0, 1)
    (logits,) = session.run(['logits'], {'images': image[None]})
    mask = resize(logits[0].transpose(1, 2, 0), pixels.shape[:2]).argmax(-1)
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette(np.array(meta['palette'], np.uint8).flatten().tolist())
    picture.save(mask_file)


main(*sys.argv[1:])
