# PASCAL VOC 2012 with pseudo labels instead of masks, for the second stage; the pipelines
# are MMSegmentation's. The masks are written by
#   python tools/test.py configs/more/more_vit-b_voc.py CHECKPOINT \
#       --pseudo-labels work_dirs/more_vit-b_voc/pseudo_labels \
#       --split train --source lam --crf
# Another folder: --cfg-options train_dataloader.dataset.pseudo_dir=...; another place of
# the data: train_dataloader.dataset.data_root=... and the same for val_dataloader and
# test_dataloader.
_base_ = 'mmseg::_base_/datasets/pascal_voc12.py'
data_root = 'data/VOCdevkit/VOC2012'
pseudo_dir = 'work_dirs/more_vit-b_voc/pseudo_labels'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PseudoLabelDataset',
        pseudo_dir=pseudo_dir,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/train_aug.txt',  # 10582 images
        pipeline={{_base_.train_pipeline}},
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
        pipeline={{_base_.test_pipeline}},
    )
)
test_dataloader = val_dataloader
