# MMSegmentation's DeepLabV3+ with ResNet-50 on the pseudo labels of PASCAL VOC; its
# model and schedule, on one GPU (batch 16) or, with SyncBN, on several.
# pretrained=None or pretrained=FILE, with --cfg-options model.pretrained=..., where
# download.openmmlab.com is out of reach.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/voc12_pseudo_labels.py',
    'mmseg::_base_/schedules/schedule_20k.py',
    '../_base_/runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
train_dataloader = dict(batch_size=16)  # per GPU; MMSegmentation has 4 on each of 4
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(type='ResumableTrainLoop')
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2, save_best='mIoU', rule='greater'),
    sanity_check=dict(type='SanityCheckHook'),
    finite_loss=dict(type='FiniteLossHook'),  # ends a training whose loss is NaN
    signals=dict(type='SignalHook'),  # SIGTERM, SIGUSR1, Ctrl-C: a checkpoint, and the end
)
