"""How models run in most tests."""

import torch

from stsimdiff_cli.models.loading.runtime import ResolvedRuntime

CPU = torch.device("cpu")
FP32 = ResolvedRuntime(CPU, torch.float32, "sdpa")
