"""Vision transformer with one token per class, MoRe section 3.1."""

import functools
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, ModuleList
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg.registry import MODELS

from ...checkpoints import convert_plain_vit
from ...files import read_safetensors
from ..structures import Tokens
from .axial_rope import Rotation, axial_rotation
from .encoder_layer import EncoderLayer
from .families import FAMILIES, Family
from .lora import add_lora, lora_options, merge_lora, plain_names
from .position_resize import resize_by_products, resize_on_gpu

_OFFSET = 0.1  # patches added to the grid that positions are resized to
_INTERPOLATIONS = ('offset', 'size', 'antialias')
_ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


@MODELS.register_module()
class MoReViT(BaseModule):
    """ViT whose extra tokens are R registers and one token per class.

    Token order: registers, classes, patches. Layers and names are mmpretrain's. What the
    families of pretrained ViTs differ in, such as which tokens have a trainable position,
    is said in :data:`~mmseg_more.models.backbones.families.FAMILIES`.

    The segmentor MoRe reads all tokens (:meth:`tokens`). In a stock ``EncoderDecoder``,
    ``out_indices`` makes it give feature maps, as mmpretrain's ViT does with
    ``out_type='featmap'`` (:meth:`feature_maps`).

    Example:
        >>> backbone = dict(type='MoReViT', out_indices=-1)
        >>> decode_head = dict(type='FCNHead', in_channels=768, in_index=-1, channels=256)

    Args:
        arch: Name in the family's table ('base', ...; of 'vit', mmpretrain's: 'deit-tiny',
            ...) or a dict of ``embed_dims, num_layers, num_heads, feedforward_channels``,
            and ``ffn='swiglu'`` where the feed-forward network is gated. Defaults to
            'base'.
        img_size: Side of the square image whose grid the positions
            describe, in pixels. Defaults to None, the family's: 518 of 'dinov2', else 224.
        patch_size: Side of a patch, in pixels. Defaults to None, the family's: 14 of
            'dinov2', else 16.
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
            converted checkpoints depend on, also for a grid of ``(h0, w0)`` unless the
            image is square; 'size' resizes to the target size, and
            'antialias' does so with antialiasing. Defaults to None, the family's: 'offset'
            of 'vit' and 'dinov2', 'size' of 'deit3' and 'clip'.
        with_cp: Activation checkpointing: a training pass keeps the tokens
            between the blocks alone and computes the rest again in the backward
            pass. Passes without a gradient are as ever. Defaults to False.
        compile: Compile the blocks, one by one, with ``torch.compile``: True, or a
            dict of its arguments, for which ``dynamic=True`` is the default, since
            the scales of the CAM passes give several numbers of tokens. Names in
            the state dict stay. Defaults to False.
        pretrained: FILE, short for the ``init_cfg`` that names it; what a segmentor's
            ``pretrained`` becomes. Defaults to None.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` starts from a ViT of the
            family, in the names of its authors, timm, transformers or OpenMMLab (see
            :func:`mmseg_more.checkpoints.convert_plain_vit`). Defaults to None.
        family: 'vit', 'deit3', 'dinov2', 'dinov3' or 'clip'. Defaults to 'vit'.
        frozen_stages: What is not trained: with ``n`` from 0 on the patch embedding, all
            positions, a norm before the blocks and the first ``n`` blocks, which also skip
            nothing (``drop_path_rate``); with all blocks the final norm too. Tokens of
            classes and registers are always trained. -1: everything is. Defaults to -1.
        lora: Arguments of :class:`LoRAOptions`, as in ``dict(rank=8)``: of the backbone,
            additions of low rank to linear layers and the tokens are trained, nothing
            else. Defaults to None.

    Raises:
        ValueError: For an unknown family, arch or option, sizes or indices that do not
            fit, ``frozen_stages`` and ``lora`` together, or ``compile`` with a PyTorch that
            cannot compile modules in place.
    """

    init_cfg: Optional[dict]

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        img_size: Optional[int] = None,
        patch_size: Optional[int] = None,
        num_classes: int = 20,
        num_registers: int = 4,
        aux_layer: int = -3,
        out_indices: Union[int, Sequence[int], None] = None,
        drop_path_rate: float = 0.0,
        interpolate: Optional[str] = None,
        with_cp: bool = False,
        compile: Union[bool, dict] = False,
        pretrained: Optional[str] = None,
        init_cfg: Optional[dict] = None,
        family: str = 'vit',
        frozen_stages: int = -1,
        lora: Optional[dict] = None,
    ) -> None:
        if pretrained is not None:
            if init_cfg is not None:
                raise ValueError('give the backbone pretrained or init_cfg, not both')
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg)
        if family not in FAMILIES:
            raise ValueError(f"unknown family '{family}', choose from {sorted(FAMILIES)}")
        settings = FAMILIES[family]
        img_size = settings.img_size if img_size is None else img_size
        patch_size = settings.patch_size if patch_size is None else patch_size
        arch = _arch_settings(arch, settings)
        depth, dims = arch.pop('num_layers'), arch['embed_dims']
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
        if not -1 <= frozen_stages <= depth:
            raise ValueError(
                f'frozen_stages must be -1 (nothing) to {depth} (all blocks), got '
                f'{frozen_stages}'
            )
        if lora is not None and frozen_stages != -1:
            raise ValueError(
                'give the backbone frozen_stages or lora, not both: with lora everything '
                'is frozen but the additions, whose layers lora.targets name, and tokens'
            )
        self.family = family
        self.interpolate = _interpolation(interpolate, family)
        self.embed_dims = dims
        self.patch_size = patch_size
        self.num_classes = num_classes
        self.num_registers = num_registers
        self.num_extra_tokens = num_registers + num_classes
        self.aux_index = aux_layer % depth
        self.out_indices = None if out_indices is None else _blocks(out_indices, depth)
        self.grid_size = (img_size // patch_size,) * 2

        # No padding: a rest of less than a patch at the border is cut off.
        self.patch_embed = PatchEmbed(
            in_channels=3,
            embed_dims=dims,
            conv_type='Conv2d',
            kernel_size=patch_size,
            stride=patch_size,
            padding=0,
            bias=not settings.pre_norm,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, self.num_extra_tokens, dims))
        # Extra tokens that have a position, the last of them; the first have none.
        self._num_positioned = dict(
            all=self.num_extra_tokens, classes=num_classes, patches=0, none=0
        )[settings.positions]
        self.pos_embed: Optional[nn.Parameter] = None
        if settings.positions != 'none':
            self.pos_embed = nn.Parameter(
                torch.zeros(1, self._num_positioned + self.grid_size[0] ** 2, dims)
            )
        self._rope_base = settings.rope_base
        self.pre_norm = (
            nn.LayerNorm(dims, eps=settings.norm_eps)
            if settings.pre_norm
            else nn.Identity()
        )
        self.layers = ModuleList(
            EncoderLayer(
                **arch,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
                activation=settings.activation,
                norm_eps=settings.norm_eps,
                layer_scale=settings.layer_scale,
                key_bias=settings.key_bias,
            )
            for i in range(depth)
        )
        self.ln1 = nn.LayerNorm(dims, eps=settings.norm_eps)
        if lora is not None:
            add_lora(self, lora_options(lora))
        self.frozen_stages = frozen_stages
        self._freeze(all_but_lora=lora is not None)
        self.with_cp = with_cp
        if compile is not False:
            self._compile_layers({} if compile is True else dict(compile))

    def _freeze(self, all_but_lora: bool) -> None:
        stages = len(self.layers) if all_but_lora else self.frozen_stages
        if stages < 0:
            return
        frozen = [self.patch_embed, self.pre_norm, *self.layers[:stages]]
        if stages == len(self.layers):
            frozen.append(self.ln1)
        for module in frozen:
            module.requires_grad_(False)
        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(False)
        for name, parameter in self.named_parameters() if all_but_lora else ():
            if '.lora_' in name:
                parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> 'MoReViT':
        """Switch between training and evaluation, in which frozen blocks stay."""
        super().train(mode)
        for layer in self.layers[: max(self.frozen_stages, 0)]:
            layer.eval()
        return self

    def merge_lora(self) -> None:
        """Become the backbone without LoRA that computes the same, in faster passes.

        Its state dict is that of a backbone without ``lora``.
        """
        merge_lora(self)

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

    def init_weights(self) -> None:
        """Random start, then the pretrained ViT if ``init_cfg`` names one."""
        pretrained = self.init_cfg
        self.init_cfg = None
        super().init_weights()
        self.init_cfg = pretrained
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.pos_embed is not None:
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
        if filename.endswith('.safetensors'):
            checkpoint = read_safetensors(filename)
        else:
            checkpoint = CheckpointLoader.load_checkpoint(
                filename, map_location='cpu', logger='current'
            )
        target = plain_names(self.state_dict())
        result = convert_plain_vit(
            checkpoint, target, self.num_registers, self.grid_size, self.family
        )
        self.load_state_dict(result.state_dict, strict=False)
        missing = [name for name in target if name not in result.state_dict]
        notes = {record.target: record.note for record in result.records}
        logger.info(
            f'Pretrained ViT {filename}: {len(result.state_dict)} tensors loaded (tokens: '
            f'{notes["cls_token"]}; positions: {notes.get("pos_embed", "none")}). Not '
            f'loaded from the file: {result.dropped or "nothing"}. Not found in the file: '
            f'{missing or "nothing"}.'
        )

    def hidden_bytes(self, size: Sequence[int]) -> int:
        """Bytes of a hidden layer, the widest activation, in float32.

        For one image of ``(H, W)`` pixels.
        """
        patches = (size[0] // self.patch_size) * (size[1] // self.patch_size)
        width = self.layers[0].hidden_channels
        return 4 * width * (self.num_extra_tokens + patches)

    def _positions(self, grid: Tuple[int, int], image_size: Sequence[int]) -> Tensor:
        """Positions for a grid of ``(h, w)`` patches, ``(1, P+N, D)``.

        P extra tokens have one, the last before the patches. They stay as they are if the
        grid is their own and, with an offset, the image of ``(H, W)`` pixels is square: the
        authors' code asks for both, which a side that is no multiple of the patch tells
        apart.
        """
        assert self.pos_embed is not None
        height, width = image_size
        if grid == self.grid_size and (height == width or self.interpolate != 'offset'):
            return self.pos_embed
        if self.pos_embed.is_cuda:
            with torch.autocast('cuda', enabled=False):
                return self._resized_by(resize_on_gpu, grid)
        extra = self._num_positioned
        base = self.pos_embed[:, extra:].transpose(1, 2).unflatten(2, self.grid_size)
        target: Dict[str, Any]
        if self.interpolate == 'offset':
            target = dict(
                scale_factor=tuple(
                    (n + _OFFSET) / n0 for n, n0 in zip(grid, self.grid_size)
                ),
                recompute_scale_factor=False,
            )
        else:
            target = dict(size=grid, antialias=self.interpolate == 'antialias')
        resized = F.interpolate(base, mode='bicubic', align_corners=False, **target)
        return torch.cat(
            [self.pos_embed[:, :extra], resized.flatten(2).transpose(1, 2)], dim=1
        )

    def _resized_by(
        self,
        resize: Callable[[Tensor, Tuple[int, int], float, bool], Tensor],
        grid: Tuple[int, int],
    ) -> Tensor:
        """As :meth:`_positions`, by a function of :mod:`.position_resize`."""
        assert self.pos_embed is not None
        extra = self._num_positioned
        base = self.pos_embed[:, extra:].unflatten(1, self.grid_size)
        offset = _OFFSET if self.interpolate == 'offset' else 0.0
        resized = resize(base, grid, offset, self.interpolate == 'antialias')
        return torch.cat([self.pos_embed[:, :extra], resized.flatten(1, 2)], dim=1)

    def _run(
        self, layer: EncoderLayer, tokens: Tensor, rotation: Optional[Rotation]
    ) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(layer, tokens, rotation, use_reentrant=False)
        return layer(tokens, rotation)

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
        x, grid, rotation = self._embed(images, symbolic)
        extra = self.num_extra_tokens
        aux, attention = x, None
        for index, layer in enumerate(self.layers):
            if with_attention and index == len(self.layers) - 1:
                attention = layer.class_attention(
                    x, self.num_registers, extra, rotation
                ).unflatten(2, grid)
            x = self._run(layer, x, rotation)
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
        x, grid, rotation = self._embed(images)
        maps = []
        for index, layer in enumerate(self.layers):
            x = self._run(layer, x, rotation)
            if index == len(self.layers) - 1:
                x = self.ln1(x)
            if index in (self.out_indices or ()):
                maps.append(self._patch_map(x, grid))
        return tuple(maps)

    def _embed(
        self, images: Tensor, symbolic: bool = False
    ) -> Tuple[Tensor, Tuple[int, int], Optional[Rotation]]:
        """Tokens ``(B, R+K+N, D)`` with positions, the grid ``(h, w)``, and angles."""
        if not symbolic and min(images.shape[-2:]) < self.patch_size:
            raise ValueError(
                f'an image of {images.shape[-2]}x{images.shape[-1]} is '
                f'smaller than one patch ({self.patch_size}); resize it or '
                'drop the smallest scale'
            )
        patches, grid = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], 1)
        grid = tuple(grid)
        if self.pos_embed is not None:
            size = images.shape[-2:]
            if symbolic:
                resize = functools.partial(resize_by_products, image_size=size)
                positions = self._resized_by(resize, grid)
            else:
                positions = self._positions(grid, size)
            without = self.num_extra_tokens - self._num_positioned
            x = x + (F.pad(positions, (0, 0, without, 0)) if without else positions)
        rotation = None
        if self._rope_base is not None:
            heads = self.layers[0].attn.head_dims
            rotation = axial_rotation(
                grid, self.num_extra_tokens, heads, self._rope_base, x.device
            )
        return self.pre_norm(x), grid, rotation

    def _patch_map(self, tokens: Tensor, grid: Tuple[int, int]) -> Tensor:
        return tokens[:, self.num_extra_tokens :].transpose(1, 2).unflatten(2, grid)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """Depth of a parameter, for learning rates that decay from layer to layer.

        Args:
            param_name: Name of the parameter in the model.
            prefix: What the names of this backbone begin with there, ``'backbone.'``.

        Returns:
            Its depth, and the number of depths, which is two more than there are blocks:
            0 for tokens (classes, registers), positions, the patch embedding and a norm
            before the blocks, ``i + 1`` for block ``i``, the last depth for the final norm
            and all outside of the backbone.
        """
        depths = len(self.layers) + 2
        if not param_name.startswith(prefix):
            return depths - 1, depths
        part, *rest = param_name[len(prefix) :].split('.')
        if part in ('cls_token', 'pos_embed', 'patch_embed', 'pre_norm'):
            return 0, depths
        if part == 'layers':
            return int(rest[0]) + 1, depths
        return depths - 1, depths


