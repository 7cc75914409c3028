"""The closed loop of collecting and training: does collecting by PM beat collecting at random?

python -m benchmarks.closed_loop.run closed-loop
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.closed_loop.figure import experiment_figure
from premem_core.commands.options import JsonOption, print_json, say, write_text
from premem_core.errors import PrememError

EXPLAINED = (
    "Each round fine-tunes the base model anew on the first problems and on all that were "
    "collected; a strategy chooses seeds among the first problems, and variants of them are "
    "collected. Bars: 90 % intervals over seeds, by Student's t."
)
RATIO_EXPLAINED = (
    "ratio: how many times as many new problems i.i.d. collection needs for the highest test "
    "accuracy that both reach. above_iid: test accuracy minus that of i.i.d. collection at the "
    "same size, mean over rounds, and half of its 90 % interval over seeds."
)


def experiment(
    out: Annotated[Path, typer.Argument(help="A folder for all of it; a second call goes on.")],
    seeds: Annotated[int, typer.Option(help="So many times, with other first problems.")] = 3,
    rounds: Annotated[int, typer.Option(help="Of collecting and training anew.")] = 3,
    first: Annotated[int, typer.Option(help="Problems at first.")] = 400,
    new: Annotated[int, typer.Option(help="Problems that a round collects.")] = 150,
    test: Annotated[int, typer.Option(help="Problems to measure test accuracy on.")] = 500,
    as_json: JsonOption = False,
) -> None:
    """Collect by four strategies on the demo task, at equal sizes, and compare test accuracy.

    OUT gets experiment.html, outcome.csv, and the runs. An hour and a half on two cores.

    Example: python -m benchmarks.closed_loop.run closed-loop
    """
    from benchmarks.closed_loop import loop
    from premem_core.curation import strategies
    from premem_core.dashboard import figures
    from premem_core.dashboard.figures import html_report

    outcome = loop.run(out, loop.Setting(seeds, rounds, first, new, test), say)
    summary, efficiency = loop.summary(outcome), loop.efficiency(outcome)
    labels = {name: strategies.get_strategy(name).label for name in loop.STRATEGIES}
    drawn = experiment_figure(summary, labels, figures.LIGHT)
    named = [table.replace({"strategy": labels}) for table in (efficiency, summary)]
    parts = [
        f"<p>{EXPLAINED}</p>",
        html_report.chart(drawn, first=True),
        "<h2>Against i.i.d. collection</h2>",
        f"<p>{RATIO_EXPLAINED}</p>",
        html_report.table(named[0]),
        "<h2>Test accuracy by data size</h2>",
        html_report.table(named[1]),
    ]
    write_text(out / "experiment.html", html_report.document("Premem: the closed loop", parts))
    write_text(out / "outcome.csv", outcome.to_csv(index=False))
    if as_json:
        tables = {"outcome": outcome, "summary": summary, "efficiency": efficiency}
        print_json({name: table.to_dict("records") for name, table in tables.items()})
        return
    for table in named:
        typer.echo(table.to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    try:
        typer.run(experiment)
    except PrememError as error:
        say(f"error: {error}")
        sys.exit(1)
