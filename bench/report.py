#!/usr/bin/env python3
"""Turns rows of `rpo-bench --json` and bench/peers/run.py into Markdown and bar plots.

    bench/report.py ROWS.jsonl [PEERS.jsonl ...] [--markdown FILE] [--svg FILE] [--title TEXT]

Rows of all files are taken to come from one run on one device: only then does a ratio mean anything, and a file whose
device differs is refused. Without --markdown the tables go to stdout. The plot adapts to light and dark pages.
"""

import argparse
import html
import json
import sys
import textwrap

NAME_WIDTH, BAR_WIDTH, VALUE_WIDTH, LINE, GAP, MARGIN = 190, 420, 170, 20, 34, 16
NOTE_LETTERS = 90  # that fit the width


def key_of(row):
    shape = {name: value for name, value in row["shape"].items() if value}
    if shape.get("valid_percent") == 100:  # the same work, named or not
        del shape["valid_percent"]
    return row["op"], row["dtype"], tuple(sorted(shape.items()))


def read_rows(paths):
    rows = []
    for path in paths:
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as problem:
                    sys.exit(f"report: {path}:{number}: no JSON: {problem.msg}")
    return rows


def group(rows):
    """{key: {"ours": row or None, "peers": [rows]}} in the order of the rows; and what failed."""
    groups, failed = {}, []
    for row in rows:
        if "median_seconds" not in row:
            failed.append(row)
            continue
        entry = groups.setdefault(key_of(row), {"ours": None, "peers": []})
        if row["backend"].startswith("peer:"):
            entry["peers"].append(row)
        elif entry["ours"] is None:
            entry["ours"] = row
        else:
            sys.exit(f"report: {row['op']} {row['dtype']} {row['shape']} is there twice; give the rows of one run")
    return groups, failed


def check_devices(rows):
    """One backend of ours; peers on the CPU beside a GPU's rows, or the reverse, are another machine's."""
    ours = {row["device"] for row in rows if "median_seconds" in row and not row["backend"].startswith("peer:")}
    peers = {row["device"] for row in rows if "median_seconds" in row and row["backend"].startswith("peer:")}
    if len(ours) > 1 or len(peers) > 1:
        sys.exit(f"report: rows of several devices: {sorted(ours | peers)}")
    if ours and peers and next(iter(ours)).startswith("CPU") != next(iter(peers)).startswith("CPU"):
        sys.exit(f"report: rows of several devices: {sorted(ours | peers)}")
    return next(iter(ours or peers), "unknown device")


def shape_text(key):
    return ", ".join(f"{name} {value}" for name, value in key[2])


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def number(value, form):
    return "-" if value is None else format(value, form)


def our_table(groups):
    yield "| op | dtype | shape | median ms | fastest - slowest | limit | share of it | error | correct | workspace MB |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for key, entry in groups.items():
        row = entry["ours"]
        if row is None:
            continue
        rate = row["limit_flops_per_second"] if row["limit"] == "matmul" else row["limit_bytes_per_second"]
        limit = f"matmul {rate * 1e-12:.2f} TFLOP/s" if row["limit"] == "matmul" else f"copy {rate * 1e-9:.0f} GB/s"
        yield (f"| {key[0]} | {key[1]} | {shape_text(key)} | {milliseconds(row['median_seconds'])} "
               f"| {milliseconds(row['min_seconds'])} - {milliseconds(row['max_seconds'])} | {limit} "
               f"| {100 * row['limit_share']:.1f}% | {number(row['error'], '.1e')} | {'yes' if row['correct'] else 'NO'} "
               f"| {row['workspace_bytes'] * 1e-6:.1f} |")


def peer_table(groups):
    yield "| op | dtype | shape | peer | peer ms | rpo ms | rpo is faster by | peer's error | peer's extra MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for key, entry in groups.items():
        for peer in entry["peers"]:
            ours = entry["ours"]
            ratio = f"{peer['median_seconds'] / ours['median_seconds']:.2f}x" if ours else "-"
            yield (f"| {key[0]} | {key[1]} | {shape_text(key)} | {peer['backend'][5:]} "
                   f"| {milliseconds(peer['median_seconds'])} "
                   f"| {milliseconds(ours['median_seconds']) if ours else '-'} | {ratio} "
                   f"| {number(peer.get('error'), '.1e')} | {peer.get('extra_resident_bytes', 0) * 1e-6:.1f} |")


