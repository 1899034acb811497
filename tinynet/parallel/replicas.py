"""Replicas of a model on one machine: forked processes that share parameters, gradients and each batch.

What they share lies in memory that all see (`parallel/team.py`): flat vectors of parameters and of the optimiser's
state, one gradient vector each. A step: the leader says which samples are whose; each member runs forward and
backward on its share, its gradients written or copied into its own vector; when all have arrived, each sums a part of
the vectors over the members and updates that part of the parameters; when all have arrived again, the step is over.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Sequence
from itertools import chain, pairwise
from types import FunctionType
from typing import Any

import numpy as np

from ..autograd import mode
from ..backends.cpu import conv, memory
from ..nn import Module
from ..nn.fusion import fusing
from ..nn.module import Parameter
from ..ops import random
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .team import LINE, ReplicaError, Team, shared_array
from .trainer import Loss, Trainer, correct_of, kept, measured

CHUNK = 1 << 17      # elements of the flat vectors that are summed and updated at a time


class Replicas(Trainer):
    """Steps shared by forked replicas; this process is the first of them and leads.

    An exception in a replica is raised here, with the replica's traceback as its cause, and changes no parameter;
    the next step goes on. When a step is broken off (Ctrl-C, a replica killed) parameters may be half updated; the
    replicas are ended, and made anew by the next step.
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Loss, clip_norm: float | None, workers: int):
        super().__init__(model, optimizer, loss, clip_norm)
        self.workers = workers
        self.groups = optimizer.groups
        self.params = [p for group in self.groups for p in group.params]
        self.team = Team(workers, [(g.starts[-1], g.w.dtype) for g in self.groups], width=3 + len(self.params))
        self._finish = weakref.finalize(self, self.team.close)
        self._process = os.getpid()
        try:
            memory.trim()      # what steps without replicas left
            self._share()
            memory.trim()      # what held parameters and state until now
            self._fork()
        except BaseException:
            self.close()
            raise

    # ---- memory ------------------------------------------------------------------------------------------
    def _share(self) -> None:
        """Move parameters and the optimiser's state to shared memory."""
        for k, group in enumerate(self.groups):
            group.adopt(shared_array(group.w.shape, group.w.dtype))
            group.g = self.team.gradients[k][0]
            group.state = {name: _shared(flat) for name, flat in group.state.items()}
        self._flats = [group.w for group in self.groups]
        trained = set(map(id, self.params))
        self._fixed = [p for _, p in self.model._tensors(Parameter) if id(p) not in trained]
        for p in self._fixed:       # those that the optimiser does not know; replicas only read them
            p.data = _shared(p.data)

    def close(self) -> None:
        """End the replicas and move parameters and state back to this process's own memory."""
        if not self.closed and os.getpid() == self._process:
            self._finish()
            for group in self.groups:
                group.adopt(np.empty_like(group.w))
                group.g = group.g.copy()
                group.state = {name: flat.copy() for name, flat in group.state.items()}
            for p in self._fixed:
                p.data = p.data.copy()
        self.closed = True

    # ---- replicas that are copies of this process ----------------------------------------------------------
    def _fork(self) -> None:
        self.team.dismiss()
        self.modules = self.model.modules()
        self._buffers = [(vars(module), name, shared_array(value.shape, value.dtype))
                         for module in self.modules for name, value in vars(module).items() if type(value) is Tensor]
        self._nodes = [p.node for p in self.params]
        self._globals = _settings()
        self._homes: list[list[np.ndarray]] = []      # each process makes its own
        self._look()
        self._stepped = self._noted = False      # since then: the last work was a step; a forward left something
        self.team.start(self._replica)

    def _look(self) -> None:
        """Remember the modules' attributes; lists are copied, as they change in place."""
        self._seen = [(vars(m), {k: list(v) if type(v) is list else v for k, v in vars(m).items()})
                      for m in self.modules]

    def _changed(self) -> bool:
        """Whether attributes differ from those seen last, buffers and train or eval mode apart."""
        try:
            if all(now == then for now, then in self._seen):      # mostly by identity, 0.3 µs a module
                return False
        except Exception:      # an array or a tensor was replaced: they have no truth value
            pass
        for now, then in self._seen:
            names = now.keys() | then.keys()
            if any(not _same(now.get(k, then), then.get(k, now)) for k in names - {"training"}):
                return True
        self._look()
        return False

    def _keeps_state(self) -> bool:
        """Whether a module has attributes, beside the buffers, that may have changed in place, where nobody looks."""
        sent = {(id(attributes), name) for attributes, name, _ in self._buffers}
        return not all((id(attributes), name) in sent or name == "_arguments" or _plain(value)
                       for attributes in map(vars, self.modules) for name, value in attributes.items())

    def _up_to_date(self, work: str) -> None:
        """Make the replicas anew where the model is no longer the one that they are copies of: it was changed, or is to
        be evaluated after steps that left something in this process's modules, as others saw other samples."""
        if any(group.w is not flat for group, flat in zip(self.groups, self._flats, strict=True)):
            raise RuntimeError("trainer: the optimiser's parameters have moved (another trainer, or model.to()); close "
                               "this trainer before and make another")
        for group in self.groups:
            group.reclaim()
        if (not self.team.running or [p.node for p in self.params] != self._nodes or _settings() != self._globals
                or self._changed()
                or (work == "_evaluate" and self._stepped and (self._noted or self._keeps_state()))):
            self._fork()
        self._stepped = work == "_step"

    # ---- one step ------------------------------------------------------------------------------------------
    def __call__(self, x: Any, y: Any) -> Tensor:
        self._begin(x, y)
        return self._all("_step", x, y)

    def evaluate(self, x: Any, y: Any) -> tuple[float, int | None]:
        self._check(x, y)
        return self._all("_evaluate", x, y)

    def _all(self, work: str, x: Any, y: Any) -> Any:
        """Have all replicas run a method on their shares of a batch; gives what this one's gave."""
        if os.getpid() != self._process:
            raise RuntimeError("trainer: it belongs to the process that made it, not to this copy")
        self._up_to_date(work)
        bounds = [-(-len(x) * r // self.workers) for r in range(self.workers + 1)]      # replica 0 always has some
        try:
            for attributes, name, there in self._buffers:
                np.copyto(there, attributes[name].data)
            settings = [(g.options, [(a, b, lr_step.tolist()) for a, b, lr_step in g.runs]) for g in self.groups]
            self.team.broadcast((work, bounds, self._hand_over((x, y), bounds[1]),
                                 bytes(m.training for m in self.modules), settings,
                                 random.state.seed, random.state.steps, random.state.first))
            result, failure = getattr(self, work)(x[:bounds[1]], y[:bounds[1]], bounds)
        except BaseException:
            self.team.dismiss()
            raise
        if self._changed():
            self._look()      # a module that notes something in each forward is not another one for it
            self._noted = True
        if failure is not None:
            raise failure
        return result

    def _replica(self) -> None:
        """The life of replicas 1, 2, …: the same work."""
        rank = self.team.rank
        mode.recording = True       # also where the original was forked within no_grad
        while True:
            work, bounds, batch, training, settings, seed, steps, first = self.team.broadcast()
            random.state.seed, random.state.steps, random.state.first = seed, steps, first + bounds[rank]
            for module, flag in zip(self.modules, training, strict=True):
                module.training = bool(flag)
            for group, (options, runs) in zip(self.groups, settings, strict=True):
                group.options.update(options)
                group.runs = [(a, b, np.array(lr_step)) for a, b, lr_step in runs]
            for attributes, name, there in self._buffers:
                np.copyto(attributes[name].data, there)
            x, y = self._handed_over(batch, bounds[rank] - bounds[1], bounds[rank + 1] - bounds[1])
            getattr(self, work)(x, y, bounds)

    def _evaluate(self, x: Any, y: Any, bounds: list[int]) -> tuple[Any, Exception | None]:
        """This replica's part of `evaluate`: the mean loss over the whole batch and how many are right, or what went
        wrong somewhere."""
        loss, failure = 0.0, None
        right: int | None = 0
        try:
            if len(x):
                loss, right = measured(self.model, self.loss, x, y)
        except Exception as error:
            failure = error
            self.team.report(error)
        self.team.put(failure is not None, loss * len(x), right or 0)
        failed, losses, rights = zip(*self.team.get(3), strict=True)
        if any(failed):
            return None, self._failure(failure, failed, bounds)
        return (sum(losses) / bounds[-1], None if right is None else int(sum(rights))), None

    def _step(self, x: Any, y: Any, bounds: list[int]) -> tuple[Any, Exception | None]:
        """This replica's part of a step: forward and backward on its share of the batch, and the update of its part
        of the parameters. Gives the loss of the whole batch, or what went wrong somewhere."""
        team, rank = self.team, self.team.rank
        sizes = [b - a for a, b in pairwise(bounds)]
        members = [r for r, size in enumerate(sizes) if size]
        out, loss, failure = None, None, None
        value, guard, have = 0.0, 0.0, [False] * len(self.params)
        try:
            if sizes[rank]:
                weight = sizes[rank] / bounds[-1]
                out, loss = self._forward(x, y)
                homes = self._offer()
                loss.backward(np.full((), weight, loss.dtype))      # the gradients come out weighted
                value, have = weight * loss.item(), self._gather(homes)
                guard = self._guard(loss.data, len(members))
        except Exception as error:
            failure = error
            team.report(error)
        finally:
            self.optimizer.zero_grad()
            for node in self._nodes:
                if node is not None:
                    node.home = None
        team.put(failure is not None, value, guard, *have)
        correct = (correct_of(out, y) or 0) if rank else 0      # others may still be busy; replica 0 counts when asked
        rows = team.get(3 + len(self.params))
        failed = [row[0] for row in rows]
        if any(failed):
            return None, self._failure(failure, failed, bounds)
        total, guard = sum(row[1] for row in rows), sum(row[2] for row in rows)
        if math.isfinite(guard):
            self._update(members, guard, [any(flags) for flags in zip(*(rows[r][3:] for r in members), strict=True)])
        self.optimizer.guard = Tensor(np.array(guard, self.groups[0].w.dtype), self.groups[0].be)
        team.put(correct)
        self._others_correct = int(sum(count for count, in team.get(1)))
        if rank == 0:
            self._last = out, kept(y)
        return None if loss is None else Tensor(np.array(total, loss.dtype), loss.backend), None

    def _offer(self) -> list[list[np.ndarray]]:
        """Let operations write the parameters' gradients where they are summed, this replica's flat vectors."""
        if not self._homes:
            self._homes = [[self.team.own(k, start, p.shape)
                            for p, start in zip(group.params, group.starts[:-1], strict=True)]
                           for k, group in enumerate(self.groups)]
        for node, home in zip(self._nodes, chain.from_iterable(self._homes), strict=True):
            if node is not None:
                node.home = home
        return self._homes

    def _guard(self, loss: np.ndarray, members: int) -> float:
        """What voids the step of all where this replica's loss or gradient does; it leaves room for the sum."""
        for k, group in enumerate(self.groups):
            most = group.most if self.clip_norm is None else float(np.finfo(group.w.dtype).max)
            loss = group.be.guard(self.team.own(k, 0, group.w.shape), loss, most / members)
        return float(loss)

    def _gather(self, homes: list[list[np.ndarray]]) -> list[bool]:
        """Copy the other gradients there too, zeros where there is none; which parameters have one."""
        have = []
        for group, arrays in zip(self.groups, homes, strict=True):
            flags = group.gather(arrays)
            for array in (array for array, flag in zip(arrays, flags, strict=True) if not flag):
                array[...] = 0      # another replica may have one
            have += flags
        return have

    def _update(self, members: list[int], loss: float, have: list[bool]) -> None:
        """Sum this replica's part of the gradients over the members, and update its part of the parameters."""
        parts, first = [], 0
        for k, group in enumerate(self.groups):
            group.g = self.team.gradients[k][0]      # where the sums will be
            for start, stop, lr_step in group.stretches(have[first:first + len(group.params)]):
                parts.append((k, group, *self.team.part(start, stop), lr_step))
            first += len(group.params)
        if self.clip_norm is not None:
            self._clip([self.team.reduce(k, start, stop, members) for k, _, start, stop, _ in parts], self.clip_norm)
        for k, group, start, stop, lr_step in parts:
            for a in range(start, stop, CHUNK) or [start]:      # summed and used while they are in the cache
                b = min(a + CHUNK, stop)
                if self.clip_norm is None:
                    self.team.reduce(k, a, b, members)
                self.optimizer.apply(group, a, b, lr_step if b == stop else lr_step.copy(), loss)

    def _clip(self, sums: list[np.ndarray], most: float) -> None:
        """Scale the gradient, of which `sums` are this replica's parts, to a norm of at most `most`."""
        self.team.put(sum(float(self.groups[0].be.squares(part)) for part in sums))
        norm = math.sqrt(sum(part for part, in self.team.get(1)))
        scale = most / (norm + 1e-6)
        if scale < 1:
            for part in sums:
                part *= scale

    def _failure(self, own: Exception | None, failed: Sequence[float], bounds: list[int]) -> Exception | None:
        """This replica's own exception, or the first of those that failed, with its traceback as the cause."""
        if self.team.rank:
            return own
        rank = failed.index(1)
        error, text = [self.team.reported(r) for r in range(self.workers)][rank]
        cause = ReplicaError(f"in replica {rank}, samples {bounds[rank]} to {bounds[rank + 1] - 1}:\n{text}")
        if own is not None or error is None:
            return own or cause
        error.__cause__ = cause
        return error

    # ---- handing over the batch ------------------------------------------------------------------------------
    def _hand_over(self, batch: tuple[Any, Any], first: int) -> list[tuple[bool, str, tuple, int]]:
        """Copy the samples from `first` on to shared memory; gives how and where: (a Tensor?, dtype, shape, place)."""
        tails = [np.asarray(a)[first:] for a in batch]
        if any(tail.dtype.hasobject for tail in tails):
            raise TypeError("trainer: x and y must be arrays of numbers")
        places = [0, -(-tails[0].nbytes // LINE) * LINE]
        memory = self.team.buffer(places[1] + tails[1].nbytes + 1)
        for tail, place in zip(tails, places, strict=True):
            np.copyto(np.ndarray(tail.shape, tail.dtype, memory, place), tail)      # type: ignore[call-overload]
        return [(isinstance(a, Tensor), tail.dtype.str, tail.shape, place)
                for a, tail, place in zip(batch, tails, places, strict=True)]

    def _handed_over(self, batch: list[tuple[bool, str, tuple, int]], start: int, stop: int) -> list:
        """x and y of samples [start, stop) of those handed over."""
        _, dtype, shape, place = batch[1]
        memory = self.team.buffer(place + math.prod(shape) * np.dtype(dtype).itemsize + 1)
        parts = [(whole, np.ndarray(shape, dtype, memory, place)[start:stop]) for whole, dtype, shape, place in batch]
        return [Tensor(part, self.groups[0].be) if is_tensor else part for is_tensor, part in parts]


def _shared(x: np.ndarray) -> np.ndarray:
    """A copy in memory that the replicas share."""
    copy = shared_array(x.shape, x.dtype)
    np.copyto(copy, x)
    return copy


def _same(now: Any, then: Any) -> bool:
    """Whether two values of an attribute mean the same model; another buffer does, as buffers are sent."""
    if now is then or type(now) is type(then) is Tensor:
        return True
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(_same, now, then))
    try:
        return bool(now == then)
    except Exception:      # arrays have no truth value
        return False


def _plain(value: Any) -> bool:
    """Whether an attribute is part of the model's structure, or cannot change but by being replaced."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, Module | Parameter | bool | int | float | str | type | FunctionType)


def _settings() -> tuple:
    """The engine's switches that replicas must have as this process has them."""
    return fusing(), conv._algorithm, memory.enabled
