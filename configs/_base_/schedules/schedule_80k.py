# The schedule of MoRe for COCO: [C] the authors' released code.
_base_ = './schedule_20k.py'
train_cfg = dict(max_iters=80000, val_interval=4000)  # [C]
