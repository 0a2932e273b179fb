# MoRe, DeiT-III, ViT-B/16, COCO 2014. Not trained here: what differs from MoRe's
# ViT-B/16 is said line by line, as chosen (it follows from the pretrained file) or
# guessed. All else, such as rates, thresholds and the beginnings of the losses, is that
# of ViT-B/16, and guessed to fit. File to start from (model.pretrained): the authors'
# deit_3_base_224_21k.pth, or timm's of the same.
_base_ = './more_vit-b16_4xb2-80k_coco14-448x448.py'
model = dict(
    backbone=dict(
        family='deit3',
        # chosen: the grid of the published files of 224 pixels (others: 384)
        img_size=224,
        patch_size=16,
        # guessed: as many as MoRe's ViT has; they start from random tokens
        num_registers=4,
        # guessed: the same depth as of MoRe's ViT
        aux_layer=-3,
    )
)
