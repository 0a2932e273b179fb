"""What a training step needs of a GPU's memory: the largest batch by card, and each switch.

    python benchmarks/memory.py configs/more/more_vit-b_voc.py --archs base large \
        --sizes 448 --dtypes bfloat16 --switches checkpointing --json memory.json
    python benchmarks/memory.py configs/more/more_vit-b_voc.py --device cuda

On a CPU nothing is computed: PyTorch's fake tensors go through real training steps, of
which only shapes are known, and its memory tracker adds up what is alive. Losses that need
numbers to know their shapes, URE and the energy, are left out there. On a GPU steps are run
and its allocator is asked, all losses on.

Memory is a line in the batch: ``fixed_mb`` (weights and Adam's state; gradients come while
activations go) plus ``per_image_mb`` for each image, through the peaks at two batch sizes
(--batch-sizes). It needs batches at which activations are more than gradients. Keys of the
JSON file, memory in MB (2^20 bytes):

* ``cases``: by name (ViT, pixels, dtype, switches): ``peaks_mb`` by batch size, both
  figures of the line, ``parameters`` and ``largest_batch`` by the card's GB (2^30
  bytes), of which --reserve are left for the CUDA context and for gaps between blocks;
* ``machine``: see ``report.machine``; ``counted``: whether nothing was computed.
"""

import argparse
import copy
import itertools
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.memory import MemoryMeter, release_memory
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import add_config_options

from mmseg.registry import MODELS

SWITCHES: Dict[str, Dict[str, Any]] = {
    'checkpointing': {'model.backbone.with_cp': True},
    'accumulation': {'optim_wrapper.accumulative_counts': 2},
    'chunks': {'model.localization.chunk_size': 2},
    'one-scale': {'model.localization.scales': (1.0,)},
    'teacher': {},  # a copy of the model, as MeanTeacherHook makes it
}
"""What a case may switch on -> settings of the config."""
_NEEDS_NUMBERS = ('ure', 'energy')  # losses whose shapes depend on values
_MB, _GB = 2**20, 2**30


class Case(NamedTuple):
    """One form of the step."""

    arch: Optional[str]
    """Name in the table of the config's family; None: the config's own."""
    size: int
    dtype: str
    switches: Tuple[str, ...] = ()

    @property
    def name(self) -> str:
        arch = () if self.arch is None else (self.arch,)
        return ', '.join((*arch, str(self.size), self.dtype, *self.switches))


class Line(NamedTuple):
    """Peak memory in MB by the number of images."""

    fixed_mb: float
    per_image_mb: float

    def largest_batch(self, gpu_gb: float, reserve_gb: float) -> int:
        """Images that fit a card, 0 if none does."""
        free_mb = (gpu_gb - reserve_gb) * _GB / _MB - self.fixed_mb
        return max(0, int(free_mb / self.per_image_mb))


def line(peaks_mb: Dict[int, float]) -> Line:
    """Through the peaks at two batch sizes."""
    (small, low), (large, high) = sorted(peaks_mb.items())
    slope = (high - low) / (large - small)
    return Line(low - small * slope, slope)


def case_config(cfg: Config, case: Case, batch_size: int) -> Config:
    """The config of a case, with as many images per pass as on a GPU: all."""
    cfg = workload.adapt_config(cfg, size=case.size)
    if case.arch is not None:
        cfg.model.backbone.arch = case.arch
    cfg.model.localization.chunk_size = 2 * batch_size  # with their flips
    for switch in case.switches:
        cfg.merge_from_dict(copy.deepcopy(SWITCHES[switch]))
    return cfg


def peak_mb(cfg: Config, case: Case, batch_size: int, device: torch.device) -> float:
    """Peak memory of the steps from one update of the weights to the next."""
    cfg = case_config(cfg, case, batch_size)
    data = workload.random_batch(cfg.model, batch_size, workload.image_size(cfg))
    if device.type == 'cuda':
        release_memory(device)
        with MemoryMeter(device) as meter:
            _train(cfg, case, data, device, nullcontext())
        return meter.peak_mb
    for name in _NEEDS_NUMBERS:
        if name in cfg.model.losses:
            cfg.model.losses[name].loss_weight = 0
    cfg.optim_wrapper.pop('clip_grad', None)  # MMEngine logs the norm, a number
    tracker = MemTracker()
    with FakeTensorMode(allow_non_fake_inputs=True):
        _train(cfg, case, data, device, tracker)
    return tracker.get_tracker_snapshot('peak')[device]['Total'] / _MB


