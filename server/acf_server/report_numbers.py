"""How numbers are written in the report.

A minus is a minus sign, not a hyphen; what the data do not determine says so; a count
from 1 to below the minimum cell is never written out.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from acfnet_core.evaluation.verdict import METRIC_NAMES, Interval, Metric
from acfnet_core.withholding import withhold

UNDETERMINED = "not determined"
UNKNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def whole(number: int) -> str:
    """Write a whole number, its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def count(number: int | None, minimum_cell: int) -> str:
    """Write a count of patients, or that it is below the minimum cell.

    None is a count that was withheld before it came here.
    """
    shown = None if number is None else withhold(number, minimum=minimum_cell)
    return f"<{minimum_cell}" if shown is None else whole(shown)


def told(number: int | None) -> str:
    """Write a count that a site told, or that it is withheld."""
    return "withheld" if number is None else whole(number)


def metric_title(metric: Metric) -> str:
    """Write a metric's name as a heading.

    >>> metric_title("integrated_brier")
    'Integrated Brier score'
    """
    name = METRIC_NAMES[metric].removeprefix("the ")
    return name[:1].upper() + name[1:]


def decimal(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write a decimal number with a fixed number of digits."""
    if value is None:
        return UNKNOWN
    rounded = round(value, digits) + 0.0  # adding 0 turns -0.0 into 0.0
    text = f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"
    return text.replace("-", MINUS)


def limits(interval: Interval | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write the lower and the upper limit of an interval."""
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return "no interval"
    low = decimal(interval.low, digits, signed=signed)
    return f"{low} to {decimal(interval.high, digits, signed=signed)}"


def estimate_and_range(
    interval: Interval | None, digits: int = 3, *, signed: bool = False
) -> str:
    """Write an estimate with its interval on one line.

    >>> estimate_and_range(Interval(estimate=0.6, low=0.5, high=0.7), 2)
    '0.60 (0.50 to 0.70)'
    """
    if interval is None:
        return UNDETERMINED
    estimate = decimal(interval.estimate, digits, signed=signed)
    return f"{estimate} ({limits(interval, digits, signed=signed)})"


def size(num_bytes: int) -> str:
    """Write a size in the largest unit that leaves at least 1.

    >>> size(1_500_000)
    '1.5 MB'
    """
    value, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def probability(p_value: float | None) -> str:
    """Write a p-value: three digits, or that it is below them."""
    if p_value is None:
        return UNDETERMINED
    return "p\u00a0<\u00a00.001" if p_value < 0.001 else f"p\u00a0=\u00a0{p_value:.3f}"


def duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours.

    >>> duration(95)
    '1 min 35 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(time: datetime | None) -> str:
    """Write a moment in UTC, to the minute."""
    if time is None:
        return UNKNOWN
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def settings(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Write nested settings as rows of a dotted name and a value, in their order."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}.{inner}", text) for inner, text in settings(value)]
        else:
            rows.append((name, _setting(value)))
    return rows


def _setting(value: object) -> str:
    """Write one setting."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(_setting(item) for item in value)
    return str(value)
