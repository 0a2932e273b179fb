# AdamW and the schedule of MoRe for VOC: [C] the authors' released code.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedOptimWrapperConstructor',  # a group per rate
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),  # [C]
    # new layers learn ten times as fast as the pretrained backbone [C]
    paramwise_cfg=dict(
        custom_keys={
            'classifier': dict(lr_mult=10.0),  # both classifiers
            'graph': dict(lr_mult=10.0),
            'decode_head': dict(lr_mult=10.0),
        }
    ),
)
param_scheduler = [
    dict(
        type='PolyWarmupLR',
        warmup_iters=1500,  # [C]
        warmup_ratio=1e-6,
        power=0.9,
        by_epoch=False,
    )
]
# --auto-scale-lr: the rates times the batch size of all GPUs together / this one [P]
auto_scale_lr = dict(enable=False, base_batch_size=4)
train_cfg = dict(type='ResumableTrainLoop', max_iters=20000, val_interval=2000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
