# DeepLabV3+ with ResNet-50 on the pseudo labels of the drawn shapes, from scratch, in
# minutes on two CPU cores. What differs from MMSegmentation's model is said with its
# reason.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/shapes_pseudo_labels.py',
    '../_base_/schedules/shapes_two_stage.py',
    '../_base_/runtime.py',
]
crop_size = (96, 96)
norm_cfg = dict(type='BN')  # one process
width = 16  # of 64: channels of the first stage, all others in proportion
model = dict(
    data_preprocessor=dict(size=crop_size),
    pretrained=None,
    backbone=dict(
        base_channels=width,
        stem_channels=width,
        # stride 16: a sixth of 96 pixels is still 6 x 6 at the end
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        in_channels=32 * width,
        channels=4 * width,
        dilations=(1, 2, 3, 4),  # the map is 6 x 6
        c1_in_channels=4 * width,
        c1_channels=32,
        dropout_ratio=0.0,
        num_classes=7,
        norm_cfg=norm_cfg,
        loss_decode=dict(avg_non_ignore=True),
    ),
    auxiliary_head=None,
)
