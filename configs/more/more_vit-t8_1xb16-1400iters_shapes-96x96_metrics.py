# MoRe on the drawn shapes, tested by all metrics of the field (docs/quality.md). Numbers
# that depend on the size of the images are chosen for 96 x 96 pixels.
_base_ = './more_vit-t8_1xb16-1400iters_shapes-96x96.py'
bkg = {{_base_.val_evaluator.bkg}}
sources = ('seg', 'cam', 'lam', 'fused', 'attention')
test_evaluator = [
    dict(type='LocalizationMetric', bkg=bkg),
    dict(type='BoundaryIoUMetric', sources=sources, bkg=bkg),
    # a quarter of the validation images' objects is smaller, a quarter larger
    dict(type='ObjectSizeIoUMetric', sources=sources, bkg=bkg, limits=(0.08, 0.16)),
    dict(type='PxAPMetric'),
    dict(type='MaxBoxAccV2Metric'),
    # the share of the image that 15 pixels are of 480
    dict(type='PointingGameMetric', tolerance=3),
]
