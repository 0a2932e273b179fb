# MoRe, ViT-B/16, COCO 2014: 80k iterations, batch 2 per GPU, with the loss
# weights of the authors' released script [C]. The weights of the published
# log are in more_vit-b16_2xb4-published-log-80k_coco14-448x448.py. The learning
# rate is meant for 8 images in each step, which 4 GPUs give.
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/coco14_image_level.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    num_classes=80,
    localization=dict(scales=(1.0, 0.5, 0.75, 1.25, 1.5)),  # [C]
    pseudo_label=dict(high=0.65, low=0.25, bkg=0.45, switch_iter=50000),  # [C]
    losses=dict(
        ptc=dict(loss_weight=0.3, begin=8000),
        cre=dict(temperature=0.1, loss_weight=0.1, begin=12000),
        ure=dict(loss_weight=0.01, begin=12000),
        seg=dict(loss_weight=0.12, begin=16000),
        energy=dict(loss_weight=0.05, begin=16000),
    ),
)
default_hooks = dict(
    checkpoint=dict(interval=4000),  # [C]
    localization=dict(cam_scales=(1.0, 0.5, 0.75, 1.25, 1.5)),  # [C]
)
val_evaluator = dict(bkg=0.45)  # [C]
test_evaluator = val_evaluator
