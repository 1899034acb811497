"""Break the CuPy launcher, and see whether its tests on the stand-in notice: `python -m tests.mutate_launcher`.

Each mutant replaces one text of `cupy_launcher.py`, or of `parallel/capture.py`, by another. Prints which test
noticed it, and in which schedule;
exits with 1 if one survived. test_cupy_launcher.py runs all of them too.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import tests.conftest  # noqa: F401    its profile of Hypothesis: the same examples each time, no deadline
from tests import test_capture as captured
from tests import test_cupy_launcher as proofs
from tests.fake_cuda import SCHEDULES
from tinynet.backends.cuda import cupy_launcher

capturing = importlib.import_module("tinynet.parallel.capture")
SOURCE = Path(cupy_launcher.__file__).read_text(encoding="utf-8")

# what is wrong → (the right text, the wrong one)
MUTANTS: dict[str, tuple[str, str]] = {
    "names only of templates": ("name_expressions=(name,),", "name_expressions=(name,) if kernel.template else None,"),
    "no names": ("name_expressions=(name,),", "name_expressions=None,"),
    "the name without its template": ("module.get_function(name)", "module.get_function(kernel.name)"),
    "another kernel's text": ("sources.read(file) if text is None", 'sources.read("loss.cu") if text is None'),
    "options without C++17": ('OPTIONS = ("--std=c++17",)', "OPTIONS = ()"),
    "no half types": ('(*OPTIONS, "-DTINYNET_HALF") if', "OPTIONS if"),
    "a null pointer of 4 bytes": ("return np.uint64(0) if array", "return np.uint32(0) if array"),
    "the address's value where an array is missing": (
        "return np.uint64(0) if array is None else array",
        "return array",
    ),
    "scalars as Python's": (
        "tuple(arguments), shared_mem",
        "tuple(a.item() if isinstance(a, np.generic) else a for a in arguments), shared_mem",
    ),
    "doubles as floats": (
        "tuple(arguments), shared_mem",
        "tuple(np.float32(a) if isinstance(a, np.float64) else a for a in arguments), shared_mem",
    ),
    "integers of 32 bits": (
        "tuple(arguments), shared_mem",
        "tuple(np.int32(a) if isinstance(a, np.int64) else a for a in arguments), shared_mem",
    ),
    "integers as doubles": (
        "tuple(arguments), shared_mem",
        "tuple(np.float64(a) if isinstance(a, np.int64) else a for a in arguments), shared_mem",
    ),
    "the last argument lost": ("tuple(arguments), shared_mem", "tuple(arguments[:-1]), shared_mem"),
    "no shared memory": ("shared_mem=shared)", "shared_mem=0)"),
    "shared memory not allowed": ("if shared > DEFAULT_SHARED and", "if False and"),
    "a launch in the current stream": ("with stream or contextlib.nullcontext():", "with contextlib.nullcontext():"),
    "no wait for the steps queued before": (
        "                lane.stream.wait_event(cuda.get_current_stream().record())\n",
        "",
    ),
    "a wait for oneself": (
        "lane.stream.wait_event(cuda.get_current_stream().record())",
        "lane.stream.wait_event(lane.stream.record())",
    ),
    "the wait after the copy": (
        "                pinned.copied = lane.stream.record()\n",
        "                lane.stream.wait_event(cuda.get_current_stream().record())\n"
        "                pinned.copied = lane.stream.record()\n",
    ),
    "the event before the copy": (
        "            for source, pinned, y in lane.filled(batches):\n",
        "            for source, pinned, y in lane.filled(batches):\n                early = lane.stream.record()\n",
    ),
    "the step does not wait": ("self.cupy.cuda.get_current_stream().wait_event(copied)", "pass"),
    "the buffer is written while it is read": ("            self.copied.synchronize()\n", "            pass\n"),
    "the buffer is let go": (
        "            pinned = self.buffers[0]\n",
        "            pinned = _Pinned(self.buffers[0].cuda)\n",
    ),
    "pageable": ("return array\n\n\ndef options", "return array.copy()\n\n\ndef options"),
    "a buffer is read while it is filled": ("            pinned.join()\n", ""),
    "no thread": ("if x.nbytes < LARGE:", "if True:"),
    "the last batch is not sent": ("        if last is not None:\n            yield last\n\n", "\n"),
    "ahead does not wait at its end": ("            lane.stream.synchronize()\n", ""),
    "it waits for another stream": ("            lane.stream.synchronize()\n", "            self.synchronize()\n"),
    "it waits after one sort of end": (
        "        finally:\n            lane.",
        "        except OSError:\n            lane.",
    ),
    "a stream an epoch": ("            self._lanes.append(lane)\n", ""),
    "the batch before": ("if len(waiting) > 1:", "if len(waiting) > 2:"),
    "the last batch is lost": ("            while waiting:\n", "            while len(waiting) > 1:\n"),
    "zeros of half the bytes": ("memset_async(0, array.nbytes)", "memset_async(0, array.nbytes // 2)"),
    "no zeros": ("        array.data.memset_async(0, array.nbytes)\n", ""),
    "half an array is copied": ("source.nbytes, stream)", "source.nbytes // 2, stream)"),
    "a copy in the null stream": ("stream = stream or self.cupy", "stream = self.cupy"),
    "copies turned round": ("to.data.copy_from_device_async(source.data", "source.data.copy_from_device_async(to.data"),
    "views are copied as bytes": ("if not (to.flags.c_contiguous and source.flags.c_contiguous):", "if False:"),
    "transposed": ('np.asarray(array, dtype, order="C")', 'np.asarray(array, dtype, order="A").T'),
    "nobody waits": ("        self.cupy.cuda.get_current_stream().synchronize()\n", "        pass\n"),
    "out of memory as CuPy's": ("except self.cupy.cuda.memory.OutOfMemoryError as error:", "except KeyError as error:"),
    "out of memory with wrong bytes": ("* np.dtype(dtype).itemsize", "* 1"),
    "NVRTC is not looked for": ("cupy.cuda.nvrtc.getVersion()", "pass"),
    "headers are not looked for": ('if pathfinder.find_nvidia_header_directory("cudart") is None:', "if False:"),
    "any CuPy": ("if version < OLDEST:", "if False:"),
    "a device is not counted": ("if not devices:", "if False:"),
    "asking makes a stream": ("= []  # those that no", "= [_Lane(self.cupy.cuda)]  # those that no"),
    "CuPy's message": ("except cupy.cuda.compiler.CompileException as error:", "except KeyError as error:"),
}
# of a captured step: in either of the two files
CAPTURED: dict[str, tuple[str, str]] = {
    "the graph's stream does not wait": ("        self.stream.wait_event(before.record())\n", ""),
    "nobody waits for the graph's stream": (
        "            before.wait_event(self.stream.record())\n",
        "            pass\n",
    ),
    "the graph's memory is everybody's": (
        "with self.stream, cuda.using_allocator(self.pool.malloc):",
        "with self.stream:",
    ),
    "recorded in the stream of the others": (
        "with self.stream, cuda.using_allocator(self.pool.malloc):",
        "with cuda.using_allocator(self.pool.malloc):",
    ),
    "repeated in the graph's stream": (
        "self.recorded.launch(self.launcher.cupy.cuda.get_current_stream())",
        "self.recorded.launch(self.stream)",
    ),
    "nothing is refused": ("        if self.capturing:\n", "        if False:\n"),
    "a refusal that was caught is forgotten": ("        if self.refused is not None:\n", "        if False:\n"),
    "an error in the capture is lost": ("        if error is not None:\n            raise error\n", ""),
    "CUDA's words alone": ('"StreamCapture" in str(error):', "False:"),
    "the recording does not end": ("            launcher.recording = None\n", ""),
    "the batch of the third call": (
        "        for i, x in arrays.items():\n            own",
        "        for i, x in arrays.items() if not self.result else ():\n            own",
    ),
    "rates are not followed": ("            group.reclaim()  #", "            pass  #"),
    "settings are not followed": (
        "if not all(_same(_fixed(group), fixed) for group, fixed in self.fixed):",
        "if False:",
    ),
    "the seed is not followed": ("(be.name, state.seed, state.first,", "(be.name, state.first,"),
    "shapes are not told apart": ("(x.shape, x.dtype) if", "x.dtype if"),
    "the same dropout each time": ("self.be.fill(self.moved[name], state.steps[name] - self.first[name])", "pass"),
    "draws are not on the device": ("{STREAMS[name]: x for name, x in self.moved.items()}", "None"),
    "draws are not counted": ("            state.steps[name] += draws\n", "            pass\n"),
    "draws of the recording count, too": ("            state.steps.update(self.first)\n", ""),
    "the recording is not run": (
        "            self._record()\n        self._replay()\n",
        "            self._record()\n        else:\n            self._replay()\n",
    ),
    "results are the graph's own": ("        return self._fresh(self.result)\n", "        return self.result\n"),
    "all in one graph's way": ("self.graph.warm(self.function)", "self.function()"),
    "a broken recording stays": (
        "        except BaseException:\n            self.forget()\n",
        "        except BaseException:\n",
    ),
    "numbers of draws stay on the device": ("            self.be.moved = None\n", "            pass\n"),
}
EXTRA = {
    "the event before the copy": ("pinned.copied = lane.stream.record()", "pinned.copied = early"),
    "the wait after the copy": (
        "                lane.stream.wait_event(cuda.get_current_stream().record())\n                with",
        "                with",
    ),
}


def broken(mutant: str, of: ModuleType = cupy_launcher) -> ModuleType:
    """cupy_launcher.py, or capture.py, with one fault."""
    text = Path(of.__file__ or "").read_text(encoding="utf-8")
    for old, new in filter(None, ((MUTANTS | CAPTURED)[mutant], EXTRA.get(mutant))):
        if text.count(old) != 1:
            raise ValueError(f"{mutant}: {old!r} stands {text.count(old)} times in {of.__name__}, not once")
        text = text.replace(old, new)
    module = ModuleType(of.__name__)
    module.__package__ = of.__package__
    exec(compile(text, f"{of.__name__} ({mutant})", "exec"), vars(module))
    return module


def of_captured(mutant: str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, test) of all that a captured step must pass."""
    modules = {"module": cupy_launcher, "capturing": capturing}
    if mutant:
        place = "module" if CAPTURED[mutant][0] in SOURCE else "capturing"
        modules[place] = broken(mutant, modules[place])
    for test, values in (
        (captured.test_replayed_and_not_run, [()]),
        (captured.test_arguments_and_results, [()]),
        (captured.test_what_may_change_between_calls, [(change,) for change in captured.CHANGES]),
        (captured.test_what_breaks_a_capture, [(message,) for message in captured.REFUSED]),
        (captured.test_other_ways_to_break_a_capture, [()]),
        (captured.test_small_steps_to_the_bit, [(schedule,) for schedule in SCHEDULES]),
    ):
        for given in values:
            yield f"{test.__name__}{list(given)}", lambda test=test, given=given: test(*given, **modules)


