"""Time, agreement and peak memory of the dense CRF's backends.

    python benchmarks/crf.py [--sizes 96x96 375x500] [--channels 2 4 21] [--threads 1 2]
        [--images 50] [--json FILE]

Images are drawn: smooth shapes ('shapes'), these with a photograph's texture ('texture')
and noise ('noise', the worst case: all pixels differ). All ratios are time of the lattice
over time of pydensecrf, in one process and alternately: the shorter of several runs each.
"""

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from typing import Callable, Dict, List, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from mmseg_more.masks import dense_crf

BACKENDS = ('lattice', 'pydensecrf')
KINDS = {
    # noise of so many cells along the longer side, and its amplitude in levels
    'shapes': ((5, 60), (12, 30)),
    'texture': ((5, 60), (12, 30), (60, 12), (160, 5)),
    'noise': ((100000, 70),),
}
Size = Tuple[int, int]


def blobs(count: int, cells: int, size: Size, generator: torch.Generator) -> torch.Tensor:
    """Smooth noise ``(count, H, W)`` of about ``cells`` cells along the longer side."""
    grid = [max(2, min(side, side * cells // max(size))) for side in size]
    coarse = torch.randn(1, count, *grid, generator=generator)
    return F.interpolate(coarse, size, mode='bicubic')[0]


def draw_image(kind: str, size: Size, seed: int) -> np.ndarray:
    """RGB image ``(H, W, 3)``."""
    generator = torch.Generator().manual_seed(seed)
    image = 128 + sum(
        amplitude * blobs(3, cells, size, generator) for cells, amplitude in KINDS[kind]
    )
    if kind == 'texture':
        image = image + torch.randn(image.shape, generator=generator)
    return image.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def draw_probs(channels: int, size: Size, seed: int) -> np.ndarray:
    """Probabilities ``(C, H, W)``: up to four classes in blobs, the others weak."""
    generator = torch.Generator().manual_seed(seed)
    logits = 0.5 * blobs(channels, 12, size, generator) - 4.5
    strong = min(4, channels)
    logits[:strong] = 1 + 3 * blobs(strong, 6, size, generator)
    return logits.softmax(0).numpy()


def shortest(runs: Dict[str, Callable[[], object]], repeats: int) -> Dict[str, float]:
    """Seconds of the shortest of several runs, which alternate.

    With one thread it is the time of the processor: other processes disturb it less.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = dict.fromkeys(runs, float('inf'))
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


def measure_time(args: argparse.Namespace) -> List[dict]:
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for size in args.sizes:
            repeats = args.repeats * (1 if min(size) > 200 else 5)
            for kind in args.kinds:
                image = draw_image(kind, size, 0)
                for channels in args.channels:
                    probs = draw_probs(channels, size, 0)
                    seconds = shortest(
                        {
                            name: partial(dense_crf, image, probs, backend=name)
                            for name in BACKENDS
                        },
                        repeats,
                    )
                    rows.append(
                        dict(
                            threads=threads,
                            size=size,
                            kind=kind,
                            channels=channels,
                            **seconds,
                            ratio=seconds['lattice'] / seconds['pydensecrf'],
                        )
                    )
                    print(
                        f'{threads} threads, {size[0]}x{size[1]} {kind}, '
                        f'{channels} channels: lattice {seconds["lattice"]:.3f} s, '
                        f'pydensecrf {seconds["pydensecrf"]:.3f} s, '
                        f'ratio {rows[-1]["ratio"]:.2f}',
                        flush=True,
                    )
    return rows


def measure_agreement(args: argparse.Namespace) -> List[dict]:
    """Share of pixels with another label, and the largest difference of probabilities."""
    rows = []
    for kind in args.kinds:
        pixels = different = 0
        largest = 0.0
        for seed in range(args.images):
            image = draw_image(kind, args.sizes[-1], seed)
            probs = draw_probs(args.channels[-1], args.sizes[-1], seed)
            ours, theirs = (dense_crf(image, probs, backend=name) for name in BACKENDS)
            pixels += ours[0].size
            different += int((ours.argmax(0) != theirs.argmax(0)).sum())
            largest = max(largest, float(abs(ours - theirs).max()))
        rows.append(
            dict(
                kind=kind, images=args.images, different=different / pixels, largest=largest
            )
        )
        print(
            f'{args.images} images, {kind}: {100 * different / pixels:.5f} % of the labels '
            f'differ, probabilities by {largest:.1e} at most',
            flush=True,
        )
    return rows


def measure_memory(args: argparse.Namespace) -> List[dict]:
    """Peak memory of one image in a process of its own, above what it had before."""
    rows = []
    for size in args.sizes:
        for kind in args.kinds:
            for channels in args.channels:
                peaks = {}
                for name in BACKENDS:
                    command = [sys.executable, __file__, '--peak-of', name]
                    command += ['--sizes', f'{size[0]}x{size[1]}', '--kinds', kind]
                    command += ['--channels', str(channels)]
                    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                    peaks[name] = float(result.stdout.split()[-1])
                rows.append(dict(size=size, kind=kind, channels=channels, **peaks))
                print(
                    f'{size[0]}x{size[1]} {kind}, {channels} channels: peak memory '
                    + ', '.join(f'{name} {peaks[name]:.0f} MB' for name in BACKENDS),
                    flush=True,
                )
    return rows


def peak_of(args: argparse.Namespace) -> float:
    """MB that this process needs for one image, above what it had before."""
    torch.set_num_threads(1)
    size, channels = args.sizes[0], args.channels[0]
    small = (8, 9)  # libraries are loaded and set up
    dense_crf(draw_image('shapes', small, 0), draw_probs(2, small, 0), backend=args.peak_of)
    image = draw_image(args.kinds[0], size, 0)
    probs = draw_probs(channels, size, 0)
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # the peak starts afresh
    before = status_mb('VmRSS')
    dense_crf(image, probs, backend=args.peak_of)
    return status_mb('VmHWM') - before


def status_mb(key: str) -> float:
    """A memory figure of this process (Linux)."""
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))


def parse_size(text: str) -> Size:
    height, width = text.split('x')
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--sizes', nargs='+', type=parse_size, default=[(96, 96), (375, 500)]
    )
    parser.add_argument('--channels', nargs='+', type=int, default=[2, 4, 21])
    parser.add_argument('--threads', nargs='+', type=int, default=[1, 2])
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=['texture', 'noise'])
    parser.add_argument('--repeats', type=int, default=3, help='runs of each backend')
    parser.add_argument(
        '--images', type=int, default=50, help='images of the comparison of labels; 0: none'
    )
    parser.add_argument('--json', help='JSON file to write')
    parser.add_argument('--peak-of', choices=BACKENDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        print(peak_of(args))
        return
    figures = dict(time=measure_time(args), memory_mb=measure_memory(args))
    if args.images:
        figures['agreement'] = measure_agreement(args)
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(figures, file, indent=1)


if __name__ == '__main__':
    main()
