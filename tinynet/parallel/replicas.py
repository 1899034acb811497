"""Replicas of a model on one machine: forked processes that share parameters, gradients and each batch.

What they share lies in memory that all see (`parallel/team.py`): flat vectors of parameters and of the optimiser's
state, one gradient vector each. A step: the leader says which samples are whose; each member runs forward and
backward on its share, its gradients written or copied into its own vector; when all have arrived, each sums a part of
the vectors over the members and updates that part of the parameters; when all have arrived again, the step is over.

Replicas compute what one process computes, as a step counts only where it left all that the model holds (`snapshot.py`)
as it was: then what it computed depends on parameters and samples alone. Else it is undone and made by one process.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ..autograd import mode, no_grad
from ..backends import switches
from ..backends.cpu import memory
from ..nested import mapped, samples
from ..nn import Module, door
from ..nn.module import Parameter
from ..ops import random
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from . import following, handover
from .failures import Alone, NoMean, code, first_of
from .snapshot import Snapshot
from .team import ReplicaError, Team, shared_array
from .trainer import DEFAULT, Loss, Metric, Sums, Trainer, added, measured

CHUNK = 1 << 17  # elements of the flat vectors that are summed and updated at a time


class Replicas(Trainer):
    """Steps shared by forked replicas; this process is the first of them and leads.

    An exception in a replica is raised here, with the replica's traceback as its cause, and changes nothing;
    the next step goes on. When a step is broken off (Ctrl-C, a replica killed) parameters may be half updated; the
    replicas are ended, and made anew by the next step.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss,
        clip_norm: float | None,
        workers: int,
        metrics: Mapping[str, Metric] = DEFAULT,
        accumulate: int = 1,
    ):
        super().__init__(model, optimizer, loss, clip_norm, None, metrics, accumulate)
        self.workers = workers
        self.groups = optimizer.groups
        self.params = [p for group in self.groups for p in group.params]
        self.team = Team(
            workers, [(g.starts[-1], g.w.dtype) for g in self.groups], width=5 + len(self.params) + len(self.metrics)
        )
        self.gathering = following.Gathering(self.team)
        self._finish = weakref.finalize(self, self.team.close)
        self._process = os.getpid()
        self._fixed: list[tuple[Tensor, np.ndarray]] = []  # not the optimiser's, and the data that they share
        self._redone = False  # the last step was undone and made again
        try:
            memory.trim()  # what steps without replicas left
            self._share()
            memory.trim()  # what held parameters and state until now
            self._fork()
        except BaseException:
            self.close()
            raise

    # ---- memory ------------------------------------------------------------------------------------------
    def _share(self) -> None:
        """Move parameters and the optimiser's state to shared memory."""
        for k, group in enumerate(self.groups):
            group.relocate(shared_array, self.team.gradients[k][0])  # g is where the sums will be
        self._flats = [group.w for group in self.groups]

    def _share_fixed(self) -> None:
        """The same for parameters that the optimiser does not know, new ones too, and for what follows the batch."""
        known = {id(p): data for p, data in self._fixed} | {id(p): p.data for p in self.params}
        for p in (*(p for _, p in self.model._tensors(Parameter)), *following.tensors(self.model.modules())):
            if known.get(id(p)) is not p.data:
                self._fixed.append((p, _shared(p.data)))
                p.data = self._fixed[-1][1]

    def close(self) -> None:
        """End the replicas and move parameters and state back to this process's own memory."""
        if not self.closed and os.getpid() == self._process:
            self._finish()
            for group in self.groups:
                group.relocate(np.empty)
            for p, data in self._fixed:
                if p.data is data:
                    p.data = data.copy()
        self.closed = True

    # ---- replicas that are copies of this process ----------------------------------------------------------
    def _fork(self) -> None:
        self.team.dismiss()
        self._share_fixed()
        self.modules = self.model.modules()
        self._nodes = [p.node for p in self.params]
        self._homes: list[list[np.ndarray]] = []  # each process makes its own
        self._held = Snapshot(
            [(type(self.model).__name__, self.model), ("loss", self.loss), ("metrics", self.metrics)],
            [*self.params, *(p for p, _ in self._fixed)],
        )
        if self._held.strangers:
            raise ReplicaError(f"they cannot follow {self._held.strangers[0]}")
        self._proved: set[str] = set()  # the kinds of work of which a batch gave the loss that one process gets
        if following.of_shares(self.model):
            self._proved.add("_step")  # which need not be
        self.team.start(self._replica)
        self._switches = switches.snapshot()  # now that each member has one thread

    def _up_to_date(self) -> None:
        """Make the replicas anew where the model is no longer the one that they are copies of."""
        if any(group.w is not flat for group, flat in zip(self.groups, self._flats, strict=True)):
            raise RuntimeError(
                "trainer: the optimiser's parameters have moved (another trainer, or model.to()); close "
                "this trainer before and make another"
            )
        for group in self.groups:
            group.reclaim()
        if (
            not self.team.running
            or [p.node for p in self.params] != self._nodes
            or switches.snapshot() != self._switches
            or self._held.change() is not None
        ):
            self._fork()

    def _go_alone(self, why: str) -> None:
        """From now on one process makes the steps."""
        self.team.dismiss()
        self.workers, self.note = 1, f"one process, as {why}"

    # ---- one step ------------------------------------------------------------------------------------------
    def __call__(self, x: Any, y: Any) -> Tensor:
        self._begin(x, y)
        return self._all("_step", x, y, super().__call__)

    def evaluate(self, x: Any, y: Any) -> tuple[float, Sums]:
        self._check(x, y)
        return self._all("_evaluate", x, y, super().evaluate)

    def _all(self, work: str, x: Any, y: Any, alone: Callable[[Any, Any], Any]) -> Any:
        """Have all replicas run a method on their shares of a batch; returns what this one's returned, or what `alone`
        does where one process must do it."""
        if os.getpid() != self._process:
            raise RuntimeError("trainer: it belongs to the process that made it, not to this copy")
        if self.workers == 1:
            return alone(x, y)
        draws = random.state.snapshot()
        try:
            self._up_to_date()
            state = following.Kept(self.modules, work not in self._proved)
            count = samples(x)
            bounds = [-(-count * r // self.workers) for r in range(self.workers + 1)]  # replica 0 always has some
            batch = handover.give(self.team, (x, y), bounds[1])
        except (ReplicaError, OSError, MemoryError) as error:
            self._go_alone(f"replicas could not go on: {error}")
            return alone(x, y)
        try:
            settings = [group.snapshot() for group in self.groups]
            training = bytes(m.training for m in self.modules)
            self.team.broadcast((work, bounds, batch, training, settings, draws))
            unproved = work not in self._proved and bounds[1] < count
            self._expected = self._whole(work, x, y) if unproved else math.nan
            own = [mapped(lambda array: array[: bounds[1]], value) for value in (x, y)]
            result, failure = getattr(self, work)(*own, bounds)
        except BaseException:
            self.team.dismiss()
            raise
        if failure is None:
            self._redone = False
            return result
        if work in self._proved and not isinstance(failure, Alone):
            state.restore()
            raise failure
        random.state.restore(draws)
        state.restore()
        self.team.dismiss()
        try:
            result = alone(x, y)  # most often something was made at first use, and the next step is like others
        except Exception:
            if isinstance(failure, Alone):
                raise
            raise failure from failure.__cause__  # it is not the parts that fail
        if self._redone or isinstance(failure, NoMean):
            self._go_alone(str(failure) if isinstance(failure, Alone) else f"a part of a batch fails: {failure}")
        self._redone = True
        return result

    def _whole(self, work: str, x: Any, y: Any) -> float:
        """The loss of a batch as one process computes it, NaN where it fails."""
        state = following.Kept(self.modules)
        try:
            with no_grad(), random.restoring():
                if work == "_step":
                    return float(self.loss(door.call(self.model, x), y).item())
                return measured(self.model, self.loss, x, y, {})[0]
        except Exception:
            return math.nan
        finally:
            state.restore()
            self._held.restore()

    def _replica(self) -> None:
        """The life of replicas 1, 2, …: the same work."""
        rank = self.team.rank
        mode.recording = True  # also where the original was forked within no_grad
        while True:
            work, bounds, batch, training, settings, (seed, steps, first) = self.team.broadcast()
            random.state.restore((seed, steps, first + bounds[rank]))
            for module, flag in zip(self.modules, training, strict=True):
                module.training = bool(flag)
            for group, held in zip(self.groups, settings, strict=True):
                group.follow(held)
            self._expected = math.nan
            x, y = handover.take(self.team, batch, bounds[rank] - bounds[1], bounds[rank + 1] - bounds[1])
            getattr(self, work)(x, y, bounds)

    def _evaluate(self, x: Any, y: Any, bounds: list[int]) -> tuple[Any, Exception | None]:
        """This replica's part of `evaluate`: the mean loss over the whole batch and the metrics' sums, or what went
        wrong somewhere."""
        sizes = [b - a for a, b in pairwise(bounds)]
        members = [r for r, size in enumerate(sizes) if size]
        loss, failure, size = 0.0, None, sizes[self.team.rank]
        own: Sums = {}
        try:
            if size:
                with self.gathering.step(members, sizes):
                    loss, own = measured(self.model, self.loss, x, y, self.metrics)
            self._check_unchanged()
        except Exception as error:
            failure = Alone(str(error)) if isinstance(error, following.Parted) else error
            self.team.report(failure)
        told = code(failure), loss * size, self._expected, *self._numbers(own)
        failed, losses, expected, *others = zip(*self.gathering.told(told, members), strict=True)
        if any(failed):
            return None, self._failure(failure, failed, bounds)
        total = sum(losses) / bounds[-1]
        everyone = (
            {k: None if own[k] is None else sum(n) for k, n in zip(self.metrics, others, strict=True)} if own else own
        )
        return (total, everyone), self._prove("_evaluate", total, expected[0])

    def _numbers(self, own: Sums) -> list[float]:
        """The metrics' sums as others are told them."""
        return [own.get(name) or 0.0 for name in self.metrics]

    def _step(self, x: Any, y: Any, bounds: list[int]) -> tuple[Any, Exception | None]:
        """This replica's part of a step: forward and backward on its share of the batch, and the update of its part
        of the parameters. Gives the loss of the whole batch, or what went wrong somewhere."""
        team, rank = self.team, self.team.rank
        sizes = [b - a for a, b in pairwise(bounds)]
        members = [r for r, size in enumerate(sizes) if size]
        loss: Tensor | None = None
        seen: list[tuple[Any, Any, int]] = []
        failure = None
        value, guard, have, own = 0.0, 0.0, [False] * len(self.params), Sums()
        try:
            if sizes[rank]:
                weight = sizes[rank] / bounds[-1]
                with self.gathering.step(members, sizes):
                    homes = self._offer()
                    seen, loss = self._gradients(x, y, weight)
                value, have = weight * loss.item(), self._gather(homes)
                guard = weight * self._guard(loss.data, len(members))
                if rank:  # others may still be busy; replica 0 measures when asked
                    own = added(self.metrics, seen)
            self._check_unchanged()
        except Exception as error:
            failure = Alone(str(error)) if isinstance(error, following.Parted) else error
            team.report(failure)
        finally:
            self.optimizer.zero_grad()
            for node in self._nodes:
                if node is not None:
                    node.home = None
        told = code(failure), value, guard, self._expected, *have, *self._numbers(own)
        rows = self.gathering.told(told, members)
        failed = [row[0] for row in rows]
        if any(failed):
            return None, self._failure(failure, failed, bounds)
        total, guard, expected = sum(row[1] for row in rows), sum(row[2] for row in rows), rows[0][3]
        if (failure := self._prove("_step", total, expected)) is not None:
            return None, failure
        if math.isfinite(guard):
            self._update(
                members,
                guard,
                [any(flags) for flags in zip(*(rows[r][4 : 4 + len(have)] for r in members), strict=True)],
            )
        self.optimizer.guard = Tensor(np.array(guard, self.groups[0].w.dtype), self.groups[0].be)
        team.put()
        team.get()
        if rank == 0:
            self._others = [sum(row[4 + len(have) + i] for row in rows) for i in range(len(self.metrics))]
            self._last = seen
        return None if loss is None else Tensor(np.array(total, loss.dtype), loss.backend), None

    def _offer(self) -> list[list[np.ndarray]]:
        """Let operations write the parameters' gradients where they are summed, this replica's flat vectors."""
        if not self._homes:
            self._homes = [
                [self.team.own(k, start, p.shape) for p, start in zip(group.params, group.starts[:-1], strict=True)]
                for k, group in enumerate(self.groups)
            ]
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
                array[...] = 0  # another replica may have one
            have += flags
        return have

    def _update(self, members: list[int], loss: float, have: list[bool]) -> None:
        """Sum this replica's part of the gradients over the members, and update its part of the parameters."""
        parts, first, whole = [], 0, self.optimizer.whole
        for k, group in enumerate(self.groups):
            for start, stop, lr_count in group.stretches(have[first : first + len(group.params)]):
                ends = self.team.part(start, stop)
                parts.append((k, group, *(map(group.snap, ends) if whole else ends), lr_count))
            first += len(group.params)
        if self.clip_norm is not None:
            self._clip([self.team.reduce(k, start, stop, members) for k, _, start, stop, _ in parts], self.clip_norm)
        for k, group, start, stop, lr_count in parts:
            chunk = max(stop - start, 1) if whole else CHUNK
            for a in range(start, stop, chunk) or [start]:  # summed and used while they are in the cache
                b = min(a + chunk, stop)
                if self.clip_norm is None:
                    self.team.reduce(k, a, b, members)
                self.optimizer.apply(group, a, b, lr_count if b == stop else lr_count.copy(), loss)

    def _clip(self, sums: list[np.ndarray], most: float) -> None:
        """Scale the gradient, of which `sums` are this replica's parts, to a norm of at most `most`."""
        self.team.put(sum(float(self.groups[0].be.squares(part)) for part in sums))
        norm = math.sqrt(sum(part for (part,) in self.team.get(1)))
        scale = most / (norm + 1e-6)
        if scale < 1:
            for part in sums:
                part *= scale

    def _check_unchanged(self) -> None:
        """Raise where this replica's part of the work changed what the model holds."""
        if (name := self._held.change()) is not None:
            raise Alone(f"a step changes {name}")

    def _prove(self, work: str, total: float, expected: float) -> NoMean | None:
        """Compare the loss of all parts of a batch with the whole batch's, where that is known."""
        if not math.isnan(expected):
            precision = np.finfo(self.groups[0].w.dtype).eps
            if not math.isclose(total, expected, rel_tol=precision**0.5, abs_tol=10 * precision):
                return NoMean(f"the loss of a batch, {expected:.7g}, is not the mean of its parts', {total:.7g}")
            self._proved.add(work)
        return None

    def _failure(self, own: Exception | None, failed: Sequence[float], bounds: list[int]) -> Exception | None:
        """What went wrong, in this replica or in the first of those that failed; the model is put back, in all."""
        self._held.restore()
        return own if self.team.rank else first_of(self.team, own, failed, bounds)


def _shared(x: np.ndarray) -> np.ndarray:
    """A copy in memory that the replicas share."""
    copy = shared_array(x.shape, x.dtype)
    np.copyto(copy, x)
    return copy
