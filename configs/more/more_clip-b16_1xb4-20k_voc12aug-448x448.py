# MoRe, CLIP, ViT-B/16, PASCAL VOC 2012. Not trained here: what differs from MoRe's
# ViT-B/16 is said line by line, as chosen (it follows from the pretrained file) or
# guessed. All else, such as rates, thresholds and the beginnings of the losses, is that
# of ViT-B/16, and guessed to fit. File to start from (model.pretrained): OpenAI's
# ViT-B-16, or transformers' file of openai/clip-vit-base-patch16.
_base_ = './more_vit-b16_1xb4-20k_voc12aug-448x448.py'
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],  # chosen: CLIP's own
        std=[68.5005327, 66.6321579, 70.32316305],
    ),
    backbone=dict(
        family='clip',
        # chosen: the grid of the published file
        img_size=224,
        patch_size=16,
        # guessed: as many as MoRe's ViT has; they start from the class token
        num_registers=4,
        # guessed: the same depth as of MoRe's ViT
        aux_layer=-3,
    ),
)