def markdown(title, device, groups, failed):
    lines = [f"# {title}", "", device, "", *our_table(groups)]
    if any(entry["peers"] for entry in groups.values()):
        lines += ["", "Peers, in the same run:", "", *peer_table(groups)]
    if failed:
        lines += ["", "Not measured:", ""]
        lines += [f"- {row.get('backend', '?')} {row.get('op', '')} {row.get('dtype', '')}: {row.get('failed', '?')}".replace("  ", " ")
                  for row in failed]
    return "\n".join(lines) + "\n"


STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .note { fill: #59636e; font-weight: 400 } .ours { fill: #1a7f5a } .peer { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #9198a1 } .ours { fill: #3fb98a } .peer { fill: #656d76 }
  }
"""


def heading(key, top):
    """Op, dtype and shape, the latter on lines of its own where it is long. Returns (elements, next top)."""
    name, shape = f"{key[0]}, {key[1]}", shape_text(key)
    title = f'<text class="title" x="{MARGIN}" y="{top + 14}">{html.escape(name)}'
    if len(name) + len(shape) <= NOTE_LETTERS:
        return [f'{title}<tspan class="note" dx="8">{html.escape(shape)}</tspan></text>'], top + LINE
    elements = [f"{title}</text>"]
    for line in textwrap.wrap(shape, NOTE_LETTERS):
        top += LINE
        elements.append(f'<text class="note" x="{MARGIN}" y="{top + 14}">{html.escape(line)}</text>')
    return elements, top + LINE


def bars(key, entry, top):
    """One group: its heading and a bar for each side, the slowest the full width; ours alone stands against its limit.
    Returns (elements, next top)."""
    sides = ([("rpo", entry["ours"], "ours")] if entry["ours"] else [])
    sides += [(row["backend"][5:], row, "peer") for row in entry["peers"]]
    longest = max(row["median_seconds"] for _, row, _ in sides)
    if not entry["peers"]:
        longest /= max(entry["ours"]["limit_share"], 1e-6)
    elements, y = heading(key, top)
    for name, row, look in sides:
        width = max(1.0, min(BAR_WIDTH, BAR_WIDTH * row["median_seconds"] / longest))
        note = f"{milliseconds(row['median_seconds'])} ms"
        if look == "ours":
            note += f", {100 * row['limit_share']:.0f}% of {row['limit']}"
        elements.append(f'<text x="{MARGIN + NAME_WIDTH - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>')
        elements.append(f'<rect class="{look}" x="{MARGIN + NAME_WIDTH}" y="{y + 3}" width="{width:.1f}" height="14" rx="2"/>')
        elements.append(f'<text class="note" x="{MARGIN + NAME_WIDTH + width + 8:.1f}" y="{y + 14}">{note}</text>')
        y += LINE
    return elements, y + GAP - LINE


def svg(title, device, groups):
    elements, top = [], MARGIN
    elements.append(f'<text class="title" x="{MARGIN}" y="{top + 14}">{html.escape(title)}</text>')
    for line in textwrap.wrap(f"{device}; median time, shorter is better; a bar alone: its share of the limit", NOTE_LETTERS):
        top += LINE
        elements.append(f'<text class="note" x="{MARGIN}" y="{top + 14}">{html.escape(line)}</text>')
    top += GAP
    for key, entry in groups.items():
        added, top = bars(key, entry, top)
        elements += added
    width = 2 * MARGIN + NAME_WIDTH + BAR_WIDTH + VALUE_WIDTH
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}" role="img">\n'
            f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n" + "\n".join(elements) + "\n</svg>\n")


def write(path, text):
    if path is None:
        sys.stdout.write(text)
        return
    with open(path, "w") as file:
        file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--markdown")
    parser.add_argument("--svg")
    parser.add_argument("--title", default="rpo-bench")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    device = check_devices(rows)
    groups, failed = group(rows)
    if not groups:
        sys.exit("report: no row with a figure in these files")
    write(arguments.markdown, markdown(arguments.title, device, groups, failed))
    if arguments.svg:
        write(arguments.svg, svg(arguments.title, device, groups))


if __name__ == "__main__":
    main()
