"""The processes of a run, on `accelerate`: alone, DDP, FSDP2 or sequences split; the same loop runs in each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from gossamer.devices import devices_there
from gossamer.errors import InputError
from gossamer.layers import SequenceSplit
from gossamer.models.model import Model
from gossamer.models.output import Output

__all__ = ["Processes", "full_state", "used_apart", "whole"]


class Processes:
    """This process among those that torchrun or `accelerate launch` started, the first and only one where none did.

    `accelerate` finds the device, joins the processes (gloo on CPUs, NCCL on GPUs) and wraps the model for DDP. FSDP2
    is torch's `fully_shard` itself: accelerate's plugin leaves it out where the processes run on CPUs.
    """

    def __init__(self, parallel: str = "ddp", device: str | None = None) -> None:
        from accelerate import Accelerator

        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        _check_device(device)
        on_cpu = device == "cpu" or not torch.accelerator.is_available()
        self._accelerator = Accelerator(cpu=several and on_cpu, mixed_precision="no")
        self.device = torch.device("cpu") if on_cpu else self._accelerator.device
        self.rank = self._accelerator.process_index
        self.count = self._accelerator.num_processes
        self.sharded = self.count > 1 and (parallel == "fsdp2" or _launched_for_fsdp2())
        self.splits = self.count > 1 and parallel == "sequence"
        if self.splits and self.sharded:
            raise InputError("parallel is 'sequence', and accelerate launched the processes for FSDP: take one of them")

    @classmethod
    def alone(cls, device: torch.device) -> Processes:
        """This process by itself, whatever was started beside it: for a reading that the others take no part in."""
        one = cls.__new__(cls)
        one.device, one.rank, one.count, one.sharded, one.splits = device, 0, 1, False, False
        return one

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @property
    def reader(self) -> tuple[int, int]:
        """Which rows this process reads: those of this number among so many; of split sequences all read all."""
        return (0, 1) if self.splits else (self.rank, self.count)

    @property
    def names_of_parallel(self) -> str:
        """How the processes share the work, for a receipt."""
        how = "FSDP2" if self.sharded else "split sequences" if self.splits else "DDP"
        return "one process" if self.count == 1 else f"{self.count} processes, {how}"

    def wrap(self, model: Model, loss: Callable[[], Tensor]) -> nn.Module:
        """The model on its device, ready for gradients that are shared; `model` keeps its names, and its parameters.

        loss: of a row, with which DDP finds out whether all parameters get gradients.
        """
        from accelerate.utils import DistributedDataParallelKwargs

        model.to(self.device)
        if self.sharded:
            _shard(model, self.device, self.count)
            return model
        if self.count == 1:
            return model
        if self.splits:
            model.split = SequenceSplit(rank=self.rank, count=self.count)
        unused = _leaves_some_alone(model, loss)
        self._accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=unused)
        return cast(nn.Module, self._accelerator.prepare_model(model, device_placement=False))

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around a micro-batch: gradients travel with the last one alone."""
        if self.sharded:
            cast(Any, model).set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last or self.count == 1 else cast(Any, model).no_sync()

    def reshard(self, model: Model) -> None:
        """Give up what FSDP2 gathered and still holds, so that what is written to the pieces is read next."""
        if self.sharded:
            for part in _sharded_parts(model):
                part.reshard()

    @property
    def gradient_share(self) -> float:
        """What a local loss is to be multiplied by, so that gradients add up over the processes: DDP averages them."""
        return 1.0 if self.sharded else float(self.count)

    def clip(self, parameters: Iterable[nn.Parameter], most: float | None) -> float:
        """Scale all gradients to a global norm of at most `most`; the norm before that."""
        limit = float("inf") if most is None else most
        norm = self._accelerator.clip_grad_norm_([one for one in parameters if one.grad is not None], limit)
        return float(whole(cast(Tensor, norm)))

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in float64 where the device has it."""
        if self.count == 1:
            return list(numbers)
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        mine = torch.tensor(numbers, dtype=kind, device=self.device)
        return cast(list[float], cast(Tensor, self._accelerator.reduce(mine, reduction="sum")).tolist())

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order; each has equally many."""
        return rows if self.count == 1 else cast(Tensor, self._accelerator.gather(rows.contiguous()))

    def gathered(self, values: list[Any]) -> list[Any]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        return cast(list[Any], gather_object(values))

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block before the others do."""
        with self._accelerator.main_process_first():
            yield

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without FSDP2's warning of views: a map's result may be one, but nothing in the model changes it in place.

        The caller's own filters of warnings are as they were when the block ends.
        """
        with warnings.catch_warnings() if self.sharded else nullcontext():
            if self.sharded:
                warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            yield

    def wait(self) -> None:
        """Return when all processes have come here."""
        self._accelerator.wait_for_everyone()


@contextmanager
def used_apart(model: Model, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """DDP knows, inside the block, that a loss uses these parameters apart from the model's pass.

    Where others get no gradients DDP looks for those that do in what the pass gives: a 0 made of these is added to it.
    """
    learning = [one for one in parameters if one.requires_grad]

    def show(_model: nn.Module, _given: object, out: Output) -> Output:
        states = out.last_hidden_state
        if states is None or not learning:
            return out
        nothing = torch.stack([one.flatten()[0] for one in learning]).sum() * 0.0
        return replace(out, last_hidden_state=states + nothing.to(states.dtype))

    handle = model.register_forward_hook(show)
    try:
        yield
    finally:
        handle.remove()


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process holds a part, put together; every process has to call it."""
    return cast(Tensor, cast(Any, tensor).full_tensor()) if hasattr(tensor, "full_tensor") else tensor


def _check_device(device: str | None) -> None:
    if device is not None and device not in devices_there():
        raise InputError(f"device is {device!r}; this machine has {', '.join(devices_there())}")


def _launched_for_fsdp2() -> bool:
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    version = os.environ.get("FSDP_VERSION", "2")
    if version != "2":
        raise InputError(
            f"FSDP_VERSION is {version}; Gossamer shards with version 2: accelerate config, FSDP version 2"
        )
    return True


def _leaves_some_alone(model: Model, loss: Callable[[], Tensor]) -> bool:
    """Whether parameters that learn get no gradients, as global projections and poolers often do not."""
    loss().backward()
    without = [one for one in model.parameters() if one.requires_grad and one.grad is None]
    model.zero_grad(set_to_none=True)
    return bool(without)


def _shard(model: Model, device: torch.device, count: int) -> None:
    """Each map of the layers is gathered when it is needed; tables and norms, which others read, for a whole pass."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (count,))
    maps = [
        part
        for layers in (model.attention, model.feed_forward)
        for part in layers.modules()
        if isinstance(part, nn.Linear)
    ]
    for part in (*maps, model):
        fully_shard(part, mesh=mesh)
    for one in _sharded_parts(model):
        # Losses carry their weights, so gradients are summed; gloo could not average them anyway.
        one.set_gradient_divide_factor(1.0)
        one.set_force_sum_reduction_for_comms(True)


def _sharded_parts(model: Model) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [one for one in model.modules() if isinstance(one, FSDPModule)]


def full_state(model: nn.Module) -> Mapping[str, Tensor]:
    """All weights, whole and on the CPU; every process has to call it."""
    return {name: whole(one.detach()).cpu().contiguous() for name, one in model.state_dict().items()}
