"""The same recipes in PyTorch, eager, on the same batches: what `resnet20_10k` and `gpt` of trained.py stand beside."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import recipes
import torch
import torch.nn.functional as F
from torch import nn

import tinynet as tn
from tinynet.data import text
from tinynet.optim import schedules


class Block(nn.Module):
    """A residual block whose shortcut has no parameters (option A)."""

    def __init__(self, before: int, channels: int):
        super().__init__()
        self.stride, self.new = channels // before, channels - before
        self.conv1 = nn.Conv2d(before, channels, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new)))


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def resnet20_model() -> nn.Module:
    layers: list = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for before, channels in [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2:
        layers.append(Block(before, channels))
    model = nn.Sequential(*layers, Mean(), nn.Linear(64, 10))
    for p in model.modules():
        if isinstance(p, nn.Conv2d):
            nn.init.kaiming_normal_(p.weight)
        elif isinstance(p, nn.Linear):
            nn.init.xavier_uniform_(p.weight)
            nn.init.zeros_(p.bias)
    return model.to(memory_format=torch.channels_last)


def train(
    model: nn.Module,
    loader: Any,
    optimizer: Any,
    lr: float,
    schedule: Any,
    epochs: int,
    clip: float | None,
    smoothing: float = 0.0,
) -> dict:
    """The loop; the seconds of it, and the mean loss of each epoch."""
    rates, step, curve = [group["lr"] / lr for group in optimizer.param_groups], 0, []
    began = time.perf_counter()
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        losses = []
        for x, y in loader:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * rate * schedule(step)
            optimizer.zero_grad()
            out = model(torch.from_numpy(np.ascontiguousarray(x)))
            labels = torch.from_numpy(y.reshape(-1).astype(np.int64))
            loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), labels, label_smoothing=smoothing)
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(loss.item())
            step += 1
        curve.append({"loss": round(float(np.mean(losses)), 5)})
        print(
            f"torch, epoch {epoch + 1}: loss {curve[-1]['loss']:.4f}, {time.perf_counter() - began:.0f} s", flush=True
        )
    return {"seconds": round(time.perf_counter() - began, 1), "curve": curve}


def resnet20(seed: int, workers: Any, folder: Path, *, samples: int, epochs: int) -> dict:
    torch.manual_seed(seed)
    (x, y), (x_test, y_test) = tn.data.cifar10()
    x, y = x[:samples], y[:samples]
    mean, std = x.mean((0, 1, 2), dtype=np.float64), x.std((0, 1, 2), dtype=np.float64)

    class Input(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x - torch.tensor(mean)) / torch.tensor(std)).float().permute(0, 3, 1, 2)

    model = nn.Sequential(Input(), resnet20_model())
    loader = tn.data.Loader(x, y, batch_size=64, seed=seed, augment=recipes.shift_and_flip())
    optimizer, schedule = torch.optim.SGD(model.parameters(), **recipes.SGD), recipes.cycle(epochs * len(loader))
    made = train(model, loader, optimizer, recipes.SGD["lr"], schedule, epochs, None, recipes.SMOOTHING)
    model.eval()
    measured = recipes.views(partial(outputs, model), x_test, y_test, recipes.SIDES)
    return {**measured, "epochs": epochs, "engine": f"torch {torch.__version__}", **made}


def outputs(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The probabilities of the classes of images, batch by batch."""
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(x[i : i + 500])).softmax(1) for i in range(0, len(x), 500)])


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, c)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPTModel(nn.Module):
    def __init__(self, vocabulary: int, layers: int = 4, heads: int = 4, width: int = 128, context: int = 64):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.Sequential(*(GPTBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(
                    p, 0, 0.02 / ((2 * layers) ** 0.5 if name.endswith(("out.weight", "down.weight")) else 1)
                )
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.blocks(self.tokens(ids) + self.places[: ids.shape[1]]))
        return x @ self.tokens.weight.T


def gpt(seed: int, workers: Any, folder: Path, *, steps: int = 2000) -> dict:
    torch.manual_seed(seed)
    corpus = text.tiny_shakespeare()
    model = GPTModel(len(corpus.vocabulary))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99))
    loader = tn.data.Loader(text.Windows(corpus.train, 64), batch_size=12, steps=steps // 10, seed=seed)
    schedule = schedules.cosine(total=steps, warmup=100, final=0.1)
    made = train(model, loader, optimizer, 1e-3, schedule, 10, 1.0)
    model.eval()
    held_out = tn.data.Loader(text.Windows(corpus.validation, 64, stride=64), batch_size=64, shuffle=False)
    total = count = 0.0
    with torch.no_grad():
        for x, y in held_out:
            out = model(torch.from_numpy(np.ascontiguousarray(x)))
            labels = torch.from_numpy(y.reshape(-1).astype(np.int64))
            total += F.cross_entropy(out.reshape(-1, out.shape[-1]), labels, reduction="sum").item()
            count += y.size
    return {"figure": total / count, "steps": steps, "engine": f"torch {torch.__version__}", **made}
