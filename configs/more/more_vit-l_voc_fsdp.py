# The same config under a short name.
_base_ = './more_vit-l16_fsdp_2xb2-20k_voc12aug-448x448.py'
