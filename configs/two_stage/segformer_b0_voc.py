# The same config under a short name.
_base_ = './segformer_mit-b0_1xb16-20k_voc12aug-pseudo-512x512.py'
