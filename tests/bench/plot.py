"""Draw horizontal bars as SVG. Knows nothing of what they mean."""

from html import escape

WIDTH, LEFT, RIGHT = 760, 190, 90
BAR, GAP = 18, 6
OURS, OTHERS, INK, FAINT = "#1f6f5c", "#b8c4cc", "#22303a", "#6b7a85"


def bars(title: str, note: str, groups: list[tuple[str, list[tuple[str, float]]]]) -> str:
    """Return one chart: under each group's title its bars, scaled to the group's longest."""
    parts = [text(20, 34, title, size=18, weight="600")]
    y = 52
    for line in wrapped(note, 110):
        parts.append(text(20, y, line, size=11, fill=FAINT))
        y += 15
    for heading, rows in groups:
        y += 22
        parts.append(text(20, y, heading, size=13, weight="600"))
        y += 10
        longest = max((value for _, value in rows), default=0) or 1
        for name, value in rows:
            length = (WIDTH - LEFT - RIGHT) * value / longest
            fill = OURS if name.startswith("gateway") else OTHERS
            parts.append(text(LEFT - 10, y + 13, name, anchor="end"))
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" '
                f'fill="{fill}"/>'
            )
            parts.append(text(LEFT + length + 8, y + 13, f"{value:,.0f}", fill=FAINT))
            y += BAR + GAP
    height = y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(
    x: float, y: float, words: str, *, size: int = 12, fill: str = INK, weight: str = "400",
    anchor: str = "start",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def wrapped(words: str, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
