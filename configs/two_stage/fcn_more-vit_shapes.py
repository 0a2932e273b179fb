# The same config under a short name.
_base_ = './fcn_more-vit-t8_1xb16-1800iters_shapes-pseudo-96x96.py'
