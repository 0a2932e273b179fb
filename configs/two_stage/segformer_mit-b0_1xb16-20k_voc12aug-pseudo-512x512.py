# MMSegmentation's SegFormer-B0 on the pseudo labels of PASCAL VOC: its model and its
# optimizer, 20k iterations of batch 16 as those of the DeepLabV3+ beside it.
# pretrained=None or pretrained=FILE, with --cfg-options model.pretrained=..., where
# download.openmmlab.com is out of reach.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/voc12_pseudo_labels.py',
    'mmseg::_base_/schedules/schedule_20k.py',
    '../_base_/runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # that of MMSegmentation's SegFormer configs
    pretrained='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/'
    'mit_b0_20220624-7e0fe6dd.pth',
    decode_head=dict(num_classes=21),
)
# as in MMSegmentation's segformer_mit-b0_8xb2-160k_ade20k-512x512.py
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'pos_block': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
            'head': dict(lr_mult=10.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=20000, by_epoch=False),
]
train_dataloader = dict(batch_size=16)  # per GPU
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(type='ResumableTrainLoop')
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2, save_best='mIoU', rule='greater'),
    sanity_check=dict(type='SanityCheckHook'),
    finite_loss=dict(type='FiniteLossHook'),  # ends a training whose loss is NaN
    signals=dict(type='SignalHook'),  # SIGTERM, SIGUSR1, Ctrl-C: a checkpoint, and the end
)
