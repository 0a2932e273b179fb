# MoRe with ViT-B/16 and the settings for PASCAL VOC (K = 20).
# Sources: [P] the paper, arXiv 2412.11076; [C] the authors' released code.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],  # ImageNet
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=(448, 448),  # training crop [P]
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='MoRe',
    # file of a plain ViT-B/16 to start from, of any origin (docs/backbones.md); [P]:
    # timm's, fine-tuned on ImageNet-1k from 21k (jx_vit_base_p16_224-80ecf9dd.pth)
    pretrained=None,
    # K, foreground classes, background not counted: all parts take it from here, and the
    # number of channels from the backbone
    num_classes=20,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MoReViT',
        arch='base',  # ViT-B/16 [P]
        img_size=224,  # position grid of the pretrained ViT
        patch_size=16,
        num_registers=4,  # [C]
        aux_layer=-3,  # [C]
        # `compile=True`, or a dict of torch.compile's arguments: compiled blocks
        with_cp=False,
    ),  # True: less memory in training, a third more arithmetic
    # neighbor_ratio: [C]; [P] has 392 neighbours among patches
    graph=dict(type='GraphCategoryRepresentation', neighbor_ratio=0.5),
    decode_head=dict(type='LargeFOVHead', channels=512),
    localization=dict(
        scales=(1.0, 0.5, 0.75, 1.5),  # [C]
        chunk_size=None,
    ),  # images per pass without a gradient; None: what is fastest
    pseudo_label=dict(
        high=0.7,
        low=0.25,
        bkg=0.5,  # [C]
        switch_iter=10000,  # [C]: CRE and URE use the final CAM after it
        cre_high=0.5,
        cam_high=0.6,
        cam_low=0.35,
    ),  # [C]
    losses=dict(
        # `begin`: counts while iteration > begin. Weights: [P] section 4.1, [C]
        cls=dict(type='MultiLabelSoftMarginLoss', loss_weight=1.0),
        cls_aux=dict(type='MultiLabelSoftMarginLoss', loss_weight=1.0),
        mct=dict(type='TokenDiscriminationLoss', temperature=0.07, loss_weight=1.0),
        ptc=dict(type='PatchAffinityLoss', loss_weight=0.3),
        cre=dict(type='ConfidentRelationLoss', temperature=0.5, loss_weight=0.2),
        ure=dict(type='UncertainRelationLoss', loss_weight=0.1),
        seg=dict(type='BalancedCrossEntropyLoss', loss_weight=0.12, begin=2000),
        energy=dict(
            type='DenseEnergyLoss',
            sigma_rgb=15,
            sigma_xy=100,
            scale_factor=0.5,
            loss_weight=0.05,
            begin=2000,
        ),
    ),
    # several processes: True lets ptc and seg average over the images of all of them, as
    # one process with all images would; False: over those of each [C]
    sync_counts=False,
)
