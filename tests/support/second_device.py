"""A second device on a machine that has none: its tensors lie on the CPU after all.

    with second_device() as device:        # two GPUs, cuda:0 and cuda:1
        main(["ask", "clip.mp4", "What happens?", "--device", "cuda:1"])
    with second_device("mps"):             # that of an Apple computer
        main(["ask", "clip.mp4", "What happens?"])

Within the block torch says that the device is there, and the program takes the way to it that it takes on a real
one. A tensor there is a DeviceTensor, which holds an ordinary tensor and can do nothing without it:

    torch function --> _call --> all tensors on one device?  yes: the same function on the tensors inside
                                                             no:  torch takes it apart into its operators, and each
                                                                  is held against the rules of CUDA (_operator)

So numbers are those of the CPU, bit for bit, and a tensor on the wrong device is an error as on a GPU:

- tensors of two devices do not mix, except for a 0-dimensional one on the CPU in elementwise arithmetic, and `copy_`;
- `numpy()` and whatever else needs the CPU's memory is refused, also to C++ that takes a DeviceTensor by surprise;
- `cpu()` and `to()` make copies, so what is written into one is not seen in the other;
- a device has random numbers of its own, and takes no generator of another device;
- mps has no float64.

One rule is stricter: an index on the CPU into a tensor on a device is refused, though not to transformers. torch would
copy it, on every call.

A copy to the CPU that is not waited for (`non_blocking`) holds nonsense until an event after it, or the device, is
waited for.

What it does not see: streams; copies to a device that are not waited for; Triton kernels and other code that takes
pointers (`kernels.choose` finds no Triton here); operators that CUDA lacks, computes in another order, or not in the
same order every time; and memory that runs out. Threads that begin within the block are in it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _device as default_device

CPU = torch.device("cpu")
#: All devices besides the CPU. Their numbers in this list are their names for C++: the last is meta:2.
DEVICES = [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("mps", 0)]
COUNT = 2
#: Functions that read or hand out the CPU's memory of a tensor.
_POINTERS = {"numpy", "__array__", "data_ptr", "untyped_storage", "storage", "__dlpack__", "share_memory_"}
#: Functions that bring a tensor to another device.
_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.type_as}
#: Functions that draw random numbers.
_RANDOM = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli", "rand_like", "randn_like"} | {
    f"{name}_" for name in ("normal", "uniform", "bernoulli", "exponential", "random", "trunc_normal")
}
_aten = torch.ops.aten
#: Operators that copy from any device to any other, and those that take a number as a tensor on the CPU.
_COPIES = {_aten.copy_, _aten._to_copy, _aten.copy}
_TAKE_A_NUMBER = {_aten.masked_fill, _aten.masked_fill_, _aten.fill, _aten.fill_}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}


class DeviceTensor(torch.Tensor):
    """A tensor on a device; `inside` holds its numbers, and the device is `place`."""

    inside: torch.Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, inside: torch.Tensor, place: torch.device) -> DeviceTensor:
        """For C++ it is on the device `meta`, which has no memory: so no operator can run on it by mistake."""
        out = torch.Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=inside.stride(), dtype=inside.dtype, device=f"meta:{DEVICES.index(place)}"
        )
        out.inside, out.place = inside, place
        return out

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operator(func, args, kwargs or {})


class DeviceGenerator(torch.Generator):
    """A random generator on a device; it takes the place of `torch.Generator`."""

    place: torch.device

    def __new__(cls, device: Any = CPU) -> DeviceGenerator:
        out = super().__new__(cls)
        out.place = placed(device)
        return out

    @property
    def device(self) -> torch.device:
        return self.place


class _Everything(TorchFunctionMode):
    """Brings every call of a torch function to `_call`: those that make tensors on a device, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _CudaEvent:
    """An event on a stream: the copies that were queued before it, and when that was."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timed = enable_timing

    def record(self, stream: Any = None) -> _CudaEvent:
        self.queued, self.seconds = list(_queued), time.perf_counter()
        return self

    def synchronize(self) -> None:
        _make_copies(self.queued)

    def elapsed_time(self, end: _CudaEvent) -> float:
        if not (self.timed and end.timed):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        return 1000 * (end.seconds - self.seconds)


class _Event(torch.Event):
    """An event of a device that computes at once."""

    def __new__(cls, device: Any = None, **_: Any) -> _Event:
        return super().__new__(cls, CPU)

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


_generators: dict[torch.device, DeviceGenerator] = {}
_current = 0  # number of the device that "cuda" means
_queued: list[Callable[[], Any]] = []  # copies to the CPU that nobody has waited for


def inside(tensor: Any) -> Any:
    """The tensor that a DeviceTensor holds; anything else as it is."""
    return tensor.inside if isinstance(tensor, DeviceTensor) else tensor


def placed(device: Any) -> torch.device:
    """A device with its number, from any way to name it."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.index is not None or device.type not in ("cuda", "mps"):
        return device
    return torch.device(device.type, _current if device.type == "cuda" else 0)


