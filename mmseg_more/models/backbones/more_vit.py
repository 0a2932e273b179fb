"""Vision transformer with one token per class, MoRe section 3.1."""

from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, ModuleList
from mmengine.runner import CheckpointLoader
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg.registry import MODELS

from ...checkpoints import convert_plain_vit
from ..structures import Tokens
from .encoder_layer import EncoderLayer
from .position_resize import resize_by_products, resize_on_gpu

_OFFSET = 0.1  # patches added to the grid that positions are resized to
_ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


@MODELS.register_module()
class MoReViT(BaseModule):
    """ViT whose extra tokens are R registers and one token per class.

    Token order: registers, classes, patches; each has its own trainable
    position. Layers and names are mmpretrain's.

    The segmentor MoRe reads all tokens (:meth:`tokens`). In a stock ``EncoderDecoder``,
    ``out_indices`` makes it give feature maps, as mmpretrain's ViT does with
    ``out_type='featmap'`` (:meth:`feature_maps`).

    Example:
        >>> backbone = dict(type='MoReViT', out_indices=-1)
        >>> decode_head = dict(type='FCNHead', in_channels=768, in_index=-1, channels=256)

    Args:
        arch: Name in mmpretrain's ViT table ('deit-tiny', 'base', ...) or a
            dict of ``embed_dims, num_layers, num_heads,
            feedforward_channels``. Defaults to 'base'.
        img_size: Side of the square image whose grid the positions
            describe, in pixels. Defaults to 224.
        patch_size: Side of a patch, in pixels. Defaults to 16.
        num_classes: K, without background. Defaults to 20.
        num_registers: R. Defaults to 4.
        aux_layer: Index of the block whose output is the auxiliary patch map.
            Defaults to -3, the third from the end.
        out_indices: Blocks whose patch maps are the output, one index or several,
            negative ones from the end; the last block's map is normed. None: the
            output is :class:`Tokens`, which MoRe needs. Defaults to None.
        drop_path_rate: Stochastic depth of the last block (linear over the
            blocks). Defaults to 0.
        interpolate: How positions are resized to another grid. 'offset' uses
            the scale factor ``((h + 0.1) / h0, (w + 0.1) / w0)`` of the
            reference code, which shifts the sampling grid slightly and which
            converted checkpoints depend on; 'size' resizes to the target size.
            Defaults to 'offset'.
        with_cp: Activation checkpointing: a training pass keeps the tokens
            between the blocks alone and computes the rest again in the backward
            pass. Passes without a gradient are as ever. Defaults to False.
        compile: Compile the blocks, one by one, with ``torch.compile``: True, or a
            dict of its arguments, for which ``dynamic=True`` is the default, since
            the scales of the CAM passes give several numbers of tokens. Names in
            the state dict stay. Defaults to False.
        pretrained: FILE, short for the ``init_cfg`` that names it; what a segmentor's
            ``pretrained`` becomes. Defaults to None.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` starts from a plain
            ViT, in timm's or mmpretrain's names (see
            :func:`mmseg_more.checkpoints.convert_plain_vit`). Defaults to None.

    Raises:
        ValueError: For an unknown arch or option, sizes or indices that do not fit,
            or ``compile`` with a PyTorch that cannot compile modules in place.
    """

    init_cfg: Optional[dict]

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        img_size: int = 224,
        patch_size: int = 16,
        num_classes: int = 20,
        num_registers: int = 4,
        aux_layer: int = -3,
        out_indices: Union[int, Sequence[int], None] = None,
        drop_path_rate: float = 0.0,
        interpolate: str = 'offset',
        with_cp: bool = False,
        compile: Union[bool, dict] = False,
        pretrained: Optional[str] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        if pretrained is not None:
            if init_cfg is not None:
                raise ValueError('give the backbone pretrained or init_cfg, not both')
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg)
        arch = self._arch_settings(arch)
        depth, dims = arch['num_layers'], arch['embed_dims']
        if img_size % patch_size:
            raise ValueError(
                f'img_size ({img_size}) must be a multiple of patch_size ({patch_size})'
            )
        if not -depth <= aux_layer < depth:
            raise ValueError(f'aux_layer {aux_layer} is not one of the {depth} blocks')
        if num_classes < 1 or num_registers < 0:
            raise ValueError(
                'num_classes must be >= 1 and num_registers >= 0,'
                f' got {num_classes} and {num_registers}'
            )
        if interpolate not in ('offset', 'size'):
            raise ValueError(f"interpolate must be 'offset' or 'size', got '{interpolate}'")
        self.embed_dims = dims
        self.patch_size = patch_size
        self.num_classes = num_classes
        self.num_registers = num_registers
        self.num_extra_tokens = num_registers + num_classes
        self.aux_index = aux_layer % depth
        self.out_indices = None if out_indices is None else _blocks(out_indices, depth)
        self.interpolate = interpolate
        self.grid_size = (img_size // patch_size,) * 2

        # No padding: a rest of less than a patch at the border is cut off.
        self.patch_embed = PatchEmbed(
            in_channels=3,
            embed_dims=dims,
            conv_type='Conv2d',
            kernel_size=patch_size,
            stride=patch_size,
            padding=0,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, self.num_extra_tokens, dims))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, self.num_extra_tokens + self.grid_size[0] ** 2, dims)
        )
        self.layers = ModuleList(
            EncoderLayer(
                embed_dims=dims,
                num_heads=arch['num_heads'],
                feedforward_channels=arch['feedforward_channels'],
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )
        self.ln1 = nn.LayerNorm(dims, eps=1e-6)
        self.with_cp = with_cp
        if compile is not False:
            self._compile_layers({} if compile is True else dict(compile))

    def _compile_layers(self, options: dict) -> None:
        """Have each block compiled when it is first called.

        Blocks alike share the compiled code, which is therefore ready after the time
        of one block.
        """
        if not hasattr(nn.Module, 'compile'):
            raise ValueError(
                f'backbone.compile needs PyTorch 2.2 or newer, this is {torch.__version__}'
            )
        for layer in self.layers:
            layer.compile(**{'dynamic': True, **options})

    @staticmethod
    def _arch_settings(arch: Union[str, dict]) -> dict:
        if isinstance(arch, str):
            if arch not in VisionTransformer.arch_zoo:
                raise ValueError(
                    f"unknown arch '{arch}', choose from "
                    f'{sorted(VisionTransformer.arch_zoo)}'
                )
            return VisionTransformer.arch_zoo[arch]
        if set(arch) != _ARCH_KEYS:
            raise ValueError(
                'arch as a dict needs exactly the keys '
                f'{sorted(_ARCH_KEYS)}, got {sorted(arch)}'
            )
        return dict(arch)

    def init_weights(self) -> None:
        """Random start, then the pretrained ViT if ``init_cfg`` names one."""
        pretrained = self.init_cfg
        self.init_cfg = None
        super().init_weights()
        self.init_cfg = pretrained
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if pretrained is None:
            return
        if pretrained.get('type') != 'Pretrained' or not pretrained.get('checkpoint'):
            raise ValueError(
                "init_cfg must be dict(type='Pretrained', checkpoint=FILE), "
                f'got {pretrained}'
            )
        self._load_pretrained(pretrained['checkpoint'])

    def _load_pretrained(self, filename: str) -> None:
        logger = MMLogger.get_current_instance()
        checkpoint = CheckpointLoader.load_checkpoint(
            filename, map_location='cpu', logger='current'
        )
        result = convert_plain_vit(
            checkpoint, self.state_dict(), self.num_registers, self.grid_size
        )
        missing = self.load_state_dict(result.state_dict, strict=False)
        logger.info(
            f'Pretrained ViT {filename}: {len(result.state_dict)} tensors '
            f'loaded (class token and its position repeated for '
            f'{self.num_extra_tokens} tokens). Not loaded from the file: '
            f'{result.dropped or "nothing"}. Not found in the file: '
            f'{missing.missing_keys or "nothing"}.'
        )

    def hidden_bytes(self, size: Sequence[int]) -> int:
        """Bytes of a hidden layer, the widest activation, in float32.

        For one image of ``(H, W)`` pixels.
        """
        patches = (size[0] // self.patch_size) * (size[1] // self.patch_size)
        width = self.layers[0].feedforward_channels
        return 4 * width * (self.num_extra_tokens + patches)

    def _positions(self, grid: Tuple[int, int]) -> Tensor:
        """Positions for a grid of ``(h, w)`` patches, ``(1, R+K+N, D)``."""
        if grid == self.grid_size:
            return self.pos_embed
        if self.pos_embed.is_cuda:
            with torch.autocast('cuda', enabled=False):
                return self._resized_by(resize_on_gpu, grid)
        extra = self.num_extra_tokens
        base = self.pos_embed[:, extra:].transpose(1, 2).unflatten(2, self.grid_size)
        target: Dict[str, Any]
        if self.interpolate == 'size':
            target = dict(size=grid)
        else:
            target = dict(
                scale_factor=tuple(
                    (n + _OFFSET) / n0 for n, n0 in zip(grid, self.grid_size)
                ),
                recompute_scale_factor=False,
            )
        resized = F.interpolate(base, mode='bicubic', align_corners=False, **target)
        return torch.cat(
            [self.pos_embed[:, :extra], resized.flatten(2).transpose(1, 2)], dim=1
        )

    def _resized_by(
        self,
        resize: Callable[[Tensor, Tuple[int, int], float], Tensor],
        grid: Tuple[int, int],
    ) -> Tensor:
        """As :meth:`_positions`, by a function of :mod:`.position_resize`."""
        extra = self.num_extra_tokens
        base = self.pos_embed[:, extra:].unflatten(1, self.grid_size)
        offset = 0.0 if self.interpolate == 'size' else _OFFSET
        resized = resize(base, grid, offset)
        return torch.cat([self.pos_embed[:, :extra], resized.flatten(1, 2)], dim=1)

    def _run(self, layer: EncoderLayer, tokens: Tensor) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(layer, tokens, use_reentrant=False)
        return layer(tokens)

    def forward(
        self, images: Tensor, with_attention: bool = False, symbolic: bool = False
    ) -> Union[Tokens, Tuple[Tensor, ...]]:
        """:meth:`feature_maps` of a backbone with ``out_indices``, else :meth:`tokens`."""
        if self.out_indices is not None:
            return self.feature_maps(images)
        return self.tokens(images, with_attention, symbolic)

    def tokens(
        self, images: Tensor, with_attention: bool = False, symbolic: bool = False
    ) -> Tokens:
        """Encode images for MoRe.

        Args:
            images: Normalised ``(B, 3, H, W)``, both sides at least one patch.
            with_attention: Also return the last block's attention logits.
            symbolic: For exporters, whose graph shall hold for every size: nothing
                depends on the size of ``images`` but shapes, so that it is not
                checked, and positions are resized by matrix products, equal but for
                rounding. Defaults to False.

        Returns:
            Class tokens ``(B, K, D)`` and patches ``(B, D, h, w)`` after the
            final norm, auxiliary patches ``(B, D, h, w)`` without norm, and
            attention ``(B, K, h, w)`` or None.

        Raises:
            ValueError: If an image is smaller than one patch.
        """
        x, grid = self._embed(images, symbolic)
        extra = self.num_extra_tokens
        aux, attention = x, None
        for index, layer in enumerate(self.layers):
            if with_attention and index == len(self.layers) - 1:
                attention = layer.class_attention(x, self.num_registers, extra).unflatten(
                    2, grid
                )
            x = self._run(layer, x)
            if index == self.aux_index:
                aux = x
        x = self.ln1(x)
        patches, aux_patches = (self._patch_map(t, grid) for t in (x, aux))
        return Tokens(x[:, self.num_registers : extra], patches, aux_patches, attention)

    def feature_maps(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Encode images for any decode head.

        Args:
            images: Normalised ``(B, 3, H, W)``, both sides at least one patch.

        Returns:
            Patch maps ``(B, D, h, w)`` of the blocks ``out_indices`` in their order in
            the network, that of the last block after the final norm.

        Raises:
            ValueError: If an image is smaller than one patch.
        """
        x, grid = self._embed(images)
        maps = []
        for index, layer in enumerate(self.layers):
            x = self._run(layer, x)
            if index == len(self.layers) - 1:
                x = self.ln1(x)
            if index in (self.out_indices or ()):
                maps.append(self._patch_map(x, grid))
        return tuple(maps)

    def _embed(
        self, images: Tensor, symbolic: bool = False
    ) -> Tuple[Tensor, Tuple[int, int]]:
        """Tokens ``(B, R+K+N, D)`` with their positions, and the grid ``(h, w)``."""
        if not symbolic and min(images.shape[-2:]) < self.patch_size:
            raise ValueError(
                f'an image of {images.shape[-2]}x{images.shape[-1]} is '
                f'smaller than one patch ({self.patch_size}); resize it or '
                'drop the smallest scale'
            )
        patches, grid = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], 1)
        grid = tuple(grid)
        positions = (
            self._resized_by(resize_by_products, grid)
            if symbolic
            else self._positions(grid)
        )
        return x + positions, grid

    def _patch_map(self, tokens: Tensor, grid: Tuple[int, int]) -> Tensor:
        return tokens[:, self.num_extra_tokens :].transpose(1, 2).unflatten(2, grid)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """Depth of a parameter, for learning rates that decay from layer to layer.

        Args:
            param_name: Name of the parameter in the model.
            prefix: What the names of this backbone begin with there, ``'backbone.'``.

        Returns:
            Its depth, and the number of depths, which is two more than there are blocks:
            0 for tokens (classes, registers), positions and the patch embedding, ``i + 1``
            for block ``i``, the last depth for the final norm and all outside of the
            backbone.
        """
        depths = len(self.layers) + 2
        if not param_name.startswith(prefix):
            return depths - 1, depths
        part, *rest = param_name[len(prefix) :].split('.')
        if part in ('cls_token', 'pos_embed', 'patch_embed'):
            return 0, depths
        if part == 'layers':
            return int(rest[0]) + 1, depths
        return depths - 1, depths


def _blocks(indices: Union[int, Sequence[int]], depth: int) -> Tuple[int, ...]:
    """Indices of blocks, counted from the start."""
    indices = [indices] if isinstance(indices, int) else list(indices)
    wrong = [index for index in indices if not -depth <= index < depth]
    if wrong or not indices:
        raise ValueError(
            f'out_indices must name some of the {depth} blocks, {-depth} to {depth - 1}, '
            f'got {indices}'
        )
    return tuple(index % depth for index in indices)
