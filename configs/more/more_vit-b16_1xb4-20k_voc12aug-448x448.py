# MoRe, ViT-B/16, PASCAL VOC 2012: 20k iterations, batch 4 on one GPU.
_base_ = [
    '../_base_/models/more_vit-b.py',
    '../_base_/datasets/voc12_image_level.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
