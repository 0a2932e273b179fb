# COCO 2014 with image labels. Expects under data_root:
#   train2014, val2014, annotations/instances_{train,val}2014.json and, for validation
#   alone, SegmentationClass/val2014/*.png (0 = background, 1..80, 255 = ignored), which
#   tools/dataset_converters/coco14.py draws.
# Another place: --cfg-options train_dataloader.dataset.data_root=... and the same for
# val_dataloader and test_dataloader. The 5000 images of val_part:
# --cfg-options val_dataloader.dataset.ann_file=val_part.txt
# Sources: [P] the paper, arXiv 2412.11076; [C] the authors' released code.
dataset_type = 'COCO14ImageLevelDataset'
data_root = 'data/coco2014'
crop_size = (448, 448)  # [P]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomApply',
        prob=0.8,  # [C]
        transforms=[
            dict(
                type='PILColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
            )  # [C]
        ],
    ),
    dict(type='RandomRescale', ratio_range=(0.32, 1.0)),  # [C]
    dict(type='RandomFlip', prob=0.5),  # [C]
    # Zero padding [C] is taken literally: black pixels, before the normalisation. An
    # image smaller than the crop lies in the middle. The padding is not masked out.
    # pad_val=(103.53, 116.28, 123.675), the mean in BGR, pads with zeros after it.
    dict(type='mmpretrain.RandomCrop', crop_size=crop_size, pad_if_needed=True, pad_val=0),
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
    batch_size=2,  # per GPU [C]; the published log has 4 on each of 2
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        # 82081 images, those that show any of the classes [P]
        label_file='annotations/instances_train2014.json',
        data_prefix=dict(img_path='train2014'),
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
        # 40137 images, those that show any of the classes [P]
        label_file='annotations/instances_val2014.json',
        data_prefix=dict(img_path='val2014', seg_map_path='SegmentationClass/val2014'),
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
