"""Coverage-guided fuzzing of `readers` with atheris (libFuzzer's options apply).

    python -m tests.fuzz.fuzz_session [-max_total_time=60] [-runs=N] [-seed=N] [corpus directory]

Without a corpus directory a fresh one is made from the recordings.
"""

import pathlib
import subprocess
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["proto"]):
    from tests.fuzz import readers


def main() -> None:
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        sys.exit(_with_fresh_corpus())
    atheris.Setup(sys.argv, readers.one_input)
    atheris.Fuzz()


def _with_fresh_corpus() -> int:
    """In a process of its own: libFuzzer ends the one that it is in, and nobody would clear away."""
    with tempfile.TemporaryDirectory(prefix="riata-fuzz-") as made:
        readers.write_seeds(pathlib.Path(made))
        command = [sys.executable, "-m", "tests.fuzz.fuzz_session", *sys.argv[1:], made]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    main()
