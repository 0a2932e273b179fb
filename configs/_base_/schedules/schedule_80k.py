# The schedule of MoRe for COCO: [C] the authors' released code.
_base_ = './schedule_20k.py'
auto_scale_lr = dict(base_batch_size=8)  # 4 on each of 2 GPUs, of the published log [C]
train_cfg = dict(max_iters=80000, val_interval=4000)  # [C]
