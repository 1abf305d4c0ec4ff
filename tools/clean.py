"""`make clean`: deletes what was built for this checkout. Downloads and cargo-pgrx, which other checkouts share, stay."""

import shutil

from common import cache_dir, checkout_dir, run_main, say, target_dir
from play import running, state_file


def main():
    server = running()
    if server:
        server.stop()
        state_file().unlink()
    # `make faults` works in a copy below target/, which is a checkout to the tools.
    for directory in (checkout_dir((target_dir() / "faults" / "tree").resolve()), target_dir(), checkout_dir()):
        shutil.rmtree(str(directory), ignore_errors=True)
    say(f"clean. Downloads and cargo-pgrx stay in {cache_dir()}: delete that directory to be rid of them too.")


if __name__ == "__main__":
    run_main(main)
