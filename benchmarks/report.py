"""Statistics, tables, the machine's description and the chart of cpu.py."""

from __future__ import annotations

import math
import os
import platform
import random
from pathlib import Path
from statistics import median, quantiles

# what is compared with what: tinynet's mode, and the peers beside it
PAIRS = {
    "tinynet trainer": (
        "tf.function",
        "keras fit",
        "torch",
        "torch channels_last",
        "torch compile",
        "torch compile channels_last",
        "jax jit",
        "mygrad",
        "dezero",
    ),
    "tinynet fit": ("tinynet trainer", "tf.function", "keras fit", "torch", "torch channels_last"),
    "tinynet loop": ("torch", "torch channels_last", "tf.function"),
    "tinynet exact, 1 core": ("torch, 1 core", "torch channels_last, 1 core"),
}


def disagreements(results: dict, tolerances: tuple[float, float]) -> dict[str, str]:
    """{contender: what is wrong} where losses are not those of the others (the median's)."""
    wrong = {}
    middle = [median(column) for column in zip(*(r["losses"] for r in results.values()), strict=True)]
    for name, r in results.items():
        away = [abs(a - b) / max(1, abs(b)) for a, b in zip(r["losses"], middle, strict=True)]
        r["loss_error"] = [away[0], max(away)]
        if not (away[0] <= tolerances[0] and max(away) <= tolerances[1]):
            wrong[name] = (
                f"computes something else: losses {', '.join(f'{v:.5f}' for v in r['losses'])}, the others' "
                f"{', '.join(f'{v:.5f}' for v in middle)}"
            )
    return wrong


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return middle, low, high


