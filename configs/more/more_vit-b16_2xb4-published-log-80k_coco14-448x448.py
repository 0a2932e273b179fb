# COCO with the loss weights of the authors' published training log: no URE, a
# smaller CRE, and no delay. Batch 4 x 2 GPUs.
_base_ = './more_vit-b16_4xb2-80k_coco14-448x448.py'
model = dict(
    losses=dict(
        ptc=dict(loss_weight=0.3, begin=None),
        cre=dict(loss_weight=0.05, begin=None),
        ure=dict(loss_weight=0.0, begin=None),
        seg=dict(loss_weight=0.12, begin=None),
        energy=dict(loss_weight=0.05, begin=None),
    )
)
train_dataloader = dict(batch_size=4)
