"""What the person at the keyboard sees: progress on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from solvar.progress import Progress, Step
from solvar.text import visible

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY_SECONDS = 15.0


def output() -> Console:
    """Where results are printed; colours are left out when NO_COLOR is set or nobody watches."""
    from rich.console import Console

    # A pipe has no width; 100 columns keep tables whole in a log file.
    width = None if sys.stdout.isatty() else 100
    return Console(highlight=False, emoji=False, width=width)


def shown(text: object) -> str:
    """`text` for rich to print as it is: no markup in it is obeyed, and every character shows."""
    from rich.markup import escape

    return escape(visible(str(text)))


def print_commands(console: Console, commands: Iterable[tuple[str, str]]) -> None:
    """Print lines of a shell, each with what it is for as a comment behind it.

    Parameters
    ----------
    console : Console
    commands : iterable of (str, str)
        A line of `solvar.commands.command_line`, and its purpose.
    """
    from rich.text import Text

    for line, purpose in commands:
        # not markup, and never wrapped: a shell is to read exactly this
        text = Text.assemble("  ", line, ("  # " + visible(purpose), "dim"))
        console.print(text, soft_wrap=True)


def print_json(content: Any) -> None:
    """Print `content` as strict JSON, and nothing else, on stdout.

    In ASCII: escapes that a stream puts in place of what its encoding lacks are not those of JSON.
    """
    from solvar.files import strict_json

    print(strict_json(content, ascii_only=True))


def make_progress() -> Progress:
    """Bars on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return RichProgress()
    return PlainProgress()


class RichProgress:
    """One bar a step with rate and time left; a finished step leaves one line."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, emoji=False)
        self._bars: Any = None
        self._depth = 0

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[Step]:
        """Show a bar until the context ends; steps may be nested."""
        if self._depth == 0:
            self._bars = _bars(self.console)
            self._bars.start()
        self._depth += 1
        bar = _Bar(self._bars, self._bars.add_task(name, total=total, unit=unit, note=""))
        started = time.perf_counter()
        try:
            yield bar
            line = _finished(name, bar.done, unit, time.perf_counter() - started)
            self._bars.console.print(f"[green]✓[/green] {shown(line)}")
        finally:
            self._bars.remove_task(bar.task)
            self._depth -= 1
            if self._depth == 0:
                self._bars.stop()

    def message(self, text: str) -> None:
        """Print `text` above the bars."""
        console = self._bars.console if self._depth else self.console
        console.print(f"[cyan]·[/cyan] {shown(text)}")


class _Bar:
    def __init__(self, bars: Any, task: Any) -> None:
        self.bars, self.task, self.done = bars, task, 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        self.bars.advance(self.task, amount)

    def note(self, text: str) -> None:
        self.bars.update(self.task, note=text)


def _bars(console: Console) -> Any:
    from rich import progress as rich_progress

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: Any) -> Any:
            return rich_progress.Text(_rate(task.speed, task.fields["unit"]), style="cyan")

    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<22}", markup=False),
        rich_progress.BarColumn(bar_width=28),
        rich_progress.TaskProgressColumn(),
        Rate(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        transient=True,
        refresh_per_second=8,
    )


class PlainProgress:
    """Lines for a log file: a line when a step ends, and now and then while it lasts."""

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[Step]:
        """Announce long steps by lines."""
        step = _Lines(name, total, unit)
        yield step
        _say(_finished(name, step.done, unit, time.perf_counter() - step.started))

    def message(self, text: str) -> None:
        """Print `text` on its own line."""
        _say(text)


class _Lines:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.remark = 0, ""
        self.started = self.told = time.perf_counter()

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        now = time.perf_counter()
        if now - self.told >= _LINE_EVERY_SECONDS and 0 < self.done < self.total:
            self.told = now
            rate = self.done / (now - self.started)
            left = duration((self.total - self.done) / rate)
            share = 100 * self.done / self.total
            remark = f" ({self.remark})" if self.remark else ""
            _say(f"{self.name}: {share:.0f} %, {_rate(rate, self.unit)}, {left} left{remark}")

    def note(self, text: str) -> None:
        self.remark = text


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def _finished(name: str, done: int, unit: str, seconds: float) -> str:
    count = f"{done:,} {unit} in " if done else ""
    return f"{name}: {count}{duration(seconds)}"


def _rate(per_second: float | None, unit: str) -> str:
    if not per_second:
        return ""
    if per_second < 1:
        return f"{duration(1 / per_second)} each"
    return f"{per_second:,.0f} {unit}/s"


def duration(seconds: float) -> str:
    """Seconds in words that fit the size: 0.12 s, 3.4 s, 2 min 05 s, 1 h 12 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
