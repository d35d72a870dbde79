"""Compiles the CPU backend where there is a C++ compiler; without one the package installs all the same.

`pip install` runs this through hatchling. `python hatch_build.py` compiles in place after a change of the
C++ sources.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    BuildHookInterface = object

ROOT = Path(__file__).parent
SOURCES = ROOT / "src" / "rnnatlas" / "rnn" / "backends" / "cpp"
LIBRARY = SOURCES / "librnnatlas.so"

# -O3 unrolls the tiles; errno and trapping would keep selections from becoming blends. Not -ffast-math:
# NaN must stay NaN and the rounding trick in expm1 must stay as written.
FLAGS = ["-std=gnu++17", "-O3", "-fPIC", "-fvisibility=hidden"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mprefer-vector-width=512"]
X86 = {"avx2": AVX2, "avx512": AVX512}
HALF = {"avx512bf16": [*AVX512, "-mavx512bf16"]}


class CompileHook(BuildHookInterface):
    """Adds the compiled library to the wheel, which then fits one platform and every Python."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict) -> None:
        """Compiles, or says why not and goes on."""
        if self.target_name != "wheel":
            return
        try:
            compile_library()
        except (OSError, subprocess.CalledProcessError) as error:
            details = getattr(error, "stderr", None) or error
            self.app.display_warning(f"rnnatlas: the fast CPU backend was not compiled: {details}")
            return
        build_data["pure_python"] = False
        build_data["artifacts"].append(str(LIBRARY.relative_to(ROOT)))
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_library() -> Path:
    """Compiles the kernels once per instruction set and links them; the library appears whole or not at all.

    Raises:
        FileNotFoundError: There is no C++ compiler ($CXX, c++, g++ or clang++).
        subprocess.CalledProcessError: It failed; `stderr` says how.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    compilers = [shlex.split(name) for name in names if shutil.which(shlex.split(name)[0])]
    if not compilers or os.name == "nt":
        raise FileNotFoundError(f"no usable C++ compiler among {', '.join(names)}")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    builds = {"portable": []} | (X86 if x86 else {})
    digest = f'-DRNNATLAS_SOURCES="{source_digest()}"'
    defines = [digest, *(f"-DRNNATLAS_{name.upper()}" for name in builds)]
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (SOURCES / f"{source}.cpp", f"{folder}/{source}-{name}.o", [f"-DISA={name}", *flags])
            for source, own in {"kernels": builds, "layer": builds | (HALF if x86 else {})}.items()
            for name, flags in own.items()
        ]
        jobs.append((SOURCES / "dispatch.cpp", f"{folder}/dispatch.o", defines))

        def compile_one(job: tuple[Path, str, list[str]]) -> None:
            source, target, flags = job
            _call([*compilers[0], *FLAGS, *flags, "-c", str(source), "-o", target])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, jobs))
        whole = f"{folder}/librnnatlas.so"
        _call([*compilers[0], "-shared", *(target for _, target, _ in jobs), "-o", whole, "-pthread"])
        partial = LIBRARY.with_suffix(".partial")
        shutil.copyfile(whole, partial)
        partial.replace(LIBRARY)
    return LIBRARY


def source_digest() -> str:
    """Tells the package whether a library was compiled from the sources beside it."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _call(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    try:
        print(compile_library())
    except subprocess.CalledProcessError as failure:
        sys.exit(failure.stderr)
    except OSError as failure:
        sys.exit(str(failure))
