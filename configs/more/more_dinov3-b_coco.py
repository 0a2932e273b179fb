# The same config under a short name.
_base_ = './more_dinov3-b16_4xb2-80k_coco14-448x448.py'
