# The same config under a short name.
_base_ = './more_dinov2-b14-reg4_4xb2-80k_coco14-448x448.py'
