"""Training steps of a tiny MoRe on a fixed batch, in one process or shared by several.

A module of its own, so that other processes import it.
"""

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tiny_model import batch, tiny_config, tiny_model

# two images for each of two processes
BATCHES = dict(
    unequal=([1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]),
    # no negative pair and no foreground in the second process
    empty=([1, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0]),
)
ITERATION = 5000  # of all losses


def share_of_process(labels):
    """Images of the batch, those of this process if there are several."""
    inputs, samples = batch(*labels)
    rank, world_size = get_dist_info()
    size = len(labels) // world_size
    own = slice(rank * size, (rank + 1) * size)
    return inputs[own], samples[own]


def each_loss(labels, sync_counts):
    """Name of a loss -> its value and its gradient alone, means over the processes."""
    net = tiny_model(ITERATION, sync_counts=sync_counts)
    torch.manual_seed(0)
    losses = net.loss(*share_of_process(labels))
    parameters = list(net.parameters())
    found = {}
    for name, loss in losses.items():
        parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        gradient = torch.cat(
            [
                torch.zeros_like(weight).flatten() if part is None else part.flatten()
                for weight, part in zip(parameters, parts)
            ]
        )
        value = loss.detach().clone()
        for figure in (value, gradient):
            all_reduce(figure, 'mean')
        found[name] = (value, gradient)
    return found


def weights_after_an_update(labels, wrap=lambda net: net):
    """Of two accumulated steps, in the second of which ``ptc`` and ``seg`` begin.

    Without URE, and with activation checkpointing.
    """
    cfg = tiny_config()
    cfg.backbone.with_cp = True
    cfg.losses.ure.loss_weight = 0
    for name in ('ptc', 'seg'):
        cfg.losses[name].begin = ITERATION
    net = tiny_model(sync_counts=True, backbone=cfg.backbone, losses=cfg.losses)
    net.data_preprocessor.size = (64, 64)
    trained = wrap(net)
    # plain gradient descent by the rate of 1: the change is the gradient
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=1), accumulative_counts=2)
    inputs, samples = share_of_process(labels)
    images = list(net.denormalize(inputs).round().byte())
    for step in range(2):
        net.iteration = ITERATION + step
        trained.train_step(
            dict(
                inputs=[image.flip(-1) if step else image for image in images],
                data_samples=samples,
            ),
            wrapper,
        )
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def run_rank(rank, world_size, folder):
    """One process of several; writes FOLDER/RANK.pt."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    torch.set_num_threads(1)
    found = {
        kind: dict(
            apart=each_loss(labels, sync_counts=False),
            together=each_loss(labels, sync_counts=True),
            update=weights_after_an_update(labels, MMDistributedDataParallel),
        )
        for kind, labels in BATCHES.items()
    }
    torch.save(found, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()
