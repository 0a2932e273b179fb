# MoRe, ViT-L/16, PASCAL VOC 2012, weights, gradients and Adam's state shared out over the
# GPUs (FSDP; docs/speed.md, "Memory plans"):
#   bash tools/dist_train.sh configs/more/more_vit-l_voc_fsdp.py 2
# Not trained here: all but the network is that of ViT-B/16, and guessed to fit. File to
# start from (model.pretrained): a plain ViT-L/16, as timm's vit_large_patch16_224.
_base_ = './more_vit-b16_1xb4-20k_voc12aug-448x448.py'
model = dict(backbone=dict(arch='large'))
train_dataloader = dict(batch_size=2)  # on each of two GPUs: four together, as published
runner_type = 'ShardedRunner'
strategy = dict(type='ShardedStrategy')
