# A template: MoRe, ViT-B/16, on images of your own. Copy it and change its settings.
#
#   data/mine/images/ID.jpg   or .jpeg, .png; ID may lead through folders: roof/img_001
#   data/mine/labels.json     {"ID": ["cat", "dog"], "ID": []}, or labels.csv with the line
#                             image,labels and then a line ID,cat;dog per image
#   data/mine/train.txt       the IDs to train on, one per line
#   data/mine/val.txt         the IDs to validate and test on
#
# No mask is needed. Start from pretrained weights: a ViT-B learns nothing useful from the
# images of one small data set alone.
#   python tools/train.py CONFIG \
#       --cfg-options model.pretrained=jx_vit_base_p16_224-80ecf9dd.pth
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/voc12_image_level.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
data_root = 'data/mine'
classes = ('background', 'cat', 'dog')  # background comes first
label_file = 'labels.json'
train_split = 'train.txt'  # '': all images
val_split = 'val.txt'
# Folder of masks ID.png for the IDs of val.txt (0 background, here 1 cat, 2 dog, 255
# ignored), to measure maps and segmentation. None: the image labels alone are measured.
mask_folder = None
# 20k iterations of batch 4, as for VOC's 10582 images. A shorter schedule moves these too:
# model.losses.{seg,energy}.begin, model.pseudo_label.switch_iter, train_cfg.val_interval.
max_iters = 20000

model = dict(num_classes=len(classes) - 1)
train_cfg = dict(max_iters=max_iters)
_dataset = dict(
    _delete_=True,
    type='ImageLevelDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path=mask_folder),
    label_file=label_file,
    metainfo=dict(classes=classes),
)
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(448, 448), keep_ratio=False),
    *([dict(type='LoadAnnotations')] if mask_folder else []),
    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    dataset=dict(_dataset, ann_file=train_split, pipeline={{_base_.train_pipeline}})
)
val_dataloader = dict(
    dataset=dict(
        _dataset,
        ann_file=val_split,
        test_mode=True,
        with_masks=mask_folder is not None,
        pipeline=val_pipeline,
    )
)
test_dataloader = val_dataloader
if mask_folder is None:
    # precision, recall and F1 of the image labels
    val_evaluator = dict(_delete_=True, type='mmpretrain.MultiLabelMetric')
    test_evaluator = val_evaluator
    # they say nothing about maps: the last checkpoints are kept, not the best one
    default_hooks = dict(checkpoint=dict(save_best=None))
