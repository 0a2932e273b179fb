"""Time and memory of MoRe's maps at several scales, and of masks with the dense CRF.

    python tools/analysis/benchmark_inference.py configs/more/more_vit-b_voc.py \
        --size 448 --crf --json inference.json

CAM, LAM, fused maps, class scores and segmentation come from one set of passes over image
and flip (``MoRe.predict``); random weights, random images. Keys of the JSON file, times in
seconds per image, memory in MB (2^20 bytes):

* ``maps_s``, ``images_per_s``: maps at all scales (median; ``maps_s_all``: each round);
* ``flops_per_image``: arithmetic of the passes (2 per multiply-add), ``gemm_flops_per_s``:
  rate of matrix products of the ViT's sizes, measured between the rounds,
  ``gemm_bound_s`` = flops / rate, ``ratio`` = maps_s / gemm_bound_s;
* ``separate_s``: the same with passes of their own for LAM, CAM and segmentation, in turns
  with the shared ones; ``shared_to_separate`` = maps_s / separate_s;
* ``peak_mb``: as in benchmark_step.py, of this process;
* ``crf`` (--crf): LAM masks of the image's classes: ``network_s`` (maps alone), ``crf_s``
  (CRF alone, one process), ``masks_s`` and ``images_per_s`` (both, ``workers`` processes
  refine while the network goes on), ``bound_s`` = max(network_s, crf_s / workers), ``ratio`` =
  masks_s / bound_s, ``sequential_ratio`` = (network_s + crf_s) / masks_s.
"""

import argparse
from typing import Dict, Optional, Sequence

import torch

from mmseg_more.benchmark import report, workload
from mmseg_more.benchmark.maps import MapsBenchmark
from mmseg_more.models.structures import MASK_SCALES, SEG_SCALES


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    workload.add_arguments(parser, batch_size=1)
    parser.add_argument(
        '--scales',
        type=float,
        nargs='+',
        default=MASK_SCALES,
        help='scales of CAM and LAM, each with its flip',
    )
    parser.add_argument(
        '--seg-scales',
        type=float,
        nargs='*',
        default=SEG_SCALES,
        help='scales of the segmentation; none: without',
    )
    parser.add_argument('--crf', action='store_true', help='also measure maps + CRF')
    parser.add_argument(
        '--crf-workers', type=int, help='CRF processes; default: the usable cores'
    )
    parser.add_argument('--crf-batches', type=int, default=8, help='batches for maps + CRF')
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
    if args.crf_batches < 1:
        parser.error(f'--crf-batches must be at least 1, got {args.crf_batches}')
    return args


def show(figures: Dict) -> None:
    """Print the table."""
    rows = [
        (
            'maps, shared passes',
            figures['maps_s'],
            figures['images_per_s'],
            figures['ratio'],
        ),
        (
            'maps, separate passes',
            figures['separate_s'],
            1 / figures['separate_s'],
            figures['separate_s'] / figures['gemm_bound_s'],
        ),
    ]
    print(report.table(('', 's per image', 'images/s', 'x GEMM bound'), rows))
    print(
        'GEMM bound {gemm_bound_s:.4g} s per image ({tflop:.4g} TFLOP at {rate:.4g} '
        'GFLOP/s); peak memory {peak_mb:.0f} MB.'.format(
            tflop=figures['flops_per_image'] / 1e12,
            rate=figures['gemm_flops_per_s'] / 1e9,
            **figures,
        )
    )
    if 'crf' in figures:
        print(
            'maps + CRF: {masks_s:.4g} s per image ({images_per_s:.4g} images/s) with '
            '{workers} workers; network {network_s:.4g} s, CRF {crf_s:.4g} s: {ratio:.3f} '
            'x the larger of network and CRF / workers, {sequential_ratio:.2f} times as '
            'fast as one after the other.'.format(**figures['crf'])
        )


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    device = torch.device(args.device)
    benchmark = MapsBenchmark(
        args.cfg, args.batch_size, device, args.dtype, args.scales, args.seg_scales
    )
    figures = dict(
        config=args.config,
        size=benchmark.size,
        batch_size=args.batch_size,
        dtype=args.dtype,
        scales=benchmark.scales,
        seg_scales=benchmark.seg_scales,
        num_classes=benchmark.model.num_classes,
        iters=args.iters,
        **report.machine(device),
    )
    figures.update(benchmark.run(args.iters, args.warmup))
    if args.crf:
        figures['crf'] = benchmark.run_with_crf(args.crf_batches, args.crf_workers)
    report.write_json(args.json, figures)
    show(figures)


if __name__ == '__main__':
    main()
