crop_size = (96, 96)
custom_imports = dict(allow_failed_imports=False, imports=['mmseg_more'])
data_preprocessor = dict(
    bgr_to_rgb=True,
    mean=[123.675, 116.28, 103.53],
    pad_val=0,
    seg_pad_val=255,
    size=(448, 448),
    std=[58.395, 57.12, 57.375],
    type='SegDataPreProcessor',
)
data_root = 'data/shapes'
dataset_type = 'VOCImageLevelDataset'
default_hooks = dict(
    broken_images=dict(type='BrokenImagesHook'),
    checkpoint=dict(
        by_epoch=False,
        interval=1400,
        max_keep_ckpts=2,
        rule='greater',
        save_best='seg/mIoU',
        type='CheckpointHook',
    ),
    finite_loss=dict(type='FiniteLossHook'),
    health=dict(interval=100, num_images=32, type='HealthHook'),
    iteration=dict(type='IterationHook'),
    localization=dict(
        cam_scales=(1.0,),
        lam_scales=(1.0,),
        maps=('cam', 'lam', 'fused', 'attention'),
        type='LocalizationHook',
    ),
    logger=dict(interval=50, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    sanity_check=dict(type='SanityCheckHook'),
    signals=dict(type='SignalHook'),
    teacher=dict(gamma=10, momentum=0.01, type='MeanTeacherHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='SegVisualizationHook'),
)
default_scope = 'mmseg'
embed_dims = 96
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
load_from = None
log_level = 'INFO'
log_processor = dict(by_epoch=False)
max_iters = 1400
metainfo = dict(
    classes=('background', 'disk', 'rectangle', 'triangle', 'cross', 'ring', 'hexagon')
)
model = dict(
    backbone=dict(
        arch=dict(embed_dims=96, feedforward_channels=384, num_heads=4, num_layers=4),
        aux_layer=-3,
        img_size=96,
        num_registers=4,
        patch_size=8,
        type='MoReViT',
        with_cp=False,
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[123.675, 116.28, 103.53],
        pad_val=0,
        seg_pad_val=255,
        size=(96, 96),
        std=[58.395, 57.12, 57.375],
        type='SegDataPreProcessor',
    ),
    decode_head=dict(channels=96, type='LargeFOVHead'),
    graph=dict(neighbor_ratio=0.5, type='GraphCategoryRepresentation'),
    localization=dict(chunk_size=None, scales=(1.0,)),
    losses=dict(
        cls=dict(loss_weight=1.0, type='MultiLabelSoftMarginLoss'),
        cls_aux=dict(loss_weight=1.0, type='MultiLabelSoftMarginLoss'),
        cre=dict(begin=75, loss_weight=0.2, temperature=0.5, type='ConfidentRelationLoss'),
        energy=dict(
            begin=600,
            loss_weight=0.05,
            scale_factor=0.5,
            sigma_rgb=15,
            sigma_xy=100,
            type='DenseEnergyLoss',
        ),
        mct=dict(loss_weight=1.0, temperature=0.07, type='TokenDiscriminationLoss'),
        ptc=dict(begin=20, loss_weight=0.6, type='PatchAffinityLoss'),
        seg=dict(begin=300, loss_weight=0.12, type='BalancedCrossEntropyLoss'),
        ure=dict(begin=300, loss_weight=0.1, type='UncertainRelationLoss'),
    ),
    num_classes=6,
    pretrained='/work/main/configs/more/vit-t_other-shapes.pth',
    pseudo_label=dict(
        bkg=0.5,
        cam_high=0.6,
        cam_low=0.35,
        cre_high=0.5,
        high=0.7,
        low=0.25,
        par=dict(dilations=(1, 2, 4, 8, 12)),
        seg_high=0.4,
        seg_low=0.2,
        switch_iter=100,
    ),
    type='MoRe',
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0),
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(betas=(0.9, 0.99), lr=0.001, type='AdamW', weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            classifier=dict(lr_mult=3.0),
            decode_head=dict(lr_mult=3.0),
            graph=dict(lr_mult=3.0),
        )
    ),
    type='OptimWrapper',
)
param_scheduler = [
    dict(
        by_epoch=False, power=0.9, type='PolyWarmupLR', warmup_iters=100, warmup_ratio=1e-06
    )
]
resume = False
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=10,
    dataset=dict(
        ann_file='ImageSets/Segmentation/val.txt',
        data_root='data/shapes',
        label_file='image_labels.json',
        metainfo=dict(
            classes=(
                'background',
                'disk',
                'rectangle',
                'triangle',
                'cross',
                'ring',
                'hexagon',
            )
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=False, scale=(128, 128), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackImageLevelInputs'),
        ],
        test_mode=True,
        type='VOCImageLevelDataset',
    ),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
