# The same config under a short name.
_base_ = './more_vit-b16_2xb4-published-log-80k_coco14-448x448.py'