# --- torch's functions -----------------------------------------------------------------------------------------------


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of torch, on whatever devices its tensors are."""
    tensors = list(_tensors((args, kwargs)))
    on_device = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    wanted = _wanted(func, args, kwargs)
    if func is torch.Tensor.pin_memory:
        return args[0].clone()
    if not on_device and (wanted is None or wanted not in DEVICES):
        return func(*args, **kwargs)
    own = on_device[0].place if on_device else CPU
    name = getattr(func, "__name__", "")
    if func is torch.histc and not args[0].is_floating_point():  # CUDA counts whole numbers, too
        return _call(func, (args[0].float(), *args[1:]), kwargs).to(args[0].dtype)
    if name == "__get__":
        return _attribute(func, args)
    if name in _POINTERS and on_device:
        raise TypeError(f"can't convert {own} device type tensor to numpy or another pointer: {name}")
    if func in _MOVES:
        moved = _moved(func, args, kwargs, own if isinstance(args[0], DeviceTensor) else CPU, wanted)
        return _later(moved) if on_device and wanted == CPU and kwargs.get("non_blocking") else moved
    if wanted is None and len({_place(tensor) for tensor in tensors}) > 1:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)  # operator by operator, see _operator
    place = own if wanted is None else wanted
    if name in _RANDOM:
        kwargs = {**kwargs, "generator": _generator(kwargs.get("generator"), place)}
    if wanted is not None:
        kwargs = {**kwargs, "device": CPU if wanted in DEVICES else wanted}
    return _run(func, args, kwargs, place)


def _wanted(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device | None:
    """The device that a call asks for; None for that of its tensors."""
    if func is torch.Tensor.cpu:
        return CPU
    if func is torch.Tensor.cuda:
        return placed(args[1] if len(args) > 1 else kwargs.get("device") or "cuda")
    if kwargs.get("device") is not None:
        return placed(kwargs["device"])
    if func in (torch.Tensor.to, torch.Tensor.type_as):
        given = [*args[1:], *kwargs.values()]
        named = [one for one in given if isinstance(one, torch.device | str)] or [
            _place(one) for one in given if isinstance(one, torch.Tensor)
        ]
        return placed(named[0]) if named else None
    if func in default_device._device_constructors() and not (args and isinstance(args[0], torch.Tensor)):
        return placed(default_device.CURRENT_DEVICE or CPU)
    return None


def _place(tensor: torch.Tensor) -> torch.device:
    return tensor.place if isinstance(tensor, DeviceTensor) else tensor.device


def _attribute(func: Any, args: tuple[Any, ...]) -> Any:
    """An attribute such as `x.device` or `x.T`."""
    owner = args[0]
    facts = {
        torch.Tensor.device: owner.place,
        torch.Tensor.is_cpu: False,
        torch.Tensor.is_cuda: owner.place.type == "cuda",
        torch.Tensor.is_mps: owner.place.type == "mps",
    }
    for attribute, value in facts.items():
        if func == attribute.__get__:
            return value
    return _run(func, args, {}, owner.place)


def _moved(func: Any, args: Any, kwargs: Any, source: torch.device, target: torch.device | None) -> Any:
    """`to` and the like: a copy on another device, and the tensor itself where it is there already."""
    if target is None or target == source:
        target = source
    tensor = inside(args[0])
    rest = [inside(one) for one in args[1:]]
    if func is torch.Tensor.to:
        rest = [CPU if isinstance(one, torch.device | str) else one for one in rest]
        kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
        moved = tensor.to(*rest, **{name: inside(value) for name, value in kwargs.items()})
    else:
        moved = tensor.type_as(rest[0]) if func is torch.Tensor.type_as else tensor
    if target != source and moved is tensor:
        moved = tensor.clone()
    return args[0] if moved is tensor else _wrapped(moved, target)


def _later(arrived: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU that holds nonsense until it is waited for."""
    early = torch.full_like(arrived, float("nan")) if arrived.is_floating_point() else ~arrived
    _queued.append(lambda: early.copy_(arrived))
    return early


