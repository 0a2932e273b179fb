"""MMEngine's checkpoints, of which the newest whole one is never lost."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mmengine import hooks
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import Runner

from mmseg.registry import HOOKS

from ..checkpoint_files import (
    LAST_CHECKPOINT,
    WholeFileBackend,
    newest_whole,
    remove_temporaries,
)
from ..distributed import on_main_process
from ..spelling import closest
from .utils import trains


class _RemovesLater(WholeFileBackend):
    """Notes which files are to be removed, for when what replaces them is whole."""

    def __init__(self) -> None:
        self.outdated: List[str] = []

    def remove(self, filepath: Union[str, Path]) -> None:
        self.outdated.append(str(filepath))


@HOOKS.register_module()
class CheckpointHook(hooks.CheckpointHook):
    """MMEngine's hook of this name, whose files are whole and whose old ones go last.

    It has the parent's name and arguments: in the scope ``mmseg`` every config that says
    ``CheckpointHook`` gets it once this package is imported.

    * A checkpoint is written beside its final name, and renamed once it is on the disk; so
      are the best one and ``last_checkpoint``. A full disk leaves the earlier file, and
      nothing half-written. What a killed run has left goes at the next start.
    * An old checkpoint is removed when the new one is whole, not before it is written. For
      that moment there is room for one more than ``max_keep_ckpts``.
    * With ``resume`` and no ``load_from``, the newest checkpoint that is whole is taken.
      The log says which ones were skipped.

    Of other backends than local files (``backend_args``, ``file_client_args``) it changes
    nothing.

    Args:
        *args: As in :class:`mmengine.hooks.CheckpointHook`.
        **kwargs: Likewise.

    Raises:
        OSError: While saving; names the file, and what to go on from.
        ValueError: Before training, if there are checkpoints to resume from and none of
            them is whole; after a validation that does not give what ``save_best`` names.

    Example:
        >>> default_hooks = dict(checkpoint=dict(
        ...     type='CheckpointHook', by_epoch=False, interval=2000, max_keep_ckpts=2))
    """

    # declared for the parent, which has no types
    file_backend: Any
    backend_args: Optional[dict]
    last_ckpt: Optional[str]
    _local = False  # whether checkpoints are files of this machine; known before a run

    def before_run(self, runner: Runner) -> None:
        """Have ``last_checkpoint`` name a whole one before MMEngine reads it."""
        folder = Path(runner.work_dir)
        if self.out_dir not in (None, runner.work_dir):
            folder = Path(self.out_dir, folder.name)  # as the parent has it later
        self._local = (
            self.file_client_args is None
            and self.backend_args is None
            and isinstance(get_file_backend(folder), LocalBackend)
        )
        if self._local and trains(runner):  # a test may run beside a training that writes
            self.backend_args = dict(backend=WholeFileBackend.NAME)
            on_main_process(lambda: self._tidy(runner, folder))

    def before_train(self, runner: Runner) -> None:
        """Know the checkpoint that was resumed.

        The parent adds a new best score to the last checkpoint if this process wrote it. In
        a resumed training the first validation may come before the first checkpoint.
        """
        super().before_train(runner)
        if self._local and runner.iter > 0:
            self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')

    def _tidy(self, runner: Runner, folder: Path) -> None:
        for path in remove_temporaries(folder, self.filename_tmpl):
            runner.logger.info(f'{path} was never finished and is removed.')
        if not runner._resume or runner._load_from is not None:
            return
        note = Path(runner.work_dir, LAST_CHECKPOINT)
        name = note.read_text().strip() if note.is_file() else ''
        named = Path(name) if name else None
        found = newest_whole(folder, self.filename_tmpl, named)
        for skipped in found.skipped:
            runner.logger.warning(f'Resume: skipped {skipped}.')
        if found.path is not None and found.path != named:
            WholeFileBackend().put_text(str(found.path), note)
        if found.path is None and found.skipped:
            raise ValueError(
                'resume: no checkpoint is whole: '
                f'{"; ".join(found.skipped)}. Name another one by load_from, or start '
                'without --resume'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated: Optional[int] = None
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids[0]
            self.keep_ckpt_ids.append(step)  # the first one drops out
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self._write(runner, self.filename_tmpl.format(step), meta)
        if outdated is not None and is_main_process():
            Path(self.out_dir, self.filename_tmpl.format(outdated)).unlink(missing_ok=True)

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        """Save a checkpoint to resume from, and say so in ``last_checkpoint``."""
        before = self.last_ckpt
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                note = Path(runner.work_dir, LAST_CHECKPOINT)
                WholeFileBackend().put_text(self.last_ckpt, note)
        except OSError as error:
            whole = f'{before} is whole' if before else 'none was written in this run'
            raise type(error)(
                error.errno,
                f'{error.strerror}: this checkpoint is not written ({whole}); make room '
                'and go on with --resume',
                error.filename,
            ) from error

    def _save_best_checkpoint(self, runner: Runner, metrics: Dict[str, float]) -> None:
        for key in self.key_indicators if self.save_best else ():
            if key != 'auto' and key not in metrics:
                meant = closest(key, metrics)
                raise ValueError(
                    f'save_best={key!r} of the CheckpointHook is no figure of the '
                    'validation'
                    + (f', did you mean {meant!r}?' if meant else '.')
                    + f' There are: {", ".join(metrics) or "none"}'
                )
        if not self._local or not self.save_best:
            super()._save_best_checkpoint(runner, metrics)
            return
        backend, self.file_backend = self.file_backend, _RemovesLater()
        outdated = self.file_backend.outdated
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for path in set(outdated) - set(self._best_paths()):
            Path(path).unlink(missing_ok=True)

    def _best_paths(self) -> List[str]:
        if len(self.key_indicators) == 1:
            return [str(self.best_ckpt_path)]
        return [str(path) for path in self.best_ckpt_path_dict.values()]

    def save_now(self, runner: Runner, iteration: int) -> str:
        """Save a checkpoint between the periodic ones, which a training resumes from.

        Args:
            runner: The runner, in training.
            iteration: How many iterations are done.

        Returns:
            Its path. In a training that counts epochs it is ``iter_N.pth`` and goes on at
            the beginning of the epoch.
        """
        meta = dict(epoch=runner.epoch, iter=iteration)
        if self.by_epoch:
            self._write(runner, f'iter_{iteration}.pth', meta)
        else:
            self._save_checkpoint_with_step(runner, iteration, meta)
        return str(self.last_ckpt)
