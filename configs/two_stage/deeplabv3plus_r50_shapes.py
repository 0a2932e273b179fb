# The same config under a short name.
_base_ = './deeplabv3plus_r50-d16_1xb16-1800iters_shapes-pseudo-96x96.py'
