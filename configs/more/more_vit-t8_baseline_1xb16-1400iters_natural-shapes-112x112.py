# The same training without MoRe's regularisation: no GCR, CRE, URE and no
# affinity loss (the baseline of the paper's ablation).
_base_ = './more_vit-t8_1xb16-1400iters_natural-shapes-112x112.py'
model = dict(
    graph=None,
    losses=dict(
        cre=dict(loss_weight=0.0), ure=dict(loss_weight=0.0), ptc=dict(loss_weight=0.0)
    ),
)
