"""Several processes on a machine without a GPU."""

import datetime
import os
from typing import Any, Callable, List, Optional, TypeVar

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    get_world_size,
    is_distributed,
    is_main_process,
)

Result = TypeVar('Result')


def without_accelerator() -> bool:
    """Whether MMEngine would put the model on the CPU."""
    return get_device() == 'cpu'


def prepare_distributed(cfg: Config) -> bool:
    """Make ``cfg`` run in several CPU processes, if that is what was launched.

    MMEngine's launchers always choose a CUDA device, and its model wrapper asks for one.
    Where there is no accelerator, the process group is therefore initialised here, with
    the gloo backend, which the Runner then finds and keeps; and the wrapper is told to
    leave the model where it is. With an accelerator nothing changes.

    Args:
        cfg: Complete config with ``launcher`` set. ``model_wrapper_cfg`` is
            added to it. A ``dist_cfg.timeout`` in seconds is obeyed, its backend not.

    Returns:
        Whether a process group of gloo was made.

    Raises:
        ValueError: If the launcher is neither 'none' nor 'pytorch' and there is no
            accelerator, or torchrun's environment variables are missing.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or not without_accelerator():
        return False
    if launcher != 'pytorch':
        raise ValueError(
            f'launcher {launcher!r} needs a GPU; without one start the '
            'processes by torchrun and use --launcher pytorch'
        )
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper
    if is_distributed():
        return False
    missing = [
        name
        for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
        if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f'--launcher pytorch, but {", ".join(missing)} not set: start '
            'it as `torchrun --nproc_per_node 2 tools/train.py CONFIG '
            '--launcher pytorch`'
        )
    _init_gloo(cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout'))
    return True


def _init_gloo(timeout: Optional[float]) -> None:
    torch_dist.init_process_group(
        backend='gloo',
        timeout=None if timeout is None else datetime.timedelta(seconds=timeout),
    )


def on_main_process(action: Callable[[], Result]) -> Result:
    """Do something in one process; all processes get the result, or its error.

    Args:
        action: What to do; its result can be pickled.

    Raises:
        OSError, ValueError: Those of ``action``, in every process.
    """
    answer: List[Any] = [None, None]  # the result and the error, one of them
    if is_main_process():
        try:
            answer[0] = action()
        except (OSError, ValueError) as error:
            answer[1] = error
    broadcast_object_list(answer)
    result, failure = answer
    if failure is not None:
        raise failure
    return result


class HostVote:
    """Asks all processes a yes-or-no question, without waiting for a GPU.

    The answers go over gloo from host to host: 0.1 ms of two processes on one machine. All
    processes make one, and ask, at the same points.
    """

    def __init__(self) -> None:
        self._group: Any = None
        if get_world_size() > 1:
            self._group = (
                torch_dist.group.WORLD
                if torch_dist.get_backend() == 'gloo'
                else torch_dist.new_group(backend='gloo')
            )

    def highest(self, value: int) -> int:
        """The highest number that any process says, the same in all of them."""
        if self._group is None:
            return value
        answer = torch.tensor(value)
        torch_dist.all_reduce(answer, torch_dist.ReduceOp.MAX, group=self._group)
        return int(answer)
