# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and the chart of what was measured."""
import html
import statistics

COLOURS = ("#9aa0a6", "#5f6368", "#80868b", "#8ab4f8", "#1a73e8", "#174ea6", "#4285f4",
           "#e8710a", "#f9ab00", "#a142f4", "#d93025", "#12a4af", "#188038")


def figures(runs, key="value"):
    """median, lower and upper quartile, least and most of one key over the rounds"""
    got = sorted(run[key] for run in runs if run.get(key) is not None)
    if not got:
        return None
    if len(got) < 2:
        low = high = got[0]
    else:
        low, _, high = statistics.quantiles(got, n=4, method="inclusive")
    return {"median": statistics.median(got), "q1": low, "q3": high, "min": got[0],
            "max": got[-1], "rounds": len(got)}


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Results:
    """runs[place path][row name][contestant name] = list of one dict a round"""

    def __init__(self):
        self.runs, self.failed = {}, {}

    def add(self, place, row, who, run):
        self.runs.setdefault(place, {}).setdefault(row, {}).setdefault(who, []).append(run)

    def fail(self, place, row, who, why):
        self.failed.setdefault(place, {}).setdefault(row, {})[who] = why

    def of(self, place, row, who, key="value"):
        return figures(self.runs.get(place, {}).get(row, {}).get(who, []), key)

    def median(self, place, row, who, key="value"):
        found = self.of(place, row, who, key)
        return found["median"] if found else None

    def buffered(self, place, row, who):
        return any(run.get("direct") is False
                   for run in self.runs.get(place, {}).get(row, {}).get(who, []))

    def names(self, place):
        return list(dict.fromkeys(who for row in self.runs.get(place, {}).values() for who in row))


def buffered_mark(results, place, row, who):
    return " b" if getattr(row, "direct", False) and results.buffered(place, row.name, who) else ""


def cell(results, place, row, who, base):
    f = results.of(place, row.name, who)
    if not f:
        return "fails" if who in results.failed.get(place, {}).get(row.name, {}) else "-"
    half = 50 * (f["q3"] - f["q1"]) / f["median"] if f["median"] else 0
    text = number(f["median"]) + f" ±{half:.0f}%"
    text += buffered_mark(results, place, row, who)
    against = results.median(place, row.name, base)
    if against and who != base:
        text += f" ({f['median'] / against:.2f})"
    return text


def cpu_cell(results, place, row, who):
    """For each GiB; for a whole job, which moves what it likes, as it is."""
    value = results.median(place, row.name, who, "cpu_s_per_gib" if row.unit != "s" else "cpu_s")
    return "-" if value is None else f"{value:.2f}"


def table(title, names, lines):
    print(f"\n{title}\n")
    print("| | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for head, cells in lines:
        print(f"| {head} | " + " | ".join(cells) + " |")


def print_place(results, place, rows, base):
    path = place["path"]
    names = results.names(path)
    here = [row for row in rows if row.name in results.runs.get(path, {})]
    if not here:
        return
    base = base if base in names else names[0]
    table(f"**{place['kind']}** ({path}: {place['filesystem']}): median, half of the quartiles'"
          f" distance, ratio to {base}; b: buffered, because O_DIRECT does not work there",
          names, [(f"{row.title}, {row.unit}", [cell(results, path, row, who, base)
                                                for who in names]) for row in here])
    costs = [row for row in here if any(cpu_cell(results, path, row, who) != "-" for who in names)]
    if costs:
        table(f"**{place['kind']}**: CPU seconds (fio or the program, and the servers; in the"
              " kernel too), for each GiB in fio's rows", names,
              [(row.title, [cpu_cell(results, path, row, who) for who in names]) for row in costs])
    for row, who_why in results.failed.get(path, {}).items():
        for who, why in who_why.items():
            print(f"\n{who}: {row} fails: {why}")


def print_header(facts, options):
    print(f"commit {facts['commit']}; Linux {facts['kernel']}; {facts['cpus']} x {facts['cpu']}; "
          f"{facts['memory_mib']} MiB of memory; {facts['fio']}, engine {options['engine']}; files "
          f"of {options['size_mib']} MiB, {options['rounds']} rounds of {options['seconds']} s")
    print("; ".join(f"{name} {version}" for name, version in facts["packages"].items()))
    for name, note in options["contestants"].items():
        print(f"- {name}" + (f": {note}" if note else ""))
    for name, why in options["skipped"].items():
        print(f"- skipped: {name}: {why}")


def summary(results, places, rows):
    """The JSON form: figures and every round."""
    found = []
    for place in places:
        for row in rows:
            for who, runs in results.runs.get(place["path"], {}).get(row.name, {}).items():
                found.append({"place": place["kind"], "path": place["path"], "row": row.name,
                              "title": row.title, "unit": row.unit, "contestant": who,
                              **figures(runs),
                              "cpu_s_per_gib": results.median(place["path"], row.name, who,
                                                              "cpu_s_per_gib"),
                              "runs": runs})
    return found


def chart(results, places, rows, file):
    """One group of bars a row; each row has its own scale, its longest bar is full."""
    names = list(dict.fromkeys(n for p in places for n in results.names(p["path"])))
    groups = [(p, row) for p in places for row in rows
              if row.name in results.runs.get(p["path"], {})]
    bar, gap, left, wide = 13, 30, 150, 600
    height = sum(gap + bar * len(results.runs[p["path"]][row.name]) for p, row in groups) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 120}" height="{height}" '
           'font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="#fff"/>']
    y = 6
    for place, row in groups:
        got = {who: results.of(place["path"], row.name, who) for who in names}
        got = {who: f for who, f in got.items() if f}
        most = max(f["max"] for f in got.values()) or 1
        out.append(f'<text x="6" y="{y + 14}" font-weight="bold">'
                   f'{html.escape(place["kind"] + ": " + row.title + ", " + row.unit)}'
                   f'{" (less is better)" if row.less_is_better else ""}</text>')
        y += 20
        for who, f in got.items():
            x = {key: left + wide * f[key] / most for key in ("median", "q1", "q3")}
            middle = y + bar / 2 - 1
            out.append(
                f'<text x="{left - 6}" y="{y + 9}" text-anchor="end">{html.escape(who)}</text>'
                f'<rect x="{left}" y="{y}" width="{x["median"] - left:.1f}" height="{bar - 3}" '
                f'fill="{COLOURS[names.index(who) % len(COLOURS)]}"/>'
                f'<path d="M{x["q1"]:.1f} {middle}H{x["q3"]:.1f}" stroke="#000"/>'
                f'<text x="{max(x["q3"], x["median"]) + 4:.1f}" y="{y + 9}">'
                f'{number(f["median"])}{buffered_mark(results, place["path"], row, who)}</text>')
            y += bar
        y += gap - 20
    out.append("</svg>")
    with open(file, "w") as f:
        f.write("\n".join(out) + "\n")
