"""`make package`: a tarball with the files to install, META.json and the texts."""

import platform
import shutil
import sys
import tarfile

from common import EXTENSION, ROOT, run_main, say, target_dir
from prefix import make_prefixes
from stage import extension_version, find_pg_config, is_library, major_of, private_pg_config, stage, staged_files


def meta_json(version):
    return (ROOT / "META.json.in").read_text().replace("@CARGO_VERSION@", version)


def as_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def main():
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    if given:
        pg_config = find_pg_config(given)
    else:
        make_prefixes()
        pg_config = private_pg_config()
    version, major = extension_version(), major_of(pg_config)
    staged = stage(pg_config)
    name = f"{EXTENSION}-{version}-pg{major}-{platform.system().lower()}-{platform.machine()}"
    out = target_dir() / "package" / name
    shutil.rmtree(str(out), ignore_errors=True)
    for source, _ in staged_files(staged):
        # Not the absolute paths of the Postgres at hand: lib/ goes to pkglibdir, extension/ to sharedir/extension.
        into = out / ("lib" if is_library(source) else "extension")
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(source), str(into / source.name))
    (out / "META.json").write_text(meta_json(version))
    for text in ("LICENSE", "README.md", "CHANGELOG.md"):
        if (ROOT / text).exists():
            shutil.copy2(str(ROOT / text), str(out / text))
    archive = out.with_name(name + ".tar.gz")
    with tarfile.open(str(archive), "w:gz") as tar:
        tar.add(str(out), arcname=name, filter=as_root)
    say(f"{archive}\nholds, for Postgres {major}:")
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        say(f"    {path.relative_to(out)}")
    say("to install: cp lib/* \"$(pg_config --pkglibdir)\" && cp extension/* \"$(pg_config --sharedir)/extension\"")


if __name__ == "__main__":
    run_main(main)
