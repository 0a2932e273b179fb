# PASCAL VOC 2012 with image labels. Expects under data_root:
#   JPEGImages, Annotations, ImageSets/Segmentation/{train_aug,val}.txt and, for
#   validation alone, SegmentationClass. train_aug.txt is made by
#   tools/dataset_converters/voc.py.
# Another place: --cfg-options train_dataloader.dataset.data_root=... and the same for
# val_dataloader and test_dataloader.
# Sources: [P] the paper, arXiv 2412.11076; [C] the authors' released code.
dataset_type = 'VOCImageLevelDataset'
data_root = 'data/VOCdevkit/VOC2012'
crop_size = (448, 448)  # [P]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=crop_size,
        crop_ratio_range=(0.32, 1.0),  # [C]
        interpolation='bicubic',  # [C]
        backend='pillow',
    ),  # antialiased, as in torchvision
    dict(type='RandomFlip', prob=0.5),  # [C]
    dict(
        type='RandomApply',
        prob=0.5,  # [C]
        transforms=[
            dict(
                type='PILColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
            )  # [C]
        ],
    ),
    dict(type='PackImageLevelInputs'),  # normalised by the data_preprocessor
]
# Masks keep the size of the image file: metrics are computed there.
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),  # [C]
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    batch_size=4,  # [P]
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/train_aug.txt',  # 10582 images [P]
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,  # [C]
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/val.txt',  # 1449 images [P]
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='LocalizationMetric')
test_evaluator = val_evaluator
# tools/test.py --tta: flip sum, maximum over the scales
tta_model = dict(type='MoReTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(side, side), keep_ratio=False)
                for side in (448, 560, 672)  # 1, 1.25, 1.5 [C]
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackImageLevelInputs')],
        ],
    ),
]
