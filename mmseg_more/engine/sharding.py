"""Weights, gradients and Adam's state shared out over the processes (FSDP)."""

import time
from typing import Any, Callable, Dict, List, Optional

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, join_path
from mmengine.hooks import EMAHook
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import STRATEGIES
from mmengine.runner._flexible_runner import FlexibleRunner
from mmengine.runner.checkpoint import save_checkpoint
from mmengine.utils import get_git_hash
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mmseg.registry import HOOKS, RUNNERS

from ..models.backbones.encoder_layer import EncoderLayer
from .checkpoint_files import WholeFileBackend
from .type_name import type_name


@RUNNERS.register_module()
class ShardedRunner(FlexibleRunner):
    """MMEngine's ``FlexibleRunner`` for a training by :class:`ShardedStrategy`.

    Its checkpoints say which iteration they are of also when a validation comes before
    them, where MMEngine's count one too many. For processes that are started together;
    tools/train.py in a single process, and tools/test.py, take MMEngine's ``Runner``
    (:func:`keep_whole`).

    Raises:
        ValueError: Before a training, if a hook keeps an average of the weights
            (``EMAHook``, ``MeanTeacherHook``), or runs parts of the network by itself
            (``HealthHook``).

    Example:
        >>> runner_type = 'ShardedRunner'
        >>> strategy = dict(type='ShardedStrategy')
    """

    def train(self) -> nn.Module:
        """Train; hooks that need whole weights are an error."""
        kinds = (EMAHook, HOOKS.get('HealthHook'))
        for hook in self.hooks:
            if isinstance(hook, kinds):
                raise ValueError(
                    f'{type(hook).__name__} needs all weights in each process, and here '
                    'they are shared out (runner_type ShardedRunner): leave the hook out, '
                    'as by default_hooks.NAME=None, or leave out runner_type and strategy'
                )
        return super().train()

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: Optional[dict] = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: Optional[dict] = None,
        by_epoch: bool = True,
        backend_args: Optional[dict] = None,
    ) -> None:
        """Save, as MMEngine's ``Runner`` does; all processes call it together.

        Args:
            out_dir: Folder.
            filename: Name in it.
            file_client_args: MMEngine's older name of ``backend_args``; not supported.
            save_optimizer: Whether to save the state of the optimizer.
            save_param_scheduler: Whether to save that of the schedulers.
            meta: What is known of the checkpoint, such as ``epoch`` and ``iter``.
            by_epoch: Whether an epoch has ended, or an iteration.
            backend_args: Says which files those of ``out_dir`` are.

        Raises:
            ValueError: If ``file_client_args`` are given.
        """
        if file_client_args is not None:
            raise ValueError('file_client_args: MMEngine calls them backend_args now')
        ended = dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch))
        meta = {
            **ended,
            **(meta or {}),
            'cfg': self.cfg.pretty_text,
            'experiment_name': self.experiment_name,
        }
        if hasattr(self.train_dataloader.dataset, 'metainfo'):
            meta['dataset_meta'] = self.train_dataloader.dataset.metainfo
        self.strategy.save_checkpoint(
            join_path(out_dir, filename, backend_args=backend_args),
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            extra_ckpt=dict(meta=meta, message_hub=self.message_hub.state_dict()),
            callback=lambda checkpoint: self.call_hook(
                'before_save_checkpoint', checkpoint=checkpoint
            ),
        )


@STRATEGIES.register_module()
class ShardedStrategy(DDPStrategy):
    """Train by PyTorch's ``fully_shard``: networks that one GPU does not hold.

    Of n processes each keeps a part of n of every weight, its gradient and Adam's state. A
    block of the ViT is put together when it is needed, forwards and backwards, and the
    rest of the network for the step. Losses and updates are those of
    DistributedDataParallel, but for rounding.

    Checkpoints are those of a training without it, whole and by the same names: either kind
    of training resumes from the other's, and tests need none of this. The main process
    holds them on the CPU while it writes.

    MMEngine's own ``FSDPStrategy`` is made of an older interface of PyTorch's, which needs
    a GPU, wraps every block under another name, and with which methods of a block that are
    not its ``forward`` see parts of weights.

    Raises:
        ValueError: If the model has no block of a :class:`MoReViT`.
    """

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(get_device())
        model = self.convert_model(model)
        blocks = [module for module in model.modules() if isinstance(module, EncoderLayer)]
        if not blocks:
            raise ValueError(
                'ShardedStrategy shares out the blocks of MoReViT, and '
                f'{type(model).__name__} has none: leave out runner_type and strategy'
            )
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        for block in blocks:
            fully_shard(block, mesh=mesh)
            register_fsdp_forward_method(block, 'class_attention')
        fully_shard(model, mesh=mesh)
        return model

    def model_state_dict(self) -> dict:
        """All weights on the CPU, for the main process; all processes ask together."""
        return _whole(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """State of the optimizer, in the same way."""
        return _whole(self.optim_wrapper.state_dict())

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: Optional[dict] = None,
        callback: Optional[Callable] = None,
    ) -> None:
        """Save as in a training without shares; all processes call it together."""
        checkpoint = dict(extra_ckpt or {}, state_dict=self.model_state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        if not is_main_process():
            return
        checkpoint['meta'] = dict(
            checkpoint.get('meta') or {},
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine_version=mmengine.__version__ + get_git_hash(),
        )
        if callback is not None:
            callback(checkpoint)
        local = isinstance(get_file_backend(filename), LocalBackend)
        backend = dict(backend=WholeFileBackend.NAME) if local else None
        save_checkpoint(checkpoint, filename, backend_args=backend)

    def load_model_state_dict(self, state_dict: dict, **kwargs) -> None:
        """Load whole weights, which every process has."""
        own = self.model.state_dict()
        shares = {name: _share(value, own.get(name)) for name, value in state_dict.items()}
        super().load_model_state_dict(shares, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the whole state of the optimizer, which every process has."""
        weights: List[Tensor] = [
            weight
            for group in self.optim_wrapper.param_groups
            for weight in group['params']
        ]
        shares: Dict[int, dict] = {
            index: {name: _share(value, weights[index]) for name, value in state.items()}
            for index, state in state_dict['state'].items()
        }
        super().load_optim_state_dict(dict(state_dict, state=shares))


def keep_whole(cfg: Config) -> Optional[str]:
    """Have ``cfg`` run with all weights in each process, if it would share them out.

    Returns:
        A line for the log, None if nothing is changed.
    """
    if type_name(dict(type=cfg.get('runner_type'))) != ShardedRunner.__name__:
        return None
    cfg.pop('runner_type')
    cfg.pop('strategy', None)
    return 'Weights are not shared out: this is a test, or a single process.'


def _whole(state: Any) -> Any:
    """A state dict with whole tensors on the CPU; None for them but in the main process."""
    if isinstance(state, dict):
        return type(state)((key, _whole(value)) for key, value in state.items())
    if isinstance(state, list):
        return [_whole(value) for value in state]
    if not isinstance(state, Tensor):
        return state
    whole = state.full_tensor() if isinstance(state, DTensor) else state
    return whole.detach().cpu() if is_main_process() else None


def _share(value: Any, like: Optional[Tensor]) -> Any:
    """This process's part of a tensor that all have, as ``like`` is shared out."""
    if (
        not isinstance(like, DTensor)
        or not torch.is_tensor(value)
        or value.shape != like.shape
    ):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