def trials(module: ModuleType) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, test) of all that a launcher must pass, the cheap ones first."""
    patched = (
        proofs.test_what_is_missing,
        proofs.test_headers_are_missing,
        proofs.test_large_batches_are_copied_by_a_thread,
    )
    for test in (
        proofs.test_asking_starts_nothing,
        proofs.test_zeros,
        proofs.test_asarray,
        proofs.test_copyto_refuses,
        proofs.test_synchronize,
        proofs.test_out_of_memory,
        proofs.test_a_batch_that_does_not_fit,
        proofs.test_one_batch_ahead,
        proofs.test_much_shared_memory,
        proofs.test_a_kernel_in_a_stream,
        proofs.test_a_kernel_that_does_not_compile,
        proofs.test_half_types,
        *patched,
    ):
        yield test.__name__, lambda test=test: _with_patches(test, module) if test in patched else test(module=module)
    for name in ("random_bits", "dense", "conv2d", "clip"):
        yield f"test_kernel[{name}]", lambda name=name: proofs.test_kernel(name, module)
    for schedule in SCHEDULES:
        for test in (proofs.test_copyto, proofs.test_batches_ahead, proofs.test_batches_ahead_of_two):
            yield f"{test.__name__}[{schedule}]", lambda test=test, s=schedule: test(s, module)
        for end in ("closed", "dropped", "exhausted"):
            yield (
                f"test_pinned_memory_is_given_back_after_its_copies[{schedule}, {end}]",
                lambda s=schedule, e=end: proofs.test_pinned_memory_is_given_back_after_its_copies(s, e, module),
            )


def _with_patches(test: Callable, module: ModuleType) -> None:
    patch = proofs.pytest.MonkeyPatch()
    try:
        test(patch, module)
    finally:
        patch.undo()


def noticed(mutant: str | None) -> str | None:
    """The first test that fails on a mutant (None: on the launcher as it is)."""
    tried = of_captured(mutant) if mutant in CAPTURED else trials(broken(mutant) if mutant else cupy_launcher)
    for name, trial in tried if mutant else itertools.chain(tried, of_captured(None)):
        try:
            trial()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return name
    return None


def main() -> int:
    start, survived = time.time(), 0
    if name := noticed(None):
        raise SystemExit(f"the launcher as it is fails {name}")
    for mutant in (*MUTANTS, *CAPTURED):
        name = noticed(mutant)
        survived += name is None
        print(f"{mutant:48} {name or 'SURVIVED'}", flush=True)
    print(f"{len(MUTANTS) + len(CAPTURED)} mutants, {survived} survived, {time.time() - start:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
