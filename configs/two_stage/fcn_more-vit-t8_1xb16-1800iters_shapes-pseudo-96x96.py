# Parts of MoRe in a stock model: MMSegmentation's EncoderDecoder with MoRe's backbone and
# head, the energy loss on its segmentation and the affinity loss on its patches, on the
# pseudo labels of the drawn shapes, in minutes on two CPU cores. Every number is a choice
# for this data set.
_base_ = [
    '../_base_/datasets/shapes_pseudo_labels.py',
    '../_base_/schedules/shapes_two_stage.py',
    '../_base_/runtime.py',
]
crop_size = (96, 96)
embed_dims = 96
model = dict(
    type='EncoderDecoder',
    pretrained='{{ fileDirname }}/../more/vit-t_other-shapes.pth',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=crop_size,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='MoReViT',
        arch=dict(
            embed_dims=embed_dims,
            num_layers=4,
            num_heads=4,
            feedforward_channels=4 * embed_dims,
        ),
        img_size=96,
        patch_size=8,
        num_classes=6,  # K, without background: a token each
        out_indices=(1, 3),  # feature maps, as mmpretrain's ViT gives them
    ),
    decode_head=dict(
        type='LargeFOVHead',
        in_channels=embed_dims,
        in_index=-1,
        channels=embed_dims,
        num_classes=7,  # with background, as in every stock head
        loss_decode=[
            dict(type='BalancedCrossEntropyLoss', loss_weight=1.0),
            # needs the images, see `images` below
            dict(type='DenseEnergyLoss', loss_weight=0.05),
        ],
    ),
    auxiliary_head=dict(
        type='PatchAffinityHead',
        in_index=-1,
        loss_decode=dict(type='PatchAffinityLoss', loss_weight=0.3),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(
    # the pretrained layers learn at a third of the rate of the head
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
    clip_grad=dict(max_norm=1.0),
)
# decode heads hand no images to their losses
default_hooks = dict(images=dict(type='LossImagesHook'))
