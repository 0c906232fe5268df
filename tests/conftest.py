"""Fixtures that several test files share, and the hooks that can forbid skips."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # set before transformers is imported: no test may ask the Hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before torch is imported: small models are no faster with threads

import pytest
import torch
import transformers

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a job in the background: what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # set before triton is imported: its kernels then run on the CPU

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.loading import weights as loading
from stsimdiff_cli.video.decoding import Decoding
from tests.support.checkpoints import CHECKPOINTS, CLOSED
from tests.support.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401  hooks

#: Fixtures that take more than five seconds to make, and with them every test that may be the first to ask for one.
SLOW_FIXTURES = {"profiled", "benches"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a slow fixture."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session", params=sorted(CHECKPOINTS))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint of each family in turn."""
    return CHECKPOINTS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def family(checkpoint: Path) -> Family:
    return open_family(str(checkpoint))


@pytest.fixture(scope="session", params=sorted(set(CHECKPOINTS) - CLOSED))
def attentive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Each family in turn between whose LLM's layers tokens can be pruned."""
    return open_family(str(CHECKPOINTS[request.param](tmp_path_factory.mktemp(request.param))))


@pytest.fixture
def frames() -> torch.Tensor:
    """Seven frames (n, 45, 60, 3) uint8 of a drifting gradient with noise."""
    generator = torch.Generator().manual_seed(1)
    base = torch.linspace(0, 200, 45 * 60 * 3).view(45, 60, 3)
    noise = torch.randint(0, 55, (7, 45, 60, 3), generator=generator)
    return torch.stack([(base.roll(4 * t, 1) + noise[t]).clamp(0, 255) for t in range(7)]).to(torch.uint8)


@pytest.fixture
def fed(monkeypatch) -> list[int]:
    """One entry for every packet that is decoded."""
    count: list[int] = []
    feed = Decoding.feed
    monkeypatch.setattr(Decoding, "feed", lambda self: (count.append(1), feed(self))[1])
    return count


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the tensors that are read from checkpoints, as stored in the files.

    For a checkpoint in several folders, the name of the folder comes first.
    """
    names: list[str] = []
    real = transformers.modeling_utils.safe_open

    class Slice:
        def __init__(self, inner, name):
            self.inner, self.name = inner, name

        def __getitem__(self, index):
            names.append(self.name)
            return self.inner[index]

        def __getattr__(self, attribute):
            return getattr(self.inner, attribute)

    class File:
        def __init__(self, path, *args, **options):
            self.inner = real(path, *args, **options)
            part = Path(path).parent.name
            self.prefix = f"{part}." if part in ("llm", "vision_tower", "mm_projector") else ""

        def get_slice(self, name):
            return Slice(self.inner.get_slice(name), self.prefix + name)

        def get_tensor(self, name):
            names.append(self.prefix + name)
            return self.inner.get_tensor(name)

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

        def __getattr__(self, attribute):
            return getattr(self.inner, attribute)

    monkeypatch.setattr(transformers.modeling_utils, "safe_open", File)
    monkeypatch.setattr(loading, "safe_open", File)
    return names
