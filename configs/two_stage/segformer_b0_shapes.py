# The same config under a short name.
_base_ = './segformer_mit-b0_1xb16-1800iters_shapes-pseudo-96x96.py'
