# A run of MoRe: what every run needs, and the hooks, MMEngine's and MoRe's. They are
# default_hooks, so that a config (or a command line) with `custom_hooks` of its own loses
# none of them; a config changes one by its key: default_hooks=dict(localization=dict(...)).
# [C]: the authors' released code.
_base_ = './runtime.py'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=2000,
        max_keep_ckpts=2,
        save_best='seg/mIoU',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    iteration=dict(type='IterationHook'),  # says where a resumed training goes on
    sanity_check=dict(type='SanityCheckHook'),
    finite_loss=dict(type='FiniteLossHook'),  # ends a training whose loss is NaN
    signals=dict(type='SignalHook'),  # SIGTERM, SIGUSR1, Ctrl-C: a checkpoint, and the end
    broken_images=dict(type='BrokenImagesHook'),  # names those left out
    progress=dict(type='ProgressHook'),  # of validations and tests
    localization=dict(
        type='LocalizationHook',
        maps=('cam', 'lam', 'fused'),
        cam_scales=(1.0, 0.5, 0.75, 1.5),  # those of the training [C]
        lam_scales=(1.0,),  # [C]
    ),
)
