# The small ViT of the drawn shapes on the twenty classes on photographs: without a GPU, in
# about 20 minutes on a CPU core. What differs from the drawn shapes is said with its
# reason; figures and their seeds are in docs/results.md.
_base_ = [
    './more_vit-t8_1xb16-1400iters_shapes-96x96.py',
    '../_base_/datasets/natural_shapes_classes.py',
]
data_root = 'data/natural_shapes'
crop_size = (112, 112)  # half of the images: 14 x 14 patches
# The crops magnify objects by 1.25 on average, so images are tested larger.
test_size = (144, 144)
model = dict(
    num_classes=20,
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=112),
    # Twenty classes take longer to tell apart: in the first 200 iterations a class or two
    # covers most of its images, and what begins by then makes it last.
    pseudo_label=dict(switch_iter=400),
    losses=dict(
        ptc=dict(begin=200),
        cre=dict(begin=400),
        ure=dict(begin=600),
        seg=dict(begin=600),
        energy=dict(begin=1000),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=crop_size,
        crop_ratio_range=(0.4, 1.0),
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(
                type='PILColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.5
            )
        ],
    ),
    # hidden parts make the CAM find the others
    dict(
        type='RandomCutOut',
        prob=1.0,
        n_holes=(0, 18),
        cutout_shape=(16, 16),
        fill_in=(103.53, 116.28, 123.675),
    ),
    dict(type='PackImageLevelInputs'),  # normalised by the data_preprocessor
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_size, keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo={{_base_.natural_metainfo}}, pipeline=train_pipeline
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo={{_base_.natural_metainfo}}, pipeline=val_pipeline
    )
)
test_dataloader = val_dataloader
# tools/test.py --tta: flip sum, maximum over the scales
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(side, side), keep_ratio=False)
                for side in (144, 176, 216)  # 1, about 1.25, 1.5: multiples of 8
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackImageLevelInputs')],
        ],
    ),
]
