"""The first lines of README are what a new user types."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_first_lines_work(dsn, admin, capsys):
    program = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)[0]
    assert "dbname=shop" in program
    admin.execute("CREATE SCHEMA IF NOT EXISTS readme")
    admin.execute("CREATE TABLE readme.payment (customer text, amount numeric)")
    program = program.replace('"dbname=shop"', f'"{dsn} options=-csearch_path=readme,public"')
    for _ in range(2):
        names: dict[str, object] = {}
        exec(program, names)
        names["pool"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "{'paid': 25}\n" * 2
    assert admin.execute("SELECT count(*) FROM readme.payment").fetchone() == (1,)
