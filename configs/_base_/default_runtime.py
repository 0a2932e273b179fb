# [C]: the authors' released code.
custom_imports = dict(imports=['mmseg_more'], allow_failed_imports=False)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
custom_hooks = [
    dict(type='IterationHook'),  # the loss schedule reads the iteration
    dict(type='SanityCheckHook'),
    dict(
        type='LocalizationHook',
        maps=('cam', 'lam', 'fused'),
        cam_scales=(1.0, 0.5, 0.75, 1.5),  # those of the training [C]
        lam_scales=(1.0,),
    ),  # [C]
]
