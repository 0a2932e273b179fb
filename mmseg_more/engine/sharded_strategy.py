"""Weights, gradients and the optimizer's state shared out over the processes (FSDP)."""

import time
from typing import Any, Callable, Optional

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import STRATEGIES
from mmengine.runner.checkpoint import save_checkpoint
from mmengine.utils import get_git_hash
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from ..models.backbones.encoder_layer import EncoderLayer


@STRATEGIES.register_module()
class ShardedStrategy(DDPStrategy):
    """Train with PyTorch's ``fully_shard``, for networks that one GPU does not hold."""

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(get_device())
        model = self.convert_model(model)
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        layers = [module for module in model.modules() if isinstance(module, EncoderLayer)]
        for layer in layers:
            fully_shard(layer, mesh=mesh)
            register_fsdp_forward_method(layer, 'class_attention')
        return fully_shard(model, mesh=mesh)

    def model_state_dict(self) -> dict:
        return _whole(self.model.state_dict())

    def optim_state_dict(self) -> dict:
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
        checkpoint: dict = dict(state_dict=self.model_state_dict())
        if save_optimizer:
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        checkpoint.update(extra_ckpt or {})
        checkpoint.setdefault('meta', {}).update(
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine=mmengine.__version__ + get_git_hash(),
        )
        if callback is not None:
            callback(checkpoint)
        if is_main_process():
            save_checkpoint(checkpoint, filename)

    def load_model_state_dict(self, state_dict: dict, **kwargs) -> None:
        own = self.model.state_dict()
        shared = {name: _share(value, own.get(name)) for name, value in state_dict.items()}
        super().load_model_state_dict(shared, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        weights = [
            weight
            for group in self.optim_wrapper.param_groups
            for weight in group['params']
        ]
        for index, state in state_dict['state'].items():
            for name, value in state.items():
                if torch.is_tensor(value) and value.dim():
                    state[name] = _share(value, weights[index])
        super().load_optim_state_dict(state_dict)


def _whole(state: Any) -> Any:
    """A copy of a state dict, its tensors whole and on the CPU; all processes ask together."""
    if isinstance(state, dict):
        return type(state)((key, _whole(value)) for key, value in state.items())
    if isinstance(state, list):
        return [_whole(value) for value in state]
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    return state.cpu() if isinstance(state, Tensor) else state


def _share(value: Tensor, like: Optional[Tensor]) -> Tensor:
    """This process's part of a tensor that all have, as ``like`` is shared out."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
