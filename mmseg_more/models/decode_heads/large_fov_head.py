"""DeepLab-LargeFOV segmentation head."""

from typing import List, Union

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS


@MODELS.register_module()
class LargeFOVHead(BaseDecodeHead):
    """Two dilated 3x3 convolutions and a 1x1 classifier, no bias anywhere.

    ``conv3x3 (dilation) D -> channels, ReLU, conv3x3 (dilation) channels ->
    channels, ReLU, conv1x1 channels -> num_classes``; with ``norm_cfg`` a norm before each
    ReLU. A :class:`BaseDecodeHead`, so it also serves in a stock ``EncoderDecoder``.

    Args:
        dilation: Dilation of both 3x3 convolutions. Defaults to 5.
        dropout_ratio: Dropout before the classifier. Defaults to 0.
        kwargs: Arguments of :class:`BaseDecodeHead`: ``in_channels``,
            ``channels``, ``num_classes`` (background included), ``norm_cfg`` (by
            default no norm, as published), ...
    """

    def __init__(self, dilation: int = 5, dropout_ratio: float = 0.0, **kwargs) -> None:
        super().__init__(dropout_ratio=dropout_ratio, **kwargs)
        conv = dict(
            kernel_size=3,
            padding=dilation,
            dilation=dilation,
            bias=False,
            norm_cfg=self.norm_cfg,
        )
        self.conv1 = ConvModule(self.in_channels, self.channels, **conv)
        self.conv2 = ConvModule(self.channels, self.channels, **conv)
        self.conv_seg = nn.Conv2d(
            self.channels, self.out_channels, kernel_size=1, bias=False
        )

    def forward(self, inputs: Union[Tensor, List[Tensor]]) -> Tensor:
        """Segmentation logits at grid size.

        Args:
            inputs: Patch map ``(B, D, h, w)``, or the list of maps that an
                ``EncoderDecoder`` passes.

        Returns:
            Logits ``(B, num_classes, h, w)``, index 0 is background.
        """
        if not isinstance(inputs, Tensor):
            inputs = self._transform_inputs(inputs)
        return self.cls_seg(self.conv2(self.conv1(inputs)))
