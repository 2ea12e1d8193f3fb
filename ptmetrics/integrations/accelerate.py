"""A monitor in a loop of Accelerate: `Monitor.attach` of what `Accelerator.prepare` returns."""

from typing import Any

from torch import nn

from ptmetrics.monitor.hooks import Attachment
from ptmetrics.monitor.monitor import Monitor


def attach_prepared(
    monitor: Monitor, accelerator: Any, model: nn.Module, *, optimizer: Any = None, **options: Any
) -> Attachment:
    """Attach a prepared model and optimizer, and store the run with `accelerator.save_state`.

    Prepared loaders go to `monitor.train` and `monitor.validate` as they are: rows by which
    `even_batches` fills up the last batch of a rank are not counted. Nothing is to be gathered.

    Args:
        monitor: Made behind the accelerator, on each rank.
        accelerator: What has prepared the others.
        model: As prepared.
        optimizer: As prepared, of which the steps are counted that it really does.
        options: All else that `Monitor.attach` takes.

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> import ptmetrics as pm
        >>> accelerator = Accelerator(cpu=True)
        >>> data = torch.utils.data.TensorDataset(torch.randn(10, 4), torch.zeros(10).long())
        >>> model, loader = torch.nn.Linear(4, 2), torch.utils.data.DataLoader(data, 4)
        >>> model, loader = accelerator.prepare(model, loader)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
        >>> with attach_prepared(monitor, accelerator, model.eval()):
        ...     for inputs, target in monitor.validate(loader):
        ...         _ = model(inputs)
        ...     monitor.end_epoch()["val/accuracy"].n
        10
    """
    accelerator.register_for_checkpointing(monitor)
    return monitor.attach(model, optimizer=optimizer, **options)
