# MoRe with a ViT-S on shapes drawn on photographs: twenty classes, a long tail, classes
# that occur together. The method of the config for VOC; what differs is said with its
# reason, figures are in docs/results.md. For a GPU: minutes there, hours on two CPU
# cores.
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/natural_shapes_image_level.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
max_iters = 2400
model = dict(
    num_classes=20,
    data_preprocessor=dict(size=(224, 224)),
    pretrained=None,  # from random weights: it has to learn the classes first
    backbone=dict(arch='deit-small', img_size=224),
    # In this order, each on what the one before has made reliable, as on the smaller
    # shapes, but after a time of classification alone.
    losses=dict(
        ptc=dict(begin=900),
        cre=dict(begin=1100),
        ure=dict(begin=1300),
        seg=dict(begin=1300),
        energy=dict(begin=1600),
    ),
    # The CAM of a ViT that has seen nothing else has few high values: with the thresholds
    # of VOC, .7 and .25, the labels of the segmentation are background nearly everywhere.
    pseudo_label=dict(seg_high=0.15, seg_low=0.05, switch_iter=1100),
)
# without clipping single steps from random weights are so large that a class jumps
optim_wrapper = dict(
    optimizer=dict(lr=7e-4, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        custom_keys=dict(
            classifier=dict(lr_mult=3.0),
            graph=dict(lr_mult=3.0),
            decode_head=dict(lr_mult=3.0),
        )
    ),
)
train_dataloader = dict(batch_size=32, num_workers=3)
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(
        type='PolyWarmupLR', warmup_iters=200, warmup_ratio=1e-6, power=0.9, by_epoch=False
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    # labels by a moving average of the weights, against classes that flood
    teacher=dict(type='MeanTeacherHook', momentum=0.01, gamma=10),
    health=dict(type='HealthHook', interval=500, num_images=64),
)
