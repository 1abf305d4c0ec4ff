"""A Ruby and for it the driver of Postgres, of one release of Debian: unpacked into the cache, with the libraries that they need."""

import os
import re

from debian import TRIPLET, Apt, libraries, unpacked

# A release whose C library is no newer than the system's.
RELEASE, VERSION = "bookworm", "3.1"
# The C library is the system's. The rest are packages of gems, and what builds or installs some.
NOT_NEEDED = re.compile(r"libc6$|gcc-|debconf$|openssl$|ca-certificates$|rake$|ruby-(?!pg$)|rubygems-|ruby$|libruby$")


def root():
    def fill(root):
        apt = Apt(suite=RELEASE)
        apt.programs([name for name in apt.closure("ruby-pg") if not NOT_NEEDED.match(name)], root)
    return unpacked(f"ruby-pg-{RELEASE}", f"Debian's ruby-pg and Ruby {VERSION} of {RELEASE}", 14, fill, NOT_NEEDED.pattern)


def command():
    """How to run a file, and with which environment: without gems, the system's or the caller's."""
    home = root() / "usr" / "lib"
    # The driver's own directories come first: a system's Ruby may have another one.
    modules = [directory / f"{kind}{VERSION}.0" for kind in ("vendor_ruby/", "") for directory in (home / "ruby", home / TRIPLET / "ruby")]
    env = {"RUBYLIB": os.pathsep.join(map(str, [home / "ruby" / "vendor_ruby", *modules])), "RUBYOPT": "", "LD_LIBRARY_PATH": libraries(root())}
    return [root() / "usr" / "bin" / f"ruby{VERSION}", "--disable=gems"], env