def _arch_settings(arch: Union[str, dict], family: Family) -> dict:
    """Arguments of the blocks, and their number."""
    if isinstance(arch, str):
        if arch not in family.archs:
            raise ValueError(f"unknown arch '{arch}', choose from {sorted(family.archs)}")
        arch = family.archs[arch]
    elif set(arch) - {'ffn'} != _ARCH_KEYS:
        raise ValueError(
            f'arch as a dict needs exactly the keys {sorted(_ARCH_KEYS)}, and may have '
            f"'ffn', got {sorted(arch)}"
        )
    if arch.get('ffn', 'mlp') not in ('mlp', 'swiglu'):
        raise ValueError(f"arch.ffn must be 'mlp' or 'swiglu', got '{arch['ffn']}'")
    head_dims = arch['embed_dims'] // arch['num_heads']
    if family.rope_base is not None and head_dims % 4:
        raise ValueError(
            f'rotary positions need heads of a multiple of 4 channels, got {head_dims}'
        )
    return dict(arch)


def _interpolation(interpolate: Optional[str], family: str) -> Optional[str]:
    if interpolate is None:
        return FAMILIES[family].interpolate
    if FAMILIES[family].positions == 'none':
        raise ValueError(f"family '{family}' has no positions to resize: no interpolate")
    if interpolate not in _INTERPOLATIONS:
        raise ValueError(
            f'interpolate must be one of {_INTERPOLATIONS}, got {interpolate!r}'
        )
    return interpolate


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
