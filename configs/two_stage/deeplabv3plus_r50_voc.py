# The same config under a short name.
_base_ = './deeplabv3plus_r50-d8_1xb16-20k_voc12aug-pseudo-512x512.py'
