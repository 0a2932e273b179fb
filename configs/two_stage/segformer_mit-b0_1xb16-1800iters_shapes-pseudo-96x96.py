# SegFormer-B0 on the pseudo labels of the drawn shapes, from scratch, in minutes on two
# CPU cores. What differs from MMSegmentation's model is said with its reason.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/shapes_pseudo_labels.py',
    '../_base_/schedules/shapes_two_stage.py',
    '../_base_/runtime.py',
]
crop_size = (96, 96)
norm_cfg = dict(type='BN')  # one process
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(drop_path_rate=0.0),  # few iterations
    decode_head=dict(
        num_classes=7,
        channels=64,  # of 256: half of the time
        norm_cfg=norm_cfg,
        dropout_ratio=0.0,
        loss_decode=dict(avg_non_ignore=True),
    ),
)
