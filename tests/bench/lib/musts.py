# SPDX-License-Identifier: GPL-2.0-or-later
"""What the measured medians must show, line by line: met, not met, not measured."""
import dataclasses

from . import fio, scale

OURS = "vmcryptfs"
PASSTHROUGH = ("passthrough_ll", "passthrough_ll-cached")
OTHERS = {"passthrough_ll": PASSTHROUGH}


@dataclasses.dataclass
class Finding:
    line: str
    wanted: str
    measured: str
    met: object         # True, False, None: not measured
    stretch: bool = False

    def word(self):
        word = {True: "met", False: "**not met**", None: "not measured"}[self.met]
        return "stretch: " + word.replace("*", "") if self.stretch else word


def best(results, path, row, other, key="value"):
    """Of those that go by this name, the one that does better."""
    found = [results.median(path, row.name, who, key) for who in OTHERS.get(other, (other,))]
    found = [value for value in found if value]
    if not found:
        return None
    return min(found) if row.less_is_better else max(found)


def times(results, place, row, factor, other, line, stretch=False):
    """Ours does at least factor times the other's figure; in time, needs at most 1 / factor."""
    mine = results.median(place["path"], row.name, OURS)
    theirs = best(results, place["path"], row, other)
    line = f"{place['kind']}: {line}"
    if row.less_is_better:
        wanted = f"<= {1 / factor:.3g} x {other}'s time"
    else:
        wanted = f">= {factor:g} x {other}"
    if not mine or not theirs:
        return Finding(line, wanted, "-", None, stretch)
    ratio = mine / theirs
    met = ratio <= 1 / factor + 1e-9 if row.less_is_better else ratio >= factor
    marks = "".join(f", {who} buffered" for who in (OURS, other)
                    if results.buffered(place["path"], row.name, who)
                    and getattr(row, "direct", False))
    return Finding(line, wanted, f"{ratio:.2f}{marks}", met, stretch)


def at_most(results, place, row, key, limit, line, wanted, form="{:.3g}"):
    value = results.median(place["path"], row.name, OURS, key)
    return Finding(f"{place['kind']}: {line}", wanted, "-" if value is None else form.format(value),
                   None if value is None else value <= limit)


FIO_LINES = {
    "seqread": ((3.0, "passthrough_ll"), (4.5, "gocryptfs"), (12, "qemu")),
    "seqwrite": ((0.9, "passthrough_ll"), (6, "gocryptfs"), (10, "qemu")),
    **{f"rand{way}1{pin}": ((1.15, "passthrough_ll"), (1.7, "gocryptfs"), (3, "qemu"),
                            (1.8, "passthrough_ll", True))
       for way in ("read", "write") for pin in ("", "pin")},
    **{f"rand{way}32": ((1.1, "passthrough_ll"), (8, "gocryptfs"), (5, "qemu"),
                        (0.75, "plain", True)) for way in ("read", "write")},
}
JOB_LINES = {
    **{name: 1 / 1.15 for name in ("mkfs", "convertin", "convertout", "cpsparse")},
    **{name: 1.0 for name in ("untar", "lsplain", "findplain")},
    **{name: 0.5 for name in ("lsimages", "findimages")},
}


def on_tmpfs(results, place, row):
    if place["kind"] == "tmpfs":
        for factor, other, *stretch in FIO_LINES.get(row.name, ()):
            yield times(results, place, row, factor, other, row.title, bool(stretch))


def on_disk(results, place, row):
    if place["kind"] == "disk" and isinstance(row, fio.Row) and row.direct:
        yield times(results, place, row, 0.75 if row.depth == 1 else 0.95, "plain", row.title)


def cipher(results, place, row):
    """What the cipher costs, against the build that copies instead."""
    if not isinstance(row, fio.Row):
        return
    yield times(results, place, row, 0.8, "ours-nocipher", row.title)
    mine, theirs = (results.median(place["path"], row.name, who, "cpu_s_per_gib")
                    for who in (OURS, "ours-nocipher"))
    ratio = mine / theirs if mine and theirs else None
    yield Finding(f"{place['kind']}: {row.title}", "<= 1.35 x ours-nocipher's CPU per GiB",
                  f"{ratio:.2f}" if ratio else "-", ratio <= 1.35 if ratio else None)


def whole_jobs(results, place, row):
    if row.name in JOB_LINES:
        yield times(results, place, row, JOB_LINES[row.name], "passthrough_ll", row.title)


def many(results, place, row):
    if row.name == "images1000":
        value = results.median(place["path"], row.name, OURS)
        plain = results.median(place["path"], row.name, "plain")
        beside = f" (plain: {plain:.3f})" if plain else ""
        text = "-" if value is None else f"{value:.3f}{beside}"
        yield Finding(f"{place['kind']}: {row.title}", ">= 0.95 of 1 image", text,
                      None if value is None else value >= 0.95)
        limit = 64 * 1024 + 24 * scale.IMAGES
        yield at_most(results, place, row, "rss_kib", limit, "RSS of the server with them",
                      f"<= {limit:,} KiB", "{:,.0f}")
    if row.name == "firstbyte":
        yield at_most(results, place, row, "value", 12, row.title, "<= 12 ms", "{:.1f}")
    if row.name == "open100":
        yield at_most(results, place, row, "value", 0.6, row.title, "<= 0.6 s")


def findings(results, places, rows):
    return [finding for rule in (on_tmpfs, cipher, on_disk, whole_jobs, many)
            for place in places for row in rows for finding in rule(results, place, row)]


def print_all(found):
    print("\n**What must be shown** (passthrough_ll: the better of its two cache modes)\n")
    print("| row | wanted | measured | |\n|---|---|---:|---|")
    for f in found:
        print(f"| {f.line} | {f.wanted} | {f.measured} | {f.word()} |")
    hard = [f for f in found if not f.stretch]
    print(f"\n{sum(f.met is True for f in hard)} met, {sum(f.met is False for f in hard)} not met, "
          f"{sum(f.met is None for f in hard)} not measured")
