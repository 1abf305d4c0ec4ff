"""The client for Node: the pinned Node.js, and what clients/node/package-lock.json pins."""

import hashlib
import os
import shutil
import subprocess

from common import ROOT, Failure, cache_dir, locked, step
from fetch import node_dir

CLIENT = ROOT / "clients" / "node"


def node():
    return node_dir() / "bin" / "node"


def npm():
    return [node(), node_dir() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def node_env(env=None):
    """With our Node before any other. Its own settings must not change what runs."""
    env = dict(os.environ if env is None else env)
    env.pop("NODE_OPTIONS", None)
    return {**env, "PATH": f"{node().parent}{os.pathsep}{env.get('PATH', os.defpath)}"}


def install():
    """`npm ci`, unless exactly this is installed already."""
    modules = CLIENT / "node_modules"
    stamp = modules / "installed"
    digest = hashlib.sha256(b"".join((CLIENT / name).read_bytes() for name in ("package.json", "package-lock.json"))).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    with locked(cache_dir()):
        if stamp.exists() and stamp.read_text() == digest:
            return
        with step("installing what clients/node/package-lock.json pins"):
            shutil.rmtree(str(modules), ignore_errors=True)
            done = subprocess.run([*map(str, npm()), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=str(CLIENT), env=node_env(),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            if done.returncode != 0:
                raise Failure(f"npm could not install what clients/node needs; it takes a registry of npm packages that can be reached:\n{done.stdout}".rstrip())
            stamp.write_text(digest)
