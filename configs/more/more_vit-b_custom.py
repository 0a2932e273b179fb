# A template: MoRe, ViT-B/16, on images of your own. Copy it and change its settings; or let
#   python -m mmseg_more make_config IMAGES LABELS --out mine.py
# write a config that fits the images.
#
#   data/mine/images/ID.jpg   or .png, .webp, ...; ID may lead through folders: roof/img_001
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
train_pipeline = [
    dict(type='LoadAnyImage'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=(448, 448),
        crop_ratio_range=(0.32, 1.0),
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(
                type='PILColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
            )
        ],
    ),
    dict(type='PackImageLevelInputs'),
]
val_pipeline = [
    dict(type='LoadAnyImage'),
    dict(type='Resize', scale=(448, 448), keep_ratio=False),
    *([dict(type='LoadMask')] if mask_folder else []),
    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    dataset=dict(_dataset, ann_file=train_split, pipeline=train_pipeline)
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
    # precision, recall, F1 and mAP of the image labels; maps are judged by health/score
    val_evaluator = [
        dict(type='mmpretrain.MultiLabelMetric', thr=0.5),
        dict(type='mmpretrain.AveragePrecision'),
    ]
    test_evaluator = val_evaluator
    tta_pipeline = [
        dict(type='LoadAnyImage'),
        dict(
            type='TestTimeAug',
            transforms=[
                [
                    dict(type='Resize', scale=(side, side), keep_ratio=False)
                    for side in (448, 560, 672)
                ],
                [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
                [dict(type='PackImageLevelInputs')],
            ],
        ),
    ]
    default_hooks = dict(
        checkpoint=dict(save_best='health/score'), health=dict(type='HealthHook')
    )
