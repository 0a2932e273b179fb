# MoRe on the drawn shapes, in minutes on two CPU cores: the method of the config for VOC.
# What differs is said with its reason; figures and their seeds are in docs/results.md.
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/shapes_image_level.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
embed_dims = 96
max_iters = 1400
model = dict(
    num_classes=6,
    # The published method starts from a ViT that has learned the categories of ImageNet;
    # this one has learned fourteen other shapes, from image labels alone:
    # tools/analysis/pretrain_shapes.py
    pretrained='{{ fileDirname }}/vit-t_other-shapes.pth',
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        # trained in minutes: a small ViT, 12 x 12 patches
        arch=dict(
            _delete_=True,
            embed_dims=embed_dims,
            num_layers=4,
            num_heads=4,
            feedforward_channels=4 * embed_dims,
        ),
        img_size=96,
        patch_size=8,
    ),
    decode_head=dict(channels=embed_dims),
    # other scales cost half of the step and gain little on objects of one range
    localization=dict(scales=(1.0,)),
    # Thresholds are those of VOC, but for the segmentation's labels, which a higher one
    # leaves too small. CRE and URE take the final CAM as soon as the affinity loss has
    # cleaned it: the auxiliary CAM, after two blocks, floods more easily.
    pseudo_label=dict(
        seg_high=0.4,
        seg_low=0.2,
        switch_iter=100,
        # at half size the image is 48 pixels wide
        par=dict(dilations=(1, 2, 4, 8, 12)),
    ),
    # In this order, each on what the one before has made reliable. The affinity loss keeps
    # the CAM from spreading over the background, so it comes at once and with a larger
    # weight. URE pulls uncertain patches towards the class tokens: before CRE has taught
    # those what their class looks like, it makes a class flood the background.
    losses=dict(
        ptc=dict(begin=20, loss_weight=0.6),
        cre=dict(begin=75),
        ure=dict(begin=300),
        seg=dict(begin=300),
        energy=dict(begin=600),
    ),
)
# The pretrained layers learn at a third of the rate of the new ones. Without the clipping,
# and with AdamW's slow second moment, single steps are so large that a class jumps.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        custom_keys=dict(
            classifier=dict(lr_mult=3.0),
            graph=dict(lr_mult=3.0),
            decode_head=dict(lr_mult=3.0),
        )
    ),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(
        type='PolyWarmupLR', warmup_iters=100, warmup_ratio=1e-6, power=0.9, by_epoch=False
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    localization=dict(maps=('cam', 'lam', 'fused', 'attention'), cam_scales=(1.0,)),
    # Labels by a moving average of the weights over a hundred iterations, against classes
    # that flood: a jump of the maps is no label before it has lasted. The average begins
    # short: it spans a tenth of the iterations so far.
    teacher=dict(type='MeanTeacherHook', momentum=0.01, gamma=10),
    # says which class floods or dies; 2 % of the training
    health=dict(type='HealthHook', interval=100, num_images=32),
)
# the maps' own background thresholds, by the sweep of seeds 0 to 3 on data of their own
val_evaluator = dict(bkg=dict(cam=0.2, lam=0.4, fused=0.1, attention=0.5))
test_evaluator = val_evaluator
