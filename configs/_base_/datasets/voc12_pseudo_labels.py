# PASCAL VOC 2012 with pseudo labels instead of masks, for the second stage; the pipelines
# are MMSegmentation's, except that LoadMask takes images of one row or column too. The
# masks are written by
#   python tools/test.py configs/more/more_vit-b_voc.py CHECKPOINT --split train \
#       --pseudo-labels work_dirs/more_vit-b_voc/pseudo_labels --source lam --crf
# Another folder: --cfg-options train_dataloader.dataset.pseudo_dir=...; another place of
# the data: train_dataloader.dataset.data_root=... and the same for val_dataloader and
# test_dataloader. Some of VOC's classes: `metainfo` in all three data sets and, where VOC's
# own masks are read (val and test), mask_numbering='dataset'.
_base_ = 'mmseg::_base_/datasets/pascal_voc12.py'
data_root = 'data/VOCdevkit/VOC2012'
pseudo_dir = 'work_dirs/more_vit-b_voc/pseudo_labels'
crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMask'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# Masks keep the size of the image file: metrics are computed there.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadMask'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PseudoLabelDataset',
        pseudo_dir=pseudo_dir,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/train_aug.txt',  # 10582 images
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCImageLevelDataset',  # the true masks
        data_root=data_root,
        data_prefix=dict(xml_path=None),  # no image labels are needed
        ann_file='ImageSets/Segmentation/val.txt',  # 1449 images
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
