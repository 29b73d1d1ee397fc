"""What is installed and what the machine can do, found out without importing anything heavy."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

__all__ = ["Check", "check_installation", "check_machine", "usable_cores", "usable_memory"]

State = Literal["ok", "note", "wrong"]

ENGINE = "pip install 'shoptalk[cpu]'"
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_GIB = 1024**3
_LITTLE_MEMORY = 2 * _GIB
_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and the command or edit that mends it ("" where nothing is to do)."""

    name: str
    state: State
    message: str
    mend: str = ""


def check_installation() -> Iterator[Check]:
    """Yield what is installed: Python, the packages by what needs them, FAISS."""
    yield Check("python", "ok", f"{platform.python_version()}, {sys.executable}")
    try:
        own = distribution("shoptalk")
    except PackageNotFoundError:
        yield Check("shoptalk", "note", "runs from its folder and is not installed", "pip install -e '.[cpu]'")
        return
    needs = _needs(own)
    yield Check("shoptalk", "ok", own.version)
    yield _core(needs.pop("", []))
    yield _engine(needs.pop("engine", []))
    yield from _faiss()
    yield _extras({extra: names for extra, names in needs.items() if extra not in ("cpu", "gpu")})


def check_machine(device: str) -> Iterator[Check]:
    """Yield what the machine can do; ``device`` is the setting ``model.device``."""
    yield _processor()
    yield _memory()
    yield _gpu(device)
    threads = {0: "one thread only", 1: "a connection a thread", 3: "thread-safe"}[sqlite3.threadsafety]
    state: State = "wrong" if sqlite3.threadsafety == 0 else "ok"
    mend = "use a Python whose SQLite is built with threads" if state == "wrong" else ""
    yield Check("sqlite", state, f"{sqlite3.sqlite_version}, {threads}", mend)


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and what its control group grants."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, round(int(quota[0]) / int(quota[1]))))
    return cores


def usable_memory() -> int:
    """Return the bytes of memory this process may use: the machine's, or its control group's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(_CGROUP / "memory.max").strip()
    return min(memory, int(limit)) if limit.isdigit() else memory


def _needs(own: Distribution) -> dict[str, list[str]]:
    """The requirements of each extra ("": of the core) that apply here, but for Shoptalk's own extras."""
    from packaging.requirements import Requirement

    needs: dict[str, list[str]] = {}
    extras = own.metadata.get_all("Provides-Extra") or []
    for text in own.requires or []:
        requirement = Requirement(text)
        if requirement.name == "shoptalk":
            continue
        for extra in ("", *extras):
            if requirement.marker is None:
                applies = not extra
            else:
                applies = requirement.marker.evaluate({"extra": extra}) and (
                    not extra or not requirement.marker.evaluate({"extra": ""})
                )
            if applies:
                needs.setdefault(extra, []).append(f"{requirement.name}{requirement.specifier}")
    return {extra: needs.get(extra, []) for extra in ("", *extras)}