def _make_copies(queued: list[Callable[[], Any]]) -> None:
    """What was queued has been waited for."""
    with torch.inference_mode():
        for copy in queued:
            copy()


def _run(func: Any, args: Any, kwargs: Any, place: torch.device) -> Any:
    """The function on what is inside the tensors. Tensors that come back, as of `add_`, are the same objects again."""
    known = {id(tensor.inside): tensor for tensor in _tensors((args, kwargs)) if isinstance(tensor, DeviceTensor)}
    args, kwargs = _changed((args, kwargs), inside)
    return _changed(func(*args, **kwargs), lambda out: known.get(id(out)) if id(out) in known else _wrapped(out, place))


def _wrapped(tensor: torch.Tensor, place: torch.device) -> torch.Tensor:
    if place.type == "mps" and tensor.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64: the device mps doesn't support it. Use float32.")
    return DeviceTensor(tensor, place) if place in DEVICES else tensor


def _generator(given: torch.Generator | None, place: torch.device) -> torch.Generator | None:
    """The generator that draws on a device; RuntimeError for one of another device."""
    if given is None:
        return _generators.get(place)
    if placed(given.device) != place:
        raise RuntimeError(f"Expected a '{place}' device type for generator but found '{given.device}'")
    return given


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in a value: one itself, or those in containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _changed(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The same value with changed tensors."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _changed(item, change) for name, item in value.items()}
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        items = [_changed(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


# --- torch's operators, where devices mix ----------------------------------------------------------------------------


def _operator(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operator with tensors of several devices; RuntimeError where CUDA refuses them."""
    tensors = list(_tensors((args, kwargs)))
    place = next(tensor.place for tensor in tensors if isinstance(tensor, DeviceTensor))
    packet = func.overloadpacket
    if packet in _COPIES:
        place = _copy_target(packet, args, kwargs)
        kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
    else:
        _check_devices(func, args, kwargs, tensors, place)
    return _run(func, args, kwargs, place)


def _copy_target(packet: Any, args: Any, kwargs: Any) -> torch.device:
    device = kwargs.get("device")
    if packet is not _aten._to_copy or device is None:
        return _place(args[0])
    return DEVICES[device.index] if device.type == "meta" else placed(device)


def _check_devices(func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor], place: torch.device) -> None:
    """RuntimeError unless CUDA takes these tensors, of which one is on `place`."""
    others = [tensor for tensor in tensors if _place(tensor) != place]
    if func.overloadpacket in _INDEXING:
        target, indices = args[0], [index for index in args[1] if index is not None]
        there = {_place(index) for index in indices} - {_place(target)}
        if there and (_place(target) == CPU or not _called_by("transformers")):
            raise RuntimeError(f"indices should be on the device of the indexed tensor, {_place(target)}, got {there}")
        others = [tensor for tensor in others if all(tensor is not index for index in indices)]
    written = {
        id(value)
        for argument, value in _arguments(func, args, kwargs)
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    numbers = torch.Tag.pointwise in func.tags or func.overloadpacket in _TAKE_A_NUMBER | _INDEXING
    for tensor in others:
        if not (numbers and _place(tensor) == CPU and tensor.dim() == 0 and id(tensor) not in written):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{place} and {_place(tensor)}! ({func})"
            )


def _called_by(package: str) -> bool:
    """Whether the code that called torch is in this package."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("torch", "tests"):
        frame = frame.f_back
    return frame.f_globals["__name__"].split(".")[0] == package


def _arguments(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    """The arguments of an operator's schema with their values."""
    for number, argument in enumerate(func._schema.arguments):
        if number < len(args):
            yield argument, args[number]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]


# --- torch.cuda and torch.mps ----------------------------------------------------------------------------------------


@contextmanager
def second_device(kind: str = "cuda") -> Iterator[SimpleNamespace]:
    """Within the block there are two GPUs, or with "mps" that one. `waited` collects devices that were synchronised."""
    seen = SimpleNamespace(waited=[])
    _generators.update({place: DeviceGenerator(place) for place in DEVICES if place.type == kind})
    with ExitStack() as stack:
        stack.callback(_generators.clear)
        if kind == "cuda":
            stack.enter_context(mock.patch.multiple(torch.cuda, **_cuda(seen)))
        else:
            stack.enter_context(mock.patch.multiple(torch.mps, **_mps(seen)))
            stack.enter_context(mock.patch.object(torch.backends.mps, "is_available", lambda: True))
            stack.enter_context(mock.patch.object(torch, "Event", _Event))  # transformers makes some on mps
        stack.enter_context(mock.patch.object(torch, "Generator", DeviceGenerator))
        # No kernel can read a DeviceTensor: as if Triton were not installed.
        stack.enter_context(mock.patch.dict(sys.modules, {"stsimdiff_cli.graph.kernels.fused": None}))
        stack.enter_context(mock.patch.object(threading.Thread, "run", _within(threading.Thread.run)))
        stack.enter_context(_Everything())
        stack.callback(_queued.clear)
        _set_current(0)
        yield seen


def _within(run: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """What a thread does, on the devices: torch's modes belong to threads."""

    def run_there(thread: threading.Thread) -> None:
        with _Everything():
            run(thread)

    return run_there


def _set_current(device: Any) -> None:
    global _current
    _current = placed(device).index


@contextmanager
def _current_device(device: Any) -> Iterator[None]:
    before = _current
    _set_current(device)
    try:
        yield
    finally:
        _set_current(before)


def _cuda(seen: SimpleNamespace) -> dict[str, Any]:
    """What replaces the functions of torch.cuda."""

    def generator(device: Any = "cuda") -> DeviceGenerator:
        return _generators[placed(device)]

    def each(work: Callable[[DeviceGenerator], Any]) -> None:
        for one in _generators.values():
            work(one)

    def properties(device: Any = "cuda") -> SimpleNamespace:
        return SimpleNamespace(name=f"second device {placed(device).index}", total_memory=1 << 34, major=8, minor=0)

    def nothing(*_: Any, **__: Any) -> int:
        return 0

    def synchronize(device: Any = None) -> None:
        seen.waited.append(placed("cuda" if device is None else device))
        _make_copies(_queued)

    names: Iterable[str] = ("empty_cache", "reset_peak_memory_stats", "max_memory_allocated", "memory_allocated")
    return {
        **dict.fromkeys(names, nothing),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: COUNT,
        "current_device": lambda: _current,
        "set_device": _set_current,
        "device": _current_device,
        "synchronize": synchronize,
        "current_stream": lambda device=None: SimpleNamespace(record_event=lambda: _CudaEvent().record()),
        "Event": _CudaEvent,
        "get_device_properties": properties,
        "get_device_name": lambda device="cuda": properties(device).name,
        "get_device_capability": lambda device="cuda": (8, 0),
        "default_generators": tuple(_generators.values()),
        "get_rng_state": lambda device="cuda": generator(device).get_state(),
        "set_rng_state": lambda state, device="cuda": generator(device).set_state(state),
        "manual_seed": lambda seed: generator().manual_seed(seed),
        "manual_seed_all": lambda seed: each(lambda one: one.manual_seed(seed)),
    }


def _mps(seen: SimpleNamespace) -> dict[str, Any]:
    """What replaces the functions of torch.mps."""
    ((place, generator),) = _generators.items()
    return {
        "synchronize": lambda: seen.waited.append(place),
        "empty_cache": lambda: None,
        "get_rng_state": lambda device="mps": generator.get_state(),
        "set_rng_state": lambda state, device="mps": generator.set_state(state),
        "manual_seed": generator.manual_seed,
    }
