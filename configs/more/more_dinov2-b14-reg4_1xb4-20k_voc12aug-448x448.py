# MoRe, DINOv2 with registers, ViT-B/14, PASCAL VOC 2012. Not trained here: what differs
# from MoRe's ViT-B/16 is said line by line, as chosen (it follows from the pretrained
# file) or guessed. All else, such as rates, thresholds and the beginnings of the
# losses, is that of ViT-B/16, and guessed to fit. File to start from
# (model.pretrained): the authors' dinov2_vitb14_reg4_pretrain.pth, or transformers' or
# timm's of it.
_base_ = './more_vit-b16_1xb4-20k_voc12aug-448x448.py'
model = dict(
    backbone=dict(
        family='dinov2',
        # chosen: the grid of the published files, 37 x 37; a crop of 448 pixels has 32 x 32
        img_size=518,
        patch_size=14,
        num_registers=4,  # chosen: those of the file
        interpolate='antialias',  # chosen: the authors' way with registers
        # guessed: the same depth as of MoRe's ViT
        aux_layer=-3,
    )
)