def _look(requirements: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """What of ``requirements`` is there (with its version), missing, and there in a version outside the range."""
    from packaging.requirements import Requirement

    there, missing, unfit = [], [], []
    for text in requirements:
        requirement = Requirement(text)
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            missing.append(requirement.name)
            continue
        there.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            unfit.append(f"{requirement.name} {version} (wanted: {requirement.specifier})")
    return there, missing, unfit


def _core(requirements: list[str]) -> Check:
    there, missing, unfit = _look(requirements)
    if missing:
        return Check("core", "wrong", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    if unfit:
        return Check("core", "note", f"untested versions: {', '.join(unfit)}", "pip install -U shoptalk")
    return Check("core", "ok", ", ".join(there))


def _engine(requirements: list[str]) -> Check:
    there, missing, unfit = _look(requirements)
    if missing and any(name.startswith(("torch", "sentence-transformers", "tantivy")) for name in there):
        return Check("engine", "wrong", f"half installed, missing: {', '.join(missing)}", ENGINE)
    if missing:
        return Check("engine", "note", "not installed: only `ask` against a server elsewhere works", ENGINE)
    if unfit:
        return Check("engine", "note", f"untested versions: {', '.join(unfit)}", f"{ENGINE} -U")
    return Check("engine", "ok", ", ".join(there))


def _faiss() -> Iterator[Check]:
    """faiss-cpu and the GPU builds own the same folder: two of them, or one taken away, break what is left."""
    names = sorted({name for item in distributions() if (name := _normal(item)).startswith("faiss-")})
    spec = PathFinder.find_spec("faiss")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    anew = f"pip uninstall {' '.join(names) or 'faiss-cpu faiss-gpu'}, then: {ENGINE}"
    if len(names) > 1:
        yield Check("faiss", "wrong", f"{' and '.join(names)} overwrite each other", anew)
    elif not names and folder is None:
        yield Check("faiss", "note", "not installed: no dense search", ENGINE)
    elif folder is None or not any(folder.glob("_swigfaiss*")):
        yield Check("faiss", "wrong", "half of it is gone (two FAISS packages were installed and one removed?)", anew)
    elif names:
        yield Check("faiss", "ok", f"{names[0]} {distribution(names[0]).version}")
    else:
        yield Check("faiss", "ok", f"built from source, in {folder}")


def _normal(item: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", item.metadata["Name"] or "").lower()


def _extras(needs: dict[str, list[str]]) -> Check:
    said = []
    for extra, requirements in needs.items():
        there, missing, _ = _look(requirements)
        state = "no" if not there else "yes" if not missing else f"without {', '.join(missing)}"
        said.append(f"{extra}: {state}")
    return Check("extras", "ok", "; ".join(said))


def _processor() -> Check:
    cores, machine = usable_cores(), platform.machine()
    told = f"{cores} {'core' if cores == 1 else 'cores'}, {machine}"
    flags = set(_read(Path("/proc/cpuinfo")).partition("flags")[2].partition("\n")[0].split())
    if not flags:
        return Check("processor", "ok", told)
    able = [flag for flag in _CPU_FLAGS if flag in flags]
    if "avx2" not in flags:
        return Check("processor", "note", f"{told}, without AVX2: encoding and vector search are slow")
    return Check("processor", "ok", f"{told}, {' '.join(able)}")


def _memory() -> Check:
    memory = usable_memory()
    told = f"{memory / _GIB:.1f} GiB usable"
    available = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    if available:
        told += f", {min(memory, int(available[1]) * 1024) / _GIB:.1f} GiB free"
    if memory < _LITTLE_MEMORY:
        return Check("memory", "note", f"{told}: too little to tune a model", "take a machine with 4 GiB or more")
    return Check("memory", "ok", told)


def _gpu(device: str) -> Check:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Check("gpu", "ok", "Apple GPU" if device in ("auto", "mps") else f"not used: model.device = {device}")
    driver = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", _read(_NVIDIA_DRIVER))
    if driver is None and not _NVIDIA_DRIVER.exists():
        if device.startswith("cuda"):
            return Check("gpu", "wrong", f"model.device = {device}, and no NVIDIA driver is loaded", "set it to auto")
        return Check("gpu", "ok", "none with an NVIDIA driver; models run on the CPU")
    told = f"NVIDIA driver {driver[1] if driver else 'of unknown version'}"
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return Check("gpu", "note", f"{told}, but no device: the container was given none", "docker run --gpus all …")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Check("gpu", "note", f"{told}; not used: CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES")
    if device == "cpu":
        return Check("gpu", "note", f"{told}; not used: model.device = cpu", "set model.device to auto")
    build = _torch_build()
    if build == "cpu":
        return Check("gpu", "note", f"{told}; not used: this PyTorch has no CUDA", "install PyTorch's CUDA build")
    return Check("gpu", "ok", f"{told}, PyTorch for {build}" if build else f"{told}; PyTorch is not installed")


def _torch_build() -> str:
    """What PyTorch was built for ("CUDA 12.8", "ROCm 6.3", "cpu"), "" where there is none; it is not imported."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return ""
    text = _read(Path(next(iter(spec.submodule_search_locations))) / "version.py")
    for key, name in (("cuda", "CUDA"), ("hip", "ROCm")):
        found = re.search(rf"^{key}\b[^=]*= '([^']+)'", text, re.MULTILINE)
        if found:
            return f"{name} {found[1]}"
    return "cpu"


def _read(path: Path) -> str:
    """The text of a file of the system's, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
