"""Coverage-guided fuzzing of `readers` with atheris (libFuzzer's options apply).

    python -m tests.fuzz.fuzz_session [-max_total_time=60] [-runs=N] [-seed=N] [corpus directory]

Without a corpus directory a fresh one is made from the recordings.
"""

import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["proto"]):
    from tests.fuzz import readers


def main() -> None:
    arguments = list(sys.argv)
    with tempfile.TemporaryDirectory(prefix="riata-fuzz-") as made:
        if all(argument.startswith("-") for argument in arguments[1:]):
            readers.write_seeds(pathlib.Path(made))
            arguments.append(made)
        atheris.Setup(arguments, readers.one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
