# The same config under a short name.
_base_ = './more_dinov2-b14_1xb4-20k_voc12aug-448x448.py'
