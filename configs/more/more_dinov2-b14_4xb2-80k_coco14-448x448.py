# MoRe, DINOv2, ViT-B/14, COCO 2014. Not trained here: what differs from MoRe's ViT-B/16
# is said line by line, as chosen (it follows from the pretrained file) or guessed. All
# else, such as rates, thresholds and the beginnings of the losses, is that of ViT-B/16,
# and guessed to fit. File to start from (model.pretrained): the authors'
# dinov2_vitb14_pretrain.pth, or transformers' or timm's of the same.
_base_ = './more_vit-b16_4xb2-80k_coco14-448x448.py'
model = dict(
    backbone=dict(
        family='dinov2',
        # chosen: the grid of the published files, 37 x 37; a crop of 448 pixels has 32 x 32
        img_size=518,
        patch_size=14,
        # guessed: as many as MoRe's ViT has; they start from random tokens
        num_registers=4,
        # guessed: the same depth as of MoRe's ViT
        aux_layer=-3,
    )
)
