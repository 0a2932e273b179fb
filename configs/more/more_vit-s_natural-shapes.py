# The same config under a short name.
_base_ = './more_vit-s16_1xb16-3k_natural-shapes-224x224.py'