test_evaluator = dict(
    bkg=dict(attention=0.5, cam=0.2, fused=0.1, lam=0.4), type='LocalizationMetric'
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=False, scale=(128, 128), type='Resize'),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
test_size = (128, 128)
train_cfg = dict(max_iters=1400, type='ResumableTrainLoop', val_interval=1400)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='ImageSets/Segmentation/train.txt',
        data_root='data/shapes',
        label_file='image_labels.json',
        metainfo=dict(
            classes=(
                'background',
                'disk',
                'rectangle',
                'triangle',
                'cross',
                'ring',
                'hexagon',
            )
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                backend='pillow',
                crop_ratio_range=(0.4, 1.0),
                interpolation='bicubic',
                scale=(96, 96),
                type='mmpretrain.RandomResizedCrop',
            ),
            dict(prob=0.5, type='RandomFlip'),
            dict(
                prob=0.5,
                transforms=[
                    dict(
                        brightness=0.3,
                        contrast=0.3,
                        hue=0.5,
                        saturation=0.3,
                        type='PILColorJitter',
                    )
                ],
                type='RandomApply',
            ),
            dict(
                cutout_shape=(16, 16),
                fill_in=(103.53, 116.28, 123.675),
                n_holes=(0, 18),
                prob=1.0,
                type='RandomCutOut',
            ),
            dict(type='PackImageLevelInputs'),
        ],
        type='VOCImageLevelDataset',
    ),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='InfiniteSampler'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        backend='pillow',
        crop_ratio_range=(0.4, 1.0),
        interpolation='bicubic',
        scale=(96, 96),
        type='mmpretrain.RandomResizedCrop',
    ),
    dict(prob=0.5, type='RandomFlip'),
    dict(
        prob=0.5,
        transforms=[
            dict(
                brightness=0.3, contrast=0.3, hue=0.5, saturation=0.3, type='PILColorJitter'
            )
        ],
        type='RandomApply',
    ),
    dict(
        cutout_shape=(16, 16),
        fill_in=(103.53, 116.28, 123.675),
        n_holes=(0, 18),
        prob=1.0,
        type='RandomCutOut',
    ),
    dict(type='PackImageLevelInputs'),
]
tta_model = dict(type='MoReTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        transforms=[
            [
                dict(keep_ratio=False, scale=(128, 128), type='Resize'),
                dict(keep_ratio=False, scale=(160, 160), type='Resize'),
                dict(keep_ratio=False, scale=(192, 192), type='Resize'),
            ],
            [dict(prob=0.0, type='RandomFlip'), dict(prob=1.0, type='RandomFlip')],
            [dict(type='LoadAnnotations')],
            [dict(type='PackImageLevelInputs')],
        ],
        type='TestTimeAug',
    ),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=10,
    dataset=dict(
        ann_file='ImageSets/Segmentation/val.txt',
        data_root='data/shapes',
        label_file='image_labels.json',
        metainfo=dict(
            classes=(
                'background',
                'disk',
                'rectangle',
                'triangle',
                'cross',
                'ring',
                'hexagon',
            )
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=False, scale=(128, 128), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackImageLevelInputs'),
        ],
        test_mode=True,
        type='VOCImageLevelDataset',
    ),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
val_evaluator = dict(
    bkg=dict(attention=0.5, cam=0.2, fused=0.1, lam=0.4), type='LocalizationMetric'
)
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=False, scale=(128, 128), type='Resize'),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    name='visualizer',
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
