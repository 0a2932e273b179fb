# Twenty classes of shapes on photographs, 224 pixels, with image labels, in the layout of
# VOC 2012. They are written by
#   python tools/dataset_converters/make_shapes.py data/natural_shapes --scenes natural \
#       --num-train 3000 --num-val 300
# Every number here is a choice for this dataset.
_base_ = './natural_shapes_classes.py'
dataset_type = 'VOCImageLevelDataset'
data_root = 'data/natural_shapes'
crop_size = (224, 224)  # the size of the images
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
        cutout_shape=(32, 32),
        fill_in=(103.53, 116.28, 123.675),
    ),
    dict(type='PackImageLevelInputs'),  # normalised by the data_preprocessor
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo={{_base_.natural_metainfo}},
        ann_file='ImageSets/Segmentation/train.txt',
        label_file='image_labels.json',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo={{_base_.natural_metainfo}},
        ann_file='ImageSets/Segmentation/val.txt',
        label_file='image_labels.json',
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
                for side in (224, 288, 336)  # 1, about 1.25, 1.5: multiples of 16
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackImageLevelInputs')],
        ],
    ),
]