def _train(
    cfg: Config, case: Case, data: dict, device: torch.device, watch: ContextManager
) -> None:
    """Two updates of the weights: before the first there is no state of Adam."""
    workload.set_tf32(case.dtype)
    model = _build(cfg, device)
    model.iteration = max(model.loss_schedule.begin.values()) + 1
    optim_wrapper = workload.build_optimizer(cfg, model, case.dtype, device)
    kept: List[nn.Module] = [model]
    if 'teacher' in case.switches:
        kept.append(copy.deepcopy(model).eval())
        model.learn_from(kept[-1])
    if isinstance(watch, MemTracker):
        watch.track_external(*kept)
    with watch:
        for _ in range(2 * cfg.optim_wrapper.get('accumulative_counts', 1)):
            model.train_step(data, optim_wrapper)
            if isinstance(watch, MemTracker):
                watch.reset_mod_stats()


def _build(cfg: Config, device: torch.device) -> nn.Module:
    """The segmentor, weights as its parts are made: their numbers do not matter."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(cfg.model).train()
    return model if device.type == 'cpu' else model.to(device)  # fake ones do not move


def measure(
    cfg: Config,
    case: Case,
    batch_sizes: Sequence[int],
    gpus_gb: Sequence[float],
    reserve_gb: float,
    device: torch.device,
) -> Dict[str, Any]:
    """What the head of this file documents of a case."""
    peaks = {size: peak_mb(cfg, case, size, device) for size in batch_sizes}
    fitted = line(peaks)
    with FakeTensorMode():
        model = _build(case_config(cfg, case, 1), torch.device('cpu'))
    return dict(
        fitted._asdict(),
        peaks_mb=peaks,
        parameters=sum(weight.numel() for weight in model.parameters()),
        largest_batch={gb: fitted.largest_batch(gb, reserve_gb) for gb in gpus_gb},
    )


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of the model')
    parser.add_argument(
        '--archs',
        nargs='+',
        default=[None],
        help="ViTs of the config's family; default: the config's own",
    )
    parser.add_argument('--sizes', type=int, nargs='+', default=[448], help='in pixels')
    parser.add_argument(
        '--dtypes', nargs='+', default=['float32', 'bfloat16'], choices=workload.DTYPES
    )
    parser.add_argument(
        '--switches',
        nargs='*',
        default=['', 'checkpointing'],
        help=f"each case in turn; '+' joins several of {', '.join(SWITCHES)}, '' is none",
    )
    parser.add_argument(
        '--batch-sizes', type=int, nargs=2, default=[4, 8], help='to draw the line through'
    )
    parser.add_argument(
        '--gpus', type=float, nargs='+', default=[8, 12, 24, 80], help='memory in GB'
    )
    parser.add_argument(
        '--reserve', type=float, default=1.5, help='GB of a card that are not for tensors'
    )
    parser.add_argument('--device', default='cpu', help='cuda: measure; cpu: count')
    parser.add_argument('--json', help='JSON file to write')
    add_config_options(parser)
    args = parser.parse_args(argv)
    args.switches = [tuple(filter(None, text.split('+'))) for text in args.switches]
    unknown = set(itertools.chain(*args.switches)) - set(SWITCHES)
    if unknown:
        parser.error(f'--switches: {sorted(unknown)} not in {sorted(SWITCHES)}')
    if len(set(args.batch_sizes)) < 2 or min(args.batch_sizes) < 1:
        parser.error('--batch-sizes: two different numbers, at least 1')
    try:
        args.cfg = launch.load_config(args.config, args.cfg_options)
        for dtype in args.dtypes:
            workload.check_dtype(dtype, torch.device(args.device))
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    device = torch.device(args.device)
    figures: Dict[str, Any] = dict(
        machine=report.machine(device), counted=device.type == 'cpu', cases={}
    )
    for choice in itertools.product(args.archs, args.sizes, args.dtypes, args.switches):
        case = Case(*choice)
        found = measure(args.cfg, case, args.batch_sizes, args.gpus, args.reserve, device)
        figures['cases'][case.name] = found
        report.write_json(args.json, figures)
    print(
        report.table(
            ['case', 'fixed, MB', 'per image, MB', *(f'{gb:g} GB' for gb in args.gpus)],
            (
                [
                    name,
                    found['fixed_mb'],
                    found['per_image_mb'],
                    *found['largest_batch'].values(),
                ]
                for name, found in figures['cases'].items()
            ),
        )
    )


if __name__ == '__main__':
    main()
