# The drawn scenes with pseudo labels instead of masks, for the second stage. The masks
# are written by
#   python tools/test.py configs/more/more_vit-t_shapes.py CHECKPOINT \
#       --pseudo-labels work_dirs/demo/pseudo_labels --split train --source lam --crf
# Another folder: --cfg-options train_dataloader.dataset.pseudo_dir=...
# Every number here is a choice for this data set.
_base_ = './shapes_classes.py'
data_root = 'data/shapes'
pseudo_dir = 'work_dirs/demo/pseudo_labels'
crop_size = (96, 96)  # the size of the images
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMask'),
    dict(type='RandomResize', scale=crop_size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# Masks keep the size of the image file: metrics are computed there.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),
    dict(type='LoadMask'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,  # leaves two cores to the training
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='PseudoLabelDataset',
        pseudo_dir=pseudo_dir,
        data_root=data_root,
        metainfo={{_base_.metainfo}},
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VOCImageLevelDataset',  # the true masks
        data_root=data_root,
        metainfo={{_base_.metainfo}},
        ann_file='ImageSets/Segmentation/val.txt',
        label_file='image_labels.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
