"""A server whose disk can be full, for an ordinary user, too (full_disk.c)."""

import contextlib
import subprocess
from pathlib import Path

from common import target_dir
from server import Server


class SmallDisk(Server):
    def create(self, *initdb_options, like=None):
        shim = target_dir() / "drill" / "full_disk.so"
        shim.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(Path(__file__).with_name("full_disk.c")), "-ldl"], check=True)
        super().create(*initdb_options, like=like)
        self.full = self.base / "full"
        self.loader = {"LD_PRELOAD": str(shim), "FULL_DISK": str(self.full)}
        return self

    @contextlib.contextmanager
    def full_disk(self):
        self.full.touch()
        try:
            yield
        finally:
            self.full.unlink()