def ratio(other: dict[int, float], base: dict[int, float], draws: int = 2000) -> tuple[float, float, float]:
    """How many times the other's median is the base's, and a 90% interval: rounds drawn anew again and again."""
    rounds = sorted(set(other) & set(base))
    rng = random.Random(0)
    samples = []
    for _ in range(draws):
        some = rng.choices(rounds, k=len(rounds))
        samples.append(median(other[r] for r in some) / median(base[r] for r in some))
    samples.sort()
    return (
        median(other[r] for r in rounds) / median(base[r] for r in rounds),
        samples[draws // 20],
        samples[-draws // 20],
    )


def summarise(results: dict) -> dict:
    """Each contender's milliseconds a step (median and quartiles over turns, each the median of its steps)."""
    summary = {}
    for name, r in results.items():
        turns = {t["round"]: 1e3 * median(t["times"]) for t in r["turns"] if t["times"]}
        if turns:
            middle, low, high = spread(list(turns.values()))
            steps = [t for turn in r["turns"] for t in turn["times"]]
            summary[name] = {
                "ms": middle,
                "low": low,
                "high": high,
                "turns": turns,
                "steps": len(steps),
                "mean_ms": 1e3 * sum(steps) / len(steps),
                **{k: r[k] for k in ("memory", "high_water", "cores", "idle", "losses", "loss_error", "versions")},
            }
    for base, others in PAIRS.items():
        for name in others:
            if base in summary and name in summary:
                ratios = summary[name].setdefault("times_tinynet", {})
                ratios[base] = ratio(summary[name]["turns"], summary[base]["turns"])
    return summary


def agreement(results: dict) -> str:
    """How far each contender's losses are from the median's."""
    return "\n".join(
        f"  {name:28} first loss {r['losses'][0]:.6f}, away by {r['loss_error'][0]:.0e}, then by "
        f"{r['loss_error'][1]:.0e}"
        for name, r in results.items()
    )


def table(row: dict) -> str:
    """A network's table."""
    lines = [f"  {'contender':28}{'ms a step':>10}  {'quartiles':17}{'memory':>8}   time in tinynet's (90% interval)"]
    for name, c in row["contenders"].items():
        ratios = "   ".join(
            f"{r:5.2f} ({low:.2f}-{high:.2f}) × {base.split(' ', 1)[1]}"
            for base, (r, low, high) in c.get("times_tinynet", {}).items()
        )
        quartiles = f"{c['low']:.2f}-{c['high']:.2f}"
        note = f"   [busy for {c['idle']:.0%} of another's turn]" if c["idle"] > 0.05 else ""
        lines.append(f"  {name:28}{c['ms']:10.2f}  {quartiles:17}{c['memory'] / 1e6:5.0f} MB   {ratios}{note}")
    worst = max((c["loss_error"] for c in row["contenders"].values()), default=[0, 0])
    lines.append(
        f"  losses agree: first to {worst[0]:.0e}, after steps to "
        f"{max((c['loss_error'][1] for c in row['contenders'].values()), default=0):.0e} (relative)"
    )
    return "\n".join(lines)


def geometric(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def overview(result: dict) -> str:
    """Ratios of all networks: what the peers' steps take in those of tinynet, least and geometric mean."""
    names = list(result["networks"])
    lines = ["", "Times of a step in tinynet's: above 1, tinynet is faster"]
    for base, others in PAIRS.items():
        rows = []
        for other in others:
            rows_of = {n: result["networks"][n]["contenders"].get(other, {}) for n in names}
            found = {n: row.get("times_tinynet", {}).get(base) for n, row in rows_of.items()}
            have = [r[0] for r in found.values() if r]
            if have:
                cells = "".join(f"{found[n][0]:>13.2f}" if found[n] else f"{'-':>13}" for n in names)
                rows.append(f"    {other:28}{cells}{min(have):>10.2f}{geometric(have):>10.2f}")
        if rows:
            lines += ["", f"  {base:30}{''.join(f'{n:>13}' for n in names)}{'least':>10}{'mean':>10}", *rows]
    return "\n".join(lines)


def machine(cores: list[int]) -> dict:
    """What the numbers were taken on."""
    import numpy as np

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    flags = next((line.split(":")[1].split() for line in info.splitlines() if line.startswith("flags")), [])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        "cpu": model,
        "cores": cores,
        "cores_of_machine": os.cpu_count(),
        "memory_gb": round(total / 1e9, 1),
        "simd": [f for f in ("avx2", "fma", "avx512f", "avx512_vnni", "amx_tile") if f in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name', '?')} {blas.get('version', '?')}",
        "load": os.getloadavg()[0],
    }


def describe(m: dict) -> str:
    """The machine in a line."""
    return (
        f"{m['cpu']} ({' '.join(m['simd'])}), cores {m['cores']} of {m['cores_of_machine']}, {m['memory_gb']} GB, "
        f"{m['system']}, NumPy {m['numpy']} with {m['blas']}, load average {m['load']:.2f}"
    )


def chart(result: dict, path: Path) -> str:
    """Draw milliseconds a step of all contenders, a panel a network; bars beyond 8 times the shortest are cut off."""
    try:
        import matplotlib
    except ImportError:
        return "no chart: matplotlib is not installed"
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [n for n, row in result["networks"].items() if row["contenders"]]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, 3.4 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        rows_ = list(result["networks"][name]["contenders"].items())[::-1]
        colours = ["#d1495b" if label.startswith("tinynet") else "#8d99ae" for label, _ in rows_]
        errors = [[c["ms"] - c["low"] for _, c in rows_], [c["high"] - c["ms"] for _, c in rows_]]
        labels, values = [label for label, _ in rows_], [c["ms"] for _, c in rows_]
        axis.barh(labels, values, xerr=errors, color=colours)
        end = min(1.15 * max(c["high"] for _, c in rows_), 8 * min(values))
        axis.set_xlim(0, end)
        for place, (_, c) in enumerate(rows_):
            cut = c["high"] > 0.9 * end
            number = f"{c['ms']:.2f}" if c["ms"] < 10 else f"{c['ms']:.0f}"
            axis.text(
                0.98 * end if cut else c["high"] + 0.01 * end,
                place,
                number + " →" * (c["ms"] > end),
                fontsize=7,
                va="center",
                ha="right" if cut else "left",
            )
        axis.tick_params(labelsize=7)
        axis.set_title(f"{name}, batch {result['networks'][name]['batch']}", fontsize=9)
        axis.set_xlabel("ms a training step", fontsize=7)
    figure.suptitle(f"{result['machine']['cpu']}, {len(result['machine']['cores'])} cores", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    return f"chart: {path}"
