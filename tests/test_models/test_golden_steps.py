"""Whole training steps against the reference (losses, gradients, maps)."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch.testing import assert_close

from golden import LOSS_NAMES, Golden, build_model, data_samples, model_config, normalize
from mmseg_more.checkpoints import convert_official
from mmseg_more.localization.present import present_classes

from mmseg.registry import PARAM_SCHEDULERS

STEPS = ['step_voc_1000', 'step_voc_5000', 'step_voc_10001', 'step_coco_17000']


def _grad_norm(model):
    return torch.stack([p.grad.norm() for p in model.parameters()]).norm().double()


def _official_gradient(model, name):
    """Gradient under an official name, through the converter."""
    official = convert_official({name: torch.zeros(1)})
    return model.get_parameter(next(iter(official))).grad


def _all_losses(meta):
    """The shipped config with every loss switched on, so that all can be
    compared; weights stay."""
    cfg = model_config(meta)
    for loss in cfg.model.losses.values():
        loss.pop('begin', None)
    return cfg


@pytest.mark.parametrize('name', STEPS)
def test_unweighted_losses(name):
    golden = Golden(name)
    meta = golden.meta
    model = build_model(golden, _all_losses(meta))
    weights = {k: m.loss_weight for k, m in model.loss_schedule.losses.items()}
    model.iteration = meta['n_iter']
    torch.manual_seed(meta['seed'] * 1000)
    losses = model.loss(normalize(golden['s0.image_u8']), data_samples(golden['s0.label']))
    for official, ours in LOSS_NAMES.items():
        actual = losses[f'loss_{ours}'].double() / weights[ours]
        assert_close(
            actual.detach(),
            golden[f's0.loss.{official}'],
            rtol=1e-5,
            atol=1e-9,
            msg=lambda m, name=ours: f'{name}: {m}',
        )


@pytest.mark.parametrize('name', STEPS)
def test_total_and_gradients(name):
    golden = Golden(name)
    meta = golden.meta
    model = build_model(golden)
    model.iteration = meta['n_iter']
    torch.manual_seed(meta['seed'] * 1000)
    losses = model.loss(normalize(golden['s0.image_u8']), data_samples(golden['s0.label']))
    total = sum(losses.values())
    assert_close(total.detach().double(), golden['s0.loss.loss'], rtol=1e-5, atol=0)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert_close(_grad_norm(model), golden['s0.grad_norm'], rtol=1e-4, atol=0)
    for key, expected in golden.group('s0.grad.').items():
        actual = _official_gradient(model, key)
        # Single entries of a float32 gradient carry the rounding of the largest.
        assert_close(
            actual,
            expected,
            rtol=1e-4,
            atol=1e-4 * expected.abs().max().item(),
            msg=lambda m, name=key: f'{name}: {m}',
        )


@pytest.mark.parametrize('name', STEPS)
@torch.no_grad()
def test_intermediate_maps_and_labels(name):
    golden = Golden(name)
    model = build_model(golden)
    inputs = normalize(golden['s0.image_u8'])
    labels = golden['s0.label'].float()
    tokens = model.extract_feat(inputs)
    close = dict(rtol=1e-5, atol=1e-5)
    assert_close(tokens.patches, golden['s0.fmap'], **close)
    assert_close(model.class_tokens(tokens), golden['s0.tok'], **close)
    logits, _ = model.image_logits(tokens)
    assert_close(logits, golden['s0.cls'], **close)
    segmentation = model.encode_decode(inputs)[..., ::4, ::4]
    assert_close(segmentation, golden['s0.segs_stride4'], **close)

    cams = model.localizer.training_cams(inputs, tokens)
    assert_close(cams.cam[..., ::4, ::4], golden['s0.cams_stride4'], **close)
    assert_close(cams.cam_aux[..., ::4, ::4], golden['s0.cams_aux_stride4'], **close)

    def same(actual, key):  # ties and thresholds: 0.1 % of the pixels
        wrong = (actual != golden[key].long()).float().mean().item()
        assert wrong <= 1e-3, f'{key}: {wrong:.2%} differ'

    labeler, grid = model.training_labeler, tokens.patches.shape[-2:]
    present = present_classes(labels)
    cams = type(cams)(*map(present.select, cams))
    before = labeler.label(cams, present, grid, labeler.uses_final_cam(0))
    images = model.denormalize(inputs)
    after = labeler.label(cams, present, grid, labeler.uses_final_cam(10**6), images)
    same(before.cre, 's0.l_cle')
    same(before.ure, 's0.l_aux')
    same(before.affinity, 's0.l_aux')
    assert before.segmentation is None
    same(after.cre, 's0.l_cam')
    same(after.ure, 's0.l_cam')
    same(after.affinity, 's0.l_aux')
    same(after.segmentation, 's0.refined')


@pytest.mark.slow
def test_trajectory():
    """Four steps with AdamW across the start of seg and energy."""
    golden = Golden('trajectory_voc_1999')
    meta = golden.meta
    cfg = model_config(meta)
    model = build_model(golden, cfg)
    cfg.optim_wrapper.optimizer.lr = meta['lr']
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    scheduler = PARAM_SCHEDULERS.build(
        dict(cfg.param_scheduler[0], warmup_iters=meta['warmup'], end=meta['max_iter']),
        default_args=dict(optimizer=optimizer),
    )
    for step in range(meta['steps']):
        pre = f's{step}.'
        lr = max(g['lr'] for g in optimizer.optimizer.param_groups) / 10
        assert lr == pytest.approx(golden[pre + 'lr'].item(), rel=1e-6, abs=0)
        model.iteration = meta['n_iter'] + step
        torch.manual_seed(meta['seed'] * 1000 + step)
        losses = model.loss(
            normalize(golden[pre + 'image_u8']), data_samples(golden[pre + 'label'])
        )
        total = sum(losses.values())
        assert_close(total.detach().double(), golden[pre + 'loss.loss'], rtol=1e-4, atol=0)
        for official, ours in LOSS_NAMES.items():
            if f'loss_{ours}' not in losses:
                assert ours in ('seg', 'energy') and model.iteration <= 2000
                continue
            weight = model.loss_schedule[ours].loss_weight
            assert_close(
                losses[f'loss_{ours}'].detach().double() / weight,
                golden[f'{pre}loss.{official}'],
                rtol=1e-3,
                atol=0,
                msg=lambda m, name=f'step {step} {ours}': f'{name}: {m}',
            )
        optimizer.zero_grad()
        total.backward()
        assert_close(_grad_norm(model), golden[pre + 'grad_norm'], rtol=1e-3, atol=0)
        optimizer.step()
        scheduler.step()
    official = golden.group('final.')
    for key, expected in official.items():
        name = next(iter(convert_official({key: torch.zeros(1)})))
        # an Adam step is lr-sized whatever the gradient, so tiny gradients whose
        # sign rounds differently move single weights by up to that
        assert_close(model.get_parameter(name).detach(), expected, rtol=1e-3, atol=1e-4)
