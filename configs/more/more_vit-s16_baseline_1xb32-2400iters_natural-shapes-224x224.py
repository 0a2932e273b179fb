# The same training without MoRe's regularisation: no GCR, CRE, URE and no
# affinity loss (the baseline of the paper's ablation).
_base_ = './more_vit-s16_1xb32-2400iters_natural-shapes-224x224.py'
model = dict(
    graph=None,
    losses=dict(
        cre=dict(loss_weight=0.0), ure=dict(loss_weight=0.0), ptc=dict(loss_weight=0.0)
    ),
)
