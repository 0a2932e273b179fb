# MoRe, DINOv3, ViT-B/16, COCO 2014. Not trained here: what differs from MoRe's ViT-B/16
# is said line by line, as chosen (it follows from the pretrained file) or guessed. All
# else, such as rates, thresholds and the beginnings of the losses, is that of ViT-B/16,
# and guessed to fit. File to start from (model.pretrained): the authors'
# dinov3_vitb16_pretrain_lvd1689m, or transformers' or timm's of it.
_base_ = './more_vit-b16_4xb2-80k_coco14-448x448.py'
model = dict(
    backbone=dict(
        family='dinov3',
        # chosen: the published files; positions have no grid, any size is as good
        img_size=224,
        patch_size=16,
        num_registers=4,  # chosen: those of the file
        # guessed: the same depth as of MoRe's ViT
        aux_layer=-3,
    )
)
