"""As much of Prometheus' language as monitoring/grafana.json uses: sums of rates, quantiles of histograms, and what is computed from these."""

import re

TOKEN = re.compile(r'\s*(?:(?P<number>\d+(?:\.\d+)?)(?![\w])|(?P<name>[A-Za-z_]\w*)|(?P<text>"[^"]*")|(?P<mark>=~|[][(){},=/*>]))')


class Series(dict):
    """{labels: value}; labels are a frozenset of pairs."""


def tokens(expression):
    found, at = [], 0
    while at < len(expression.rstrip()):
        match = TOKEN.match(expression, at)
        # A range is a number with a unit.
        window = re.compile(r"\s*(\d+)m\]").match(expression, at)
        if window:
            found += [("window", int(window.group(1)) * 60), ("mark", "]")]
            at = window.end()
        elif match:
            found.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        else:
            raise ValueError(f"not understood: {expression[at:]}")
    return found


class Parser:
    """Turns an expression into a function of a history, `at(metric, seconds ago)`. Ranges are so many times shorter than they say."""

    def __init__(self, expression, shorter):
        self.left, self.shorter = tokens(expression), shorter

    def take(self, wanted=None):
        kind, value = self.left.pop(0)
        if wanted is not None and value != wanted:
            raise ValueError(f"{value!r} instead of {wanted!r}")
        return float(value) if kind == "number" else value

    def next_is(self, *values):
        return bool(self.left) and self.left[0][1] in values

    def whole(self):
        found = self.expression()
        if self.left:
            raise ValueError(f"left over: {self.left}")
        return found

    def expression(self):
        found = self.term()
        while self.next_is("/", "*", ">"):
            found = both(self.take(), found, self.term())
        return found

    def term(self):
        if self.left[0][0] == "number":
            number = self.take()
            return lambda at: number
        name = self.take()
        if name == "sum":
            self.take("by")
            labels = self.listed("(", ")")
            return sum_by(labels, self.bracketed())
        if name == "histogram_quantile":
            self.take("(")
            part = self.take()
            self.take(",")
            inner = self.expression()
            self.take(")")
            return quantile(part, inner)
        if name == "rate":
            self.take("(")
            select = self.selector(self.take())
            self.take("[")
            window = self.take()
            self.take("]"), self.take(")")
            return rate(select, window / self.shorter)
        select = self.selector(name)
        return lambda at: select(at, 0)

    def bracketed(self):
        self.take("(")
        inner = self.expression()
        self.take(")")
        return inner

    def listed(self, opening, closing):
        self.take(opening)
        found = []
        while not self.next_is(closing):
            found.append(self.take())
            if self.next_is(","):
                self.take()
        self.take(closing)
        return found

    def selector(self, metric):
        matchers = []
        if self.next_is("{"):
            self.take()
            while not self.next_is("}"):
                label, how, text = self.take(), self.take(), self.take()[1:-1]
                matchers.append((label, re.escape(text) if how == "=" else text))
                if self.next_is(","):
                    self.take()
            self.take("}")

        def select(at, ago):
            # A variable of the board, such as $instance, stands for all.
            return Series((labels, value) for labels, value in at(metric, ago).items()
                          if all(pattern.startswith("$") or re.fullmatch(pattern, dict(labels).get(label, "")) for label, pattern in matchers))
        return select


def rate(select, window):
    def found(at):
        now, then = select(at, 0), select(at, window)
        return Series((labels, max(0.0, value - then[labels]) / window) for labels, value in now.items() if labels in then)
    return found


def sum_by(names, inner):
    def found(at):
        sums = Series()
        for labels, value in inner(at).items():
            kept = frozenset(pair for pair in labels if pair[0] in names)
            sums[kept] = sums.get(kept, 0.0) + value
        return sums
    return found


def quantile(part, inner):
    def found(at):
        histograms, quantiles = {}, Series()
        for labels, value in inner(at).items():
            of = dict(labels)
            histograms.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((float(of["le"].replace("+Inf", "inf")), value))
        for labels, buckets in histograms.items():
            buckets.sort()
            wanted = part * buckets[-1][1]
            below, under = 0.0, 0.0
            for le, value in buckets:
                if wanted > 0 and value >= wanted:
                    quantiles[labels] = below if le == float("inf") else below + (le - below) * (wanted - under) / (value - under)
                    break
                below, under = le, value
        return quantiles
    return found


def both(operator, left, right):
    def found(at):
        one, other = left(at), right(at)
        if isinstance(other, dict):
            return Series((labels, value / other[labels]) for labels, value in one.items() if other.get(labels))
        if operator == ">":
            return Series((labels, value) for labels, value in one.items() if value > other)
        return Series((labels, value * other if operator == "*" else value / other) for labels, value in one.items())
    return found


def parse(expression, shorter=1):
    return Parser(expression, shorter).whole()
