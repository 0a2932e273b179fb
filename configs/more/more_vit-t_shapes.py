# The same config under a short name.
_base_ = './more_vit-t8_1xb16-1400iters_shapes-96x96.py'
