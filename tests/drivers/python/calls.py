"""The calls of calls.json, as a driver for Python plays them."""

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID


class Calls:
    def __init__(self):
        self.transactions = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        self.saved, self.answers = {}, []

    def parameters(self, call, document):
        """What a program would pass; `document` is what the driver takes for jsonb."""
        return [self.value(*next(iter(argument.items())), document) for argument in call["with"]]

    def value(self, kind, given, document):
        if isinstance(given, str) and given.startswith("@"):
            return self.saved[given[1:]]
        if given is None:
            return None
        if kind in ("texts", "bigints", "uuids"):
            return [self.value(kind[:-1], item, document) for item in given]
        if kind == "timestamp":
            return datetime.now(timezone.utc) if given == "now" else datetime.fromisoformat(given.replace("Z", "+00:00"))
        return {"json": document, "uuid": UUID, "bytes": bytes.fromhex}.get(kind, lambda plain: plain)(given)

    def told(self, call, rows):
        for name, column in call.get("save", {}).items():
            self.saved[name] = rows[0][column]
        self.answers.append([list(row) for row in rows])

    def ended(self, sqlstate=None, message=None):
        """Says what the calls of a transaction answered, and whether it failed."""
        print(json.dumps({"answers": self.answers, "failed": message, "sqlstate": sqlstate}, default=spelled), flush=True)
        self.answers = []


def spelled(value):
    return value.hex() if isinstance(value, bytes) else str(value)
