# MoRe on the drawn shapes, from scratch, in minutes on two CPU cores: the method
# and the loss weights of more_vit-b_voc.py. What differs is said with its reason.
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/shapes_image_level.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
embed_dims = 96
max_iters = 1650
model = dict(
    num_classes=6,
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        # trained from scratch in minutes: a small ViT, 12 x 12 patches
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
    # CAMs without ImageNet pretraining peak on small parts: lower thresholds. Too
    # low, and a class takes the background along (one of two seeds at high=.2, two
    # of three here, none of three at .35, which is worse in the other seed).
    pseudo_label=dict(
        high=0.25,
        low=0.1,
        cre_high=0.35,
        cam_high=0.35,
        cam_low=0.1,
        switch_iter=800,
        # at half size the image is 48 pixels wide
        par=dict(dilations=(1, 2, 4, 8, 12)),
    ),
    # no pretrained weights: classify first, then localize, then segment
    losses=dict(
        ptc=dict(begin=600),
        cre=dict(begin=600),
        ure=dict(begin=600),
        seg=dict(begin=650),
        energy=dict(begin=1200),
    ),
)
# from scratch: a larger rate, the same for all layers
optim_wrapper = dict(
    optimizer=dict(lr=3e-3),
    paramwise_cfg=dict(
        custom_keys=dict(
            classifier=dict(lr_mult=1.0),
            graph=dict(lr_mult=1.0),
            decode_head=dict(lr_mult=1.0),
        )
    ),
)
param_scheduler = [
    dict(
        type='PolyWarmupLR', warmup_iters=150, warmup_ratio=1e-6, power=0.9, by_epoch=False
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    sanity_check=dict(from_scratch=True),  # random weights are meant
    localization=dict(maps=('cam', 'lam', 'fused', 'attention'), cam_scales=(1.0,)),
    # says which class floods or dies; 2 % of the training
    health=dict(type='HealthHook', interval=100, num_images=32),
)
# the maps' own background thresholds, by the sweep of the run with seed 0
val_evaluator = dict(bkg=dict(cam=0.15, lam=0.5, fused=0.1, attention=0.5))
test_evaluator = val_evaluator
