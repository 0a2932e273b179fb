"""A training that is the same, bit for bit, however often it was interrupted."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

from mmengine.dist import get_rank
from mmengine.runner import IterBasedTrainLoop, Runner

from mmseg.registry import LOOPS

from .hooks.utils import VALIDATED, innermost
from .randomness import seed_generators
from .sample_stream import SampleStream, SeededSamples

# Ends of the keys of random numbers; that of a sample ends with its position
_STEP, _VALIDATION = 1, 2


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop`` that resumes exactly, and at once.

    A training that was killed and resumed ends with the same bits as one that was not:
    weights, optimizer, losses, and metrics. For this

    * the random numbers of a step are those of (seed, iteration, rank), and those of a
      sample's augmentation are those of (seed, position of the sample in the training):
      there is no state to be lost, and the number of loader workers does not matter;
    * the seed is that of the first start, which MMEngine keeps in the checkpoint, also
      where the config has none;
    * the indices of the sampler are advanced, and no image of the past is loaded;
    * gradients that had been accumulated since the last update of the weights are computed
      again;
    * a validation that was due at the checkpoint's iteration, and is not in the checkpoint,
      is done first: the best score and what hooks remember depend on it.

    ``max_iters`` may be another one when resuming; the log says so.

    Args:
        runner: The runner.
        dataloader: Config of the loader, with a ``sampler``.
        max_iters: Iterations of the training.
        val_begin: First iteration (counted from 1) with a validation. Defaults to 1.
        val_interval: Iterations from one validation to the next. Defaults to 1000.
        dynamic_intervals: Pairs of an iteration and the interval from there on. Defaults
            to None.

    Raises:
        TypeError: If ``dataloader`` is a loader already.

    Example:
        >>> train_cfg = dict(type='ResumableTrainLoop', max_iters=20000, val_interval=2000)
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Dict[str, Any],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Optional[List[Tuple[int, int]]] = None,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError(
                'ResumableTrainLoop makes the loader by itself: give the config of '
                f'train_dataloader, not a {type(dataloader).__name__}, or train with '
                "type='IterBasedTrainLoop'"
            )
        if not isinstance(max_iters, (int, float)) or max_iters < 1:
            raise ValueError(
                'train_cfg.max_iters must be a whole number of at least 1, got '
                f'{max_iters!r}'
            )
        sampler = dataloader.get('sampler')
        self._sampler_has_seed = not isinstance(sampler, dict) or 'seed' in sampler
        super().__init__(
            runner,
            _with_sample_stream(dataloader),
            max_iters,
            val_begin,
            val_interval,
            dynamic_intervals,
        )

    def run(self) -> Any:
        """Train, from the iteration that the runner has resumed."""
        hub = self.runner.message_hub
        # of the checkpoint, as long as no hook has written today's
        planned = hub.get_info('max_iters') if self._iter > 0 else None
        if self._iter > 0:
            self._tell_resumed(planned)
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        # at the end of a training the weights are updated, whatever their turn is
        accumulated = 0 if self._iter == planned else self._num_accumulated()
        self._start_samples(self._iter - accumulated)
        self._accumulate_again(accumulated)
        if self._iter > 0 and hub.get_info(VALIDATED) != self._iter:
            hub.update_info('iter', self._iter - 1)  # as it was when this was due
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """One iteration, with the random numbers of its own."""
        self._seed_step(self._iter)
        super().run_iter(data_batch)

    @property
    def _seed(self) -> int:
        """Seed of the training, the same in all processes."""
        of_rank = bool(self.runner._randomness_cfg.get('diff_rank_seed'))
        return int(self.runner.seed) - of_rank * get_rank()

    def _seed_step(self, iteration: int) -> None:
        seed_generators(self._seed, iteration, get_rank(), _STEP)

    def _tell_resumed(self, planned: Optional[int]) -> None:
        logger = self.runner.logger
        logger.info(f'The training goes on with the seed of its first start, {self._seed}.')
        if planned not in (None, self._max_iters):
            logger.info(
                f'max_iters is {self._max_iters} now and was {planned}: the training ends '
                f'after {self._max_iters} iterations.'
            )
        if self._iter >= self._max_iters:
            logger.info(f'{self._iter} iterations are done, of {self._max_iters}: no more.')

    def _start_samples(self, first: int) -> None:
        """Begin with the batch of an iteration."""
        stream: Any = self.dataloader.batch_sampler
        # built before the runner knew the seed of a training that it resumes
        if not self._sampler_has_seed and hasattr(stream.sampler, 'seed'):
            stream.sampler.seed = self._seed
        stream.start(self._seed, first)
        self.dataloader_iterator = iter(self.dataloader)

    def _num_accumulated(self) -> int:
        """Iterations since the last update of the weights."""
        counts = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        return self._iter % counts if self._iter < self._max_iters else 0

    def _accumulate_again(self, count: int) -> None:
        """Compute the gradients of the last iterations, which no checkpoint holds.

        The weights have not changed since. Buffers, such as the statistics of a batch norm,
        have seen these iterations and are left as they are.
        """
        if not count:
            return
        runner, first = self.runner, self._iter - count
        runner.logger.info(f'The gradients of {count} iterations are accumulated again.')
        model = innermost(runner.model)
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        runner.model.train()
        runner.optim_wrapper.initialize_count_status(runner.model, first, self._max_iters)
        for iteration in range(first, self._iter):
            runner.message_hub.update_info('iter', iteration)
            if hasattr(model, 'iteration'):
                model.iteration = iteration
            batch = next(self.dataloader_iterator)
            self._seed_step(iteration)
            runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        for buffer, before in buffers:
            buffer.copy_(before)

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        runner = self.runner
        if (
            runner.val_loop is None
            or self._iter < self.val_begin
            or self._iter % self.val_interval
            and self._iter != self._max_iters
        ):
            return
        # before it: the checkpoints that hooks write at its end include its results
        runner.message_hub.update_info(VALIDATED, self._iter)
        seed_generators(self._seed, self._iter, get_rank(), _VALIDATION)
        runner.val_loop.run()


def _with_sample_stream(dataloader: Mapping[str, Any]) -> Dict[str, Any]:
    """Config of a loader whose samples come from a :class:`SampleStream`."""
    loader = dict(dataloader)
    stream = dict(type=SampleStream)
    for key in ('drop_last', 'batch_sampler'):
        if key in loader:
            stream[key] = loader.pop(key)
    loader['batch_sampler'] = stream
    loader['dataset'] = dict(type=SeededSamples, dataset=loader['dataset'])
    return loader
